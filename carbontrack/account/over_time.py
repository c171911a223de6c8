"""A run's energy, carbon and money over time: at its end they are the cells of its row. Pure.

One curve for the table, explain, figures and pages: energy grows in the windows that know it,
carbon with the intensity of each hour, money with energy (electricity) or time (rent, hardware).
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from carbontrack.account.curve import EnergyCurve
from carbontrack.account.result import Estimate
from carbontrack.factors.series import within_run
from carbontrack.ledger.recorded_rows import Run
from carbontrack.ledger.rows import Series
from carbontrack.units import J_PER_KWH, KG_PER_T, MS_PER_HOUR, MS_PER_S


def facility_factor(estimate: Estimate) -> float:
    """Facility energy ÷ energy of the devices: PUE, and what is modelled of the node; 1 without
    factors.
    """
    if estimate.energy_kwh and estimate.facility_kwh:
        return estimate.facility_kwh / estimate.energy_kwh
    return estimate.pue or 1.0


def intensity_of_hour(estimate: Estimate, hour_ms: int) -> float | None:
    """kgCO2e/kWh of an hour as the estimate took it; None without factors."""
    factors = estimate.factors
    if factors is None:
        return None
    if factors.hourly is None:
        return factors.intensity.value
    return factors.hourly.kg_per_kwh.get(hour_ms, factors.intensity.value)


@dataclass(frozen=True, slots=True)
class Before:
    """What was spent before a curve begins: energy of the devices, and the carbon of it."""

    energy_kwh: float = 0.0
    device_kg: float = 0.0  # before PUE


@dataclass(frozen=True, slots=True)
class SpentCurve:
    """What a run has spent since its start, at `times_ms`; straight lines between them.

    The last time is the run's end; of a curve of a part, only what lies inside it means anything. A
    column is None where the estimate has no such number.
    """

    times_ms: tuple[int, ...]
    facility_kwh: tuple[float, ...] | None
    tco2e: tuple[float, ...] | None
    cost: tuple[float, ...] | None

    @classmethod
    def of(
        cls,
        run: Run,
        estimate: Estimate,
        by_hour: Mapping[int, float],
        energy: EnergyCurve,
        before: Before | None = None,
    ) -> SpentCurve:
        """`by_hour` is the `energy_by_hour` of the whole run; `energy` is of its windows, or of
        those since `before`.
        """
        before = before or Before()
        times = [*energy.times_ms, *([run.end_ms] if run.end_ms > energy.times_ms[-1] else [])]
        kwh = [before.energy_kwh + energy_j / J_PER_KWH for energy_j in energy.energies_j]
        kg = [before.device_kg]
        for (begin_ms, until_ms), (low, high) in zip(
            pairwise(energy.times_ms), pairwise(kwh), strict=True
        ):
            mean = 0.0
            if high > low:
                mean = _mean_intensity(run, estimate, by_hour, begin_ms, until_ms)
            kg.append(kg[-1] + (high - low) * mean)
        kwh += kwh[-1:] * (len(times) - len(kwh))
        kg += kg[-1:] * (len(times) - len(kg))
        factor = facility_factor(estimate)
        facility = tuple(one * factor for one in kwh)
        return cls(
            times_ms=tuple(times),
            facility_kwh=None if estimate.facility_kwh is None else facility,
            tco2e=None if estimate.tco2e is None else tuple(k * factor / KG_PER_T for k in kg),
            cost=_costs(run, estimate, times, facility),
        )

    @classmethod
    def of_part(
        cls,
        run: Run,
        estimate: Estimate,
        by_hour: Mapping[int, float],
        series: Series,
        earlier: Series | None,
    ) -> SpentCurve:
        """From the windows of a part of the run on; `earlier` are those of what `part_before`
        names, and may reach into the series.
        """
        begin_ms = max(run.started_ms, _first_ms(series) or 0)
        energy = EnergyCurve.of(series, from_ms=begin_ms, to_ms=max(begin_ms, run.end_ms))
        before = _before(run, estimate, by_hour, series, earlier)
        return cls.of(run, estimate, by_hour, energy, before)

    def at(self, times_ms: Sequence[float]) -> dict[str, list[float | None]]:
        """`facility_kwh`, `tco2e` and `cost` at any times."""
        places = [self._place(time_ms) for time_ms in times_ms]
        columns = {"facility_kwh": self.facility_kwh, "tco2e": self.tco2e, "cost": self.cost}
        return {
            name: [None] * len(places)
            if of is None
            else [of[i] + (of[j] - of[i]) * share for i, j, share in places]
            for name, of in columns.items()
        }

    def _place(self, time_ms: float) -> tuple[int, int, float]:
        """The points around a time, and how far it is from the first to the second."""
        after = bisect.bisect_right(self.times_ms, time_ms)
        if after in (0, len(self.times_ms)):
            at = max(0, after - 1)
            return at, at, 0.0
        begin_ms, end_ms = self.times_ms[after - 1], self.times_ms[after]
        return after - 1, after, (time_ms - begin_ms) / (end_ms - begin_ms)


def part_before(run: Run, series: Series) -> tuple[int, int] | None:
    """(from, to): the part of an hour before the series, which the hours alone do not split."""
    first_ms = _first_ms(series)
    if first_ms is None:
        return None
    begin_ms = max(first_ms // MS_PER_HOUR * MS_PER_HOUR, run.started_ms)
    return (begin_ms, first_ms) if begin_ms < first_ms else None


def _before(
    run: Run,
    estimate: Estimate,
    by_hour: Mapping[int, float],
    series: Series,
    earlier: Series | None,
) -> Before:
    """What the run spent before the first window of `series`; where `earlier` windows are no finer
    than hours, the part of an hour is its share of the hour's time.
    """
    first_ms = _first_ms(series)
    if first_ms is None:
        return Before()
    hour_ms = first_ms // MS_PER_HOUR * MS_PER_HOUR
    energies = {at_ms: kwh for at_ms, kwh in by_hour.items() if at_ms < hour_ms}
    part = part_before(run, series)
    if part is not None:
        of_hour = by_hour.get(hour_ms, 0.0)
        energies[hour_ms] = min(of_hour, _energy_of_part(run, of_hour, part, earlier))
    kg = sum(kwh * (intensity_of_hour(estimate, at) or 0.0) for at, kwh in energies.items())
    return Before(sum(energies.values()), kg)


def at_windows(run: Run, curve: SpentCurve, series: Series) -> dict[str, list[float | None]]:
    """The curve at the end of each window of `series`, with `time_ms`; None where no device's
    energy is known of the window.
    """
    times_ms, known = _window_ends(run, series)
    columns = curve.at(times_ms)
    for column in columns.values():
        column[:] = [one if has else None for one, has in zip(column, known, strict=True)]
    return {"time_ms": list(times_ms), **columns}


def _window_ends(run: Run, series: Series) -> tuple[list[int], list[bool]]:
    """The end in ms of each window from the first one with energy to the last, and whether any
    device's energy is known of it. None ends after the run.
    """
    level_ms = series.level_s * MS_PER_S
    columns = series.columns
    known = {
        start_ms
        for start_ms, energy_j in zip(columns["start_ms"], columns["energy_j"], strict=True)
        if energy_j is not None
    }
    if not known:
        return [], []
    starts = range(min(known), max(known) + 1, level_ms)
    end_ms = max(run.end_ms, starts[-1])
    return [min(at + level_ms, end_ms) for at in starts], [at in known for at in starts]


def _first_ms(series: Series) -> int | None:
    first_ms: int | None = min(series.columns["start_ms"], default=None)
    return first_ms


def _energy_of_part(
    run: Run, hour_kwh: float, part: tuple[int, int], earlier: Series | None
) -> float:
    begin_ms, until_ms = part
    if earlier is not None and earlier.level_s * MS_PER_S < MS_PER_HOUR:
        level_ms, columns = earlier.level_s * MS_PER_S, earlier.columns
        rows = zip(columns["start_ms"], columns["energy_j"], strict=True)
        joules = sum(
            energy_j * min(1.0, (until_ms - at_ms) / level_ms)
            for at_ms, energy_j in rows
            if energy_j is not None and at_ms < until_ms
        )
        return float(joules / J_PER_KWH)
    hour_ms = begin_ms // MS_PER_HOUR * MS_PER_HOUR
    end_ms = min(hour_ms + MS_PER_HOUR, run.end_ms)
    return hour_kwh * min(1.0, (until_ms - begin_ms) / max(1, end_ms - begin_ms))


def _mean_intensity(
    run: Run,
    estimate: Estimate,
    by_hour: Mapping[int, float],
    from_ms: int,
    to_ms: int,
) -> float:
    """kgCO2e/kWh of the energy between two times, which may touch several hours."""
    first_ms = from_ms // MS_PER_HOUR * MS_PER_HOUR
    if to_ms <= first_ms + MS_PER_HOUR:
        return intensity_of_hour(estimate, first_ms) or 0.0
    energies = {}
    for hour_ms in range(first_ms, to_ms, MS_PER_HOUR):
        begin_ms, until_ms = within_run(hour_ms, run.started_ms, run.end_ms)
        shared_ms = min(to_ms, until_ms) - max(from_ms, begin_ms)
        share = max(0.0, shared_ms / (until_ms - begin_ms))
        energies[hour_ms] = by_hour.get(hour_ms, 0.0) * share
    total_kwh = sum(energies.values())
    if total_kwh <= 0:
        return intensity_of_hour(estimate, first_ms) or 0.0
    kg = sum(kwh * (intensity_of_hour(estimate, at) or 0.0) for at, kwh in energies.items())
    return kg / total_kwh


def _costs(
    run: Run, estimate: Estimate, times_ms: Sequence[int], facility_kwh: Sequence[float]
) -> tuple[float, ...] | None:
    """Rent and written-off hardware grow with time, electricity grows with energy."""
    factors = estimate.factors
    if estimate.cost is None or factors is None:
        return None
    tariff = factors.tariff if factors.price_per_gpu_hour is None else None
    rate = 0.0 if tariff is None else tariff.value
    by_time = estimate.cost - rate * (estimate.facility_kwh or 0.0)
    length_ms = (estimate.duration_s or 0.0) * MS_PER_S
    return tuple(
        rate * kwh + by_time * (_clamped((at - run.started_ms) / length_ms) if length_ms else 1.0)
        for at, kwh in zip(times_ms, facility_kwh, strict=True)
    )


def _clamped(share: float) -> float:
    return max(0.0, min(1.0, share))
