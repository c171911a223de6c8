"""Grid intensity as a series: each stretch of time of one zone with its kgCO2e/kWh. Pure."""

from __future__ import annotations

import bisect
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from carbontrack.factors.catalog import Factor
from carbontrack.units import MS_PER_HOUR


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
        """The mean over all of it: for a zone that no yearly table knows."""
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


@dataclass(frozen=True, slots=True)
class HourlyIntensity:
    """The intensity of each hour of a run: its series where that knows all of the hour."""

    series: IntensitySeries
    kg_per_kwh: Mapping[int, float]  # by the hour's start in ms, in order, without holes
    missing: frozenset[int]  # hours that the series does not know: the stand-in is theirs
    stand_in_kg_per_kwh: float
    stand_in: str  # what it is, in words

    def factor(self, kg_per_kwh: float, hours: Collection[int]) -> Factor:
        """The mean over these hours, `kg_per_kwh`, as a factor with its source."""
        one, missing = self.series.intervals[0], len(self.missing.intersection(hours))
        rest = f", {missing} h by {self.stand_in}" if missing else ""
        known = len(hours) - missing
        return Factor(
            name="intensity",
            value=kg_per_kwh,
            unit="kg/kWh",
            source=f"{one.zone} hour by hour over {known} h{rest}, {self.series.source}",
            version=one.version,
            basis=one.basis,
        )

    def note(self, hours: Collection[int]) -> str:
        """How many of these hours are missing, and what stands in; empty if none is."""
        missing = self.missing.intersection(hours)
        if not missing:
            return ""
        zone = self.series.intervals[0].zone
        return (
            f"{hours_without(len(missing), len(hours), zone)}: "
            f"{self.stand_in} stands in ({self.stand_in_kg_per_kwh:.4g} kg/kWh)"
        )


def hourly(
    series: IntensitySeries, hours: Collection[int], year: Factor, *, from_ms: int, to_ms: int
) -> HourlyIntensity | None:
    """The intensity of a run from `from_ms` to `to_ms` whose energy is in `hours` (starts in ms).

    For an hour that is not known `year` stands in where its basis is the series' own, else the mean
    of the known `hours`: bases are never mixed. None where no hour of them is known.
    """
    if not hours:
        return None
    every = range(min(hours), max(hours) + 1, MS_PER_HOUR)
    means = {at: series.mean(*within_run(at, from_ms, to_ms)) for at in every}
    known = [mean for at in hours if (mean := means[at]) is not None]
    if not known:
        return None
    stand_in = sum(known) / len(known)
    called = "the other one" if len(known) == 1 else f"the mean of the other {len(known)}"
    if year.year is not None and year.basis == series.intervals[0].basis:
        stand_in, called = year.value, year_name(year)
    return HourlyIntensity(
        series=series,
        kg_per_kwh={at: stand_in if mean is None else mean for at, mean in means.items()},
        missing=frozenset(at for at, mean in means.items() if mean is None),
        stand_in_kg_per_kwh=stand_in,
        stand_in=called,
    )


def hours_without(missing: int, hours: int, zone: str) -> str:
    """Of how many of its hours a run has no intensity."""
    which = "all of its" if missing == hours else f"{missing} of its {hours}"
    return f"{which} hours without an intensity in {zone}"


def year_name(year: Factor) -> str:
    """What the factor of a year, or of all that was imported for a run, is called."""
    return f"the mean of {year.year}" if year.year else "the mean of what was imported for its time"


def within_run(hour_ms: int, from_ms: int, to_ms: int) -> tuple[int, int]:
    """The part of an hour in which the run was on; a millisecond at least."""
    begin_ms = max(hour_ms, from_ms)
    return begin_ms, max(begin_ms + 1, min(hour_ms + MS_PER_HOUR, to_ms))
