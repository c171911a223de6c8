"""Grid intensity as a series: each stretch of time of one zone with its kgCO2e/kWh. Pure."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from carbontrack.account import method as formula
from carbontrack.account.catalog import Factor
from carbontrack.ledger.rows import Run, Usage
from carbontrack.units import J_PER_KWH, KG_PER_T, MS_PER_HOUR


@dataclass(frozen=True, slots=True)
class Interval:
    """One value of a zone, true from `start_ms` for `length_ms`."""

    zone: str
    start_ms: int
    length_ms: int
    intensity_kg_per_kwh: float
    basis: str
    source: str
    version: str

    @property
    def end_ms(self) -> int:
        return self.start_ms + self.length_ms


@dataclass(frozen=True, slots=True)
class IntensitySeries:
    """Intervals of one zone, in order of time, that do not overlap."""

    intervals: tuple[Interval, ...]

    @property
    def source(self) -> str:
        """Every source that a part of it comes from."""
        return "; ".join(dict.fromkeys(interval.source for interval in self.intervals))

    def mean(self, start_ms: int, end_ms: int) -> float | None:
        """The mean over time in kgCO2e/kWh; None unless every moment of it is known."""
        first = bisect.bisect_right(self.intervals, start_ms, key=lambda i: i.start_ms) - 1
        weighted, known_ms = 0.0, 0
        for interval in self.intervals[max(0, first) :]:
            if interval.start_ms >= end_ms:
                break
            shared_ms = min(end_ms, interval.end_ms) - max(start_ms, interval.start_ms)
            if shared_ms > 0:
                weighted += interval.intensity_kg_per_kwh * shared_ms
                known_ms += shared_ms
        return weighted / known_ms if known_ms == end_ms - start_ms and known_ms > 0 else None

    def over_all(self) -> Factor:
        """The mean over all the time that is known: for a zone that no yearly table knows."""
        total_ms = sum(interval.length_ms for interval in self.intervals)
        weighted = sum(i.intensity_kg_per_kwh * i.length_ms for i in self.intervals)
        one = self.intervals[0]
        return Factor(
            name="intensity",
            value=weighted / total_ms,
            unit="kg/kWh",
            source=f"{one.zone} mean of {total_ms / MS_PER_HOUR:g} h, {self.source}",
            version=one.version,
            basis=one.basis,
        )


def hourly_factor(
    series: IntensitySeries, run: Run, hours: Sequence[Usage], year: Factor, *, end_ms: int
) -> tuple[Factor | None, str]:
    """The intensity of a run's energy, Σ E_k × I_k ÷ Σ E_k, and a note on the hours without one.

    For those `year` stands in where its basis is the series' own, else the mean of the run's known
    hours: bases are never mixed. The factor is None where no hour is known, or none has energy.
    """
    energies_kwh: dict[int, float] = {}
    for usage in hours:
        if usage.energy_j is not None:
            spent = energies_kwh.get(usage.start_ms, 0.0)
            energies_kwh[usage.start_ms] = spent + usage.energy_j / J_PER_KWH
    means = {}
    for start_ms in energies_kwh:
        from_ms = max(start_ms, run.started_ms)
        to_ms = max(from_ms + 1, min(start_ms + MS_PER_HOUR, end_ms))
        means[start_ms] = series.mean(from_ms, to_ms)
    known = [mean for mean in means.values() if mean is not None]
    total_kwh = sum(energies_kwh.values())
    missing, one = len(means) - len(known), series.intervals[0]
    said = f"{missing} of its {len(means)} hours without an intensity in {one.zone}"
    if not known or total_kwh <= 0:
        return None, f"{said}: {_called(year)} stands in for all" if missing else ""
    stand_in, called = sum(known) / len(known), f"the mean of the other {len(known)}"
    if year.year is not None and year.basis == one.basis:
        stand_in, called = year.value, _called(year)
    each = [stand_in if mean is None else mean for mean in means.values()]
    tco2e = formula.hourly_tco2e(list(energies_kwh.values()), each, 1.0)
    rest = f", {missing} h by {called}" if missing else ""
    factor = Factor(
        name="intensity",
        value=tco2e * KG_PER_T / total_kwh,
        unit="kg/kWh",
        source=f"{one.zone} hour by hour over {len(known)} h{rest}, {series.source}",
        version=one.version,
        basis=one.basis,
    )
    return factor, f"{said}: {called} stands in ({stand_in:.4g} kg/kWh)" if missing else ""


def _called(year: Factor) -> str:
    return f"the mean of {year.year}" if year.year else "the mean of all that was imported"
