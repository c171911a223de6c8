"""What a run has spent until each moment: energy, CO2e and money since its start. Pure.

At the end of the run these are the numbers of its row of the table: CO2e hour by hour where the
intensity is a series, else by the one factor; money by energy, by time, or by both.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from carbontrack.account.result import Estimate
from carbontrack.ledger.rows import Run, Series, Usage
from carbontrack.units import J_PER_KWH, KG_PER_T, MS_PER_HOUR, MS_PER_S


@dataclass(frozen=True, slots=True)
class Hours:
    """What is known of each hour of a run, by its start in ms and in order."""

    energy_kwh: Mapping[int, float]  # of all devices
    kg_per_kwh: Mapping[int, float]  # as the estimate took it; empty if it took none

    @classmethod
    def of(cls, run: Run, estimate: Estimate, hours: Sequence[Usage]) -> Hours:
        energy_kwh = _energies(hours)
        return cls(energy_kwh, _intensities(run, estimate, energy_kwh))


@dataclass(frozen=True, slots=True)
class Spent:
    """Columns as long as `time_ms`; None where nothing is known of that time, or at all."""

    time_ms: list[int]
    facility_kwh: list[float | None]
    tco2e: list[float | None]
    cost: list[float | None]

    @property  # not asdict, which copies every value
    def columns(self) -> dict[str, list[Any]]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def energy_by_time(series: Series) -> dict[int, float]:
    """Energy in J of all devices in each window, by its start; only where any is known."""
    found: dict[int, float] = {}
    columns = series.columns
    for start_ms, energy_j in zip(columns["start_ms"], columns["energy_j"], strict=True):
        if energy_j is not None:
            found[start_ms] = found.get(start_ms, 0.0) + energy_j
    return found


def before_ms(run: Run, series: Series) -> tuple[int, int] | None:
    """(from, to): the part of an hour before the series of which the hours alone tell nothing."""
    first_ms = min(series.columns["start_ms"], default=None)
    if first_ms is None:
        return None
    hour_ms = max(first_ms // MS_PER_HOUR * MS_PER_HOUR, run.started_ms)
    return (hour_ms, first_ms) if hour_ms < first_ms else None


def spent(
    run: Run,
    estimate: Estimate,
    hours: Hours,
    series: Series,
    earlier: Series | None,
) -> Spent:
    """At the end of each window of `series`. `hours` are all of the run; `earlier` are windows of
    the part that `before_ms` names, and may reach into the series.
    """
    by_hour, intensity = hours.energy_kwh, hours.kg_per_kwh
    level_ms = series.level_s * MS_PER_S
    energies = energy_by_time(series)
    starts = sorted(energies)
    times = list(range(starts[0], starts[-1] + 1, level_ms)) if starts else []
    # Before the PUE and what is modelled of the node, which the total tells.
    kwh = weighted = 0.0
    if starts:
        hour_ms = starts[0] // MS_PER_HOUR * MS_PER_HOUR
        for at_ms, energy_kwh in by_hour.items():
            if at_ms < hour_ms:
                kwh += energy_kwh
                weighted += energy_kwh * intensity.get(at_ms, 0.0)
        part = _part_of_hour(by_hour.get(hour_ms, 0.0), run, hour_ms, starts[0], earlier)
        kwh += part
        weighted += part * intensity.get(hour_ms, 0.0)
    factor = _facility_factor(estimate)
    columns: dict[str, list[float | None]] = {"facility_kwh": [], "tco2e": [], "cost": []}
    for start_ms in times:
        energy_j = energies.get(start_ms)
        if energy_j is None:
            for column in columns.values():
                column.append(None)
            continue
        used = energy_j / J_PER_KWH
        kwh += used
        weighted += used * _mean_intensity(intensity, by_hour, start_ms, start_ms + level_ms)
        columns["facility_kwh"].append(kwh * factor)
        columns["tco2e"].append(weighted * factor / KG_PER_T if intensity else None)
        columns["cost"].append(_cost(run, estimate, kwh * factor, start_ms + level_ms))
    end_ms = max(run.ended_ms or run.heartbeat_ms or 0, times[-1]) if times else 0
    return Spent(time_ms=[min(start_ms + level_ms, end_ms) for start_ms in times], **columns)


def at(known: Spent, times_ms: Sequence[int], start_ms: int) -> dict[str, list[float | None]]:
    """`facility_kwh`, `tco2e` and `cost` at any times: straight lines from the run's start on."""
    return {
        "facility_kwh": _along(known.time_ms, known.facility_kwh, times_ms, start_ms),
        "tco2e": _along(known.time_ms, known.tco2e, times_ms, start_ms),
        "cost": _along(known.time_ms, known.cost, times_ms, start_ms),
    }


def _along(
    ends_ms: Sequence[int],
    values: Sequence[float | None],
    times_ms: Sequence[int],
    start_ms: int,
) -> list[float | None]:
    points = [(t, v) for t, v in zip(ends_ms, values, strict=True) if v is not None]
    if not points:
        return [None] * len(times_ms)
    xs = [start_ms, *(t for t, _ in points)]
    ys = [0.0, *(v for _, v in points)]
    found: list[float | None] = []
    for time_ms in times_ms:
        after = bisect.bisect_right(xs, time_ms)
        if after == len(xs):
            found.append(ys[-1])
        elif after == 0 or xs[after] == xs[after - 1]:
            found.append(ys[max(0, after - 1)])
        else:
            share = (time_ms - xs[after - 1]) / (xs[after] - xs[after - 1])
            found.append(ys[after - 1] + (ys[after] - ys[after - 1]) * share)
    return found


def _energies(hours: Sequence[Usage]) -> dict[int, float]:
    """Energy in kWh of all devices in each hour, in order."""
    found: dict[int, float] = {}
    for usage in sorted(hours, key=lambda usage: usage.start_ms):
        if usage.energy_j is not None:
            spent = found.get(usage.start_ms, 0.0)
            found[usage.start_ms] = spent + usage.energy_j / J_PER_KWH
    return found


def _intensities(run: Run, estimate: Estimate, by_hour: Mapping[int, float]) -> dict[int, float]:
    """kgCO2e/kWh of each hour, as the estimate took them: the series if it has them all."""
    factors = estimate.factors
    if factors is None:
        return {}
    if factors.series is not None:
        end_ms = run.started_ms + round((estimate.duration_s or 0.0) * MS_PER_S)
        means = {}
        for hour_ms in by_hour:
            from_ms = max(hour_ms, run.started_ms)
            to_ms = max(from_ms + 1, min(hour_ms + MS_PER_HOUR, end_ms))
            means[hour_ms] = factors.series.mean(from_ms, to_ms)
        known = {hour_ms: mean for hour_ms, mean in means.items() if mean is not None}
        if len(known) == len(means):
            return known
    return dict.fromkeys(by_hour, factors.intensity.value)


def _mean_intensity(
    intensity: Mapping[int, float], by_hour: Mapping[int, float], from_ms: int, to_ms: int
) -> float:
    """Of the energy between two times, which may touch several hours."""
    first_ms = from_ms // MS_PER_HOUR * MS_PER_HOUR
    if to_ms <= first_ms + MS_PER_HOUR:
        return intensity.get(first_ms, 0.0)
    weights = {
        hour_ms: by_hour.get(hour_ms, 0.0)
        * (min(to_ms, hour_ms + MS_PER_HOUR) - max(from_ms, hour_ms))
        for hour_ms in range(first_ms, to_ms, MS_PER_HOUR)
    }
    total = sum(weights.values())
    if total <= 0:
        return 0.0
    return sum(weight * intensity.get(at_ms, 0.0) for at_ms, weight in weights.items()) / total


def _part_of_hour(
    hour_kwh: float, run: Run, hour_ms: int, until_ms: int, earlier: Series | None
) -> float:
    """Energy in kWh from the hour's start; without finer windows, its share of the hour."""
    finer = energy_by_time(earlier) if earlier is not None else {}
    if earlier is not None and finer:
        level_ms = earlier.level_s * MS_PER_S
        joules = sum(
            energy_j * min(1.0, (until_ms - start_ms) / level_ms)
            for start_ms, energy_j in finer.items()
            if hour_ms <= start_ms < until_ms
        )
        return min(hour_kwh, joules / J_PER_KWH)
    begin_ms = max(hour_ms, run.started_ms)
    end_ms = min(hour_ms + MS_PER_HOUR, run.ended_ms or run.heartbeat_ms or until_ms)
    return hour_kwh * max(0.0, min(1.0, (until_ms - begin_ms) / max(1, end_ms - begin_ms)))


def _facility_factor(estimate: Estimate) -> float:
    """Facility energy ÷ energy of the devices: PUE, and what is modelled of the node."""
    if estimate.energy_kwh and estimate.facility_kwh:
        return estimate.facility_kwh / estimate.energy_kwh
    return estimate.pue or 1.0


def _cost(run: Run, estimate: Estimate, facility_kwh: float, time_ms: int) -> float | None:
    """Rent and written-off hardware grow with time, electricity grows with energy."""
    factors = estimate.factors
    if estimate.cost is None or factors is None or not estimate.duration_s:
        return None
    tariff = factors.tariff if factors.price_per_gpu_hour is None else None
    rate = 0.0 if tariff is None else tariff.value
    by_time = estimate.cost - rate * (estimate.facility_kwh or 0.0)
    elapsed = (time_ms - run.started_ms) / MS_PER_S / estimate.duration_s
    return rate * facility_kwh + by_time * max(0.0, min(1.0, elapsed))
