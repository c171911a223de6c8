"""The driver's own recent samples of a GPU's power, where it holds some: `nvmlDeviceGetSamples`.

Public dumps show 119 samples of 20 ms on a GA100 and on older cards, and samples a second apart or
none on others; so the device is asked.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from carbontrack.meters.base import Reading
from carbontrack.meters.nvml.fields import number
from carbontrack.units import NS_PER_MS, NS_PER_S, monotonic_ns, wall_ahead_ns

if TYPE_CHECKING:
    from carbontrack.meters.nvml.library import Library

_LEAST_SAMPLES = 5  # fewer say nothing about their period
_LEAST_HELD_MS = 1500.0  # they are read once a second
_LONGEST_PERIOD_MS = 100.0  # a poll sees as much
_MAX_AGE_NS = 60 * NS_PER_S  # an older timestamp is a stepped wall clock
_SET_NS = 100 * NS_PER_MS  # a clock that moved by less was slewed, or read in a bad moment
_US_PER_MS = 1000
_NS_PER_US = 1000


def sample_period_ms(library: Library, handle: Any) -> float | None:
    """How far apart the driver's samples are; None if it has none that are denser than polls."""
    found = library.optional(lambda: _samples(library, handle, 0))
    stamps_us = [stamp_us for stamp_us, _ in found or []]
    if len(stamps_us) < _LEAST_SAMPLES:
        return None
    gaps_us = sorted(b - a for a, b in pairwise(stamps_us))
    period_ms = gaps_us[len(gaps_us) // 2] / _US_PER_MS  # `statistics` takes 4 ms to import
    held = len(stamps_us) * period_ms >= _LEAST_HELD_MS
    return period_ms if held and period_ms <= _LONGEST_PERIOD_MS else None


class PowerSamples:
    """Reads the samples of one GPU that are new since the last call."""

    def __init__(self, library: Library, period_ms: float) -> None:
        self._library = library
        self._span_ns = round(period_ms * NS_PER_MS)
        self._seen_us = 0
        self._ahead_ns = wall_ahead_ns()  # the wall clock, by which the driver dates, of ours
        self._undated: set[int] = set()  # stamps that may be of either clock, as it was set

    def read(self, handle: Any) -> list[Reading]:
        """The new samples, oldest first, each the mean over the time since the one before.

        Raises NVMLError.
        """
        ahead_ns = wall_ahead_ns()
        was_set = abs(ahead_ns - self._ahead_ns) > _SET_NS
        self._ahead_ns = ahead_ns
        if was_set:
            self._seen_us = 0
        found = self._library.retry(lambda: _samples(self._library, handle, self._seen_us))
        now_ns = monotonic_ns()
        if was_set:
            self._undated = {stamp_us for stamp_us, _ in found}
        readings = []
        for stamp_us, watts in found:
            if stamp_us <= self._seen_us or stamp_us in self._undated:
                continue
            self._seen_us = stamp_us
            at_ns = stamp_us * _NS_PER_US - ahead_ns
            if 0 <= now_ns - at_ns < _MAX_AGE_NS:
                readings.append(Reading(at_ns, None, watts, span_ns=self._span_ns))
        return readings


def _samples(library: Library, handle: Any, seen_us: int) -> list[tuple[int, float]]:
    """Timestamp in µs and power in W of the samples after `seen_us`. Raises NVMLError."""
    nvml = library.nvml
    try:
        kind, found = nvml.nvmlDeviceGetSamples(handle, nvml.NVML_TOTAL_POWER_SAMPLES, seen_us)
    except library.Error as error:
        if error.value == nvml.NVML_ERROR_NOT_FOUND:  # type: ignore[attr-defined]
            return []  # none is new
        raise
    return [(s.timeStamp, number(kind, s.sampleValue.ullVal) / 1000) for s in found]
