"""Grid intensity as a series: each stretch of time of one zone with its kgCO2e/kWh. Pure."""

from __future__ import annotations

import bisect
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
