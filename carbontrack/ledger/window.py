"""Windows: one row of the pyramid, and merging fine rows into coarse ones. Pure.

Because energy and seconds add and extremes nest, a total is the same at every level.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntFlag
from itertools import chain, groupby

from carbontrack.units import MS_PER_S

LEVELS_S = (1, 60, 3600)
FIRST_MS, LAST_MS = -(1 << 53), 1 << 53
"""Before and after any window."""


class Flag(IntFlag):
    """How a window's energy came about. Coarser windows carry the union of their parts."""

    COUNTER = 1  # difference of the device's energy counter
    INTEGRAL = 2  # step (zero-order hold) integral of power samples
    ESTIMATE = 4  # a model, not a measurement
    SIMULATED = 8  # no real device was read
    BRIDGED = 16  # an edge of the run, filled with the nearest power
    GAP = 32  # no samples for a while; energy only if the counter went on
    COUNTER_RESET = 64  # the counter went backwards; the integral filled in
    APPORTIONED = 128  # a share of a parent device's energy (MIG)
    IMPLAUSIBLE = 256  # a sensor gave what cannot be; the other one is believed, or it is unknown
    USED = 512  # the driver named a process of the job on the device


@dataclass(frozen=True, slots=True)
class Window:
    """One row of the pyramid: what one device did in one aligned stretch of wall-clock time.

    `energy_j` is None where no energy is known. `energy_s` is the time that it accounts for, and
    `sampled_s` the time that was watched by samples: they differ where a counter ran on through a
    gap. Mean power is `energy_j / energy_s`.
    """

    start_ms: int
    level_s: int
    energy_j: float | None
    energy_s: float
    sampled_s: float
    samples: int
    power_min_w: float | None
    power_max_w: float | None
    vitals: int  # how many readings the four values below are made of
    util_pct: float | None  # mean
    memory_max_bytes: int | None
    temperature_max_c: float | None
    sm_clock_mhz: float | None  # mean
    throttle: int  # union of NVML clocks-event reasons
    flags: Flag

    @property
    def power_mean_w(self) -> float | None:
        """Mean power in W over the time that the energy accounts for."""
        if self.energy_j is None or self.energy_s <= 0:
            return None
        return self.energy_j / self.energy_s


def merge(parts: Iterable[Window], *, start_ms: int, level_s: int) -> Window:
    """One coarser window out of finer ones: sums add, extremes nest, means are weighted.

    Raises ValueError if there is no part.
    """
    rows = list(parts)
    if not rows:
        raise ValueError("nothing to merge")
    energies = [w.energy_j for w in rows if w.energy_j is not None]
    flags = Flag(0)
    throttle = 0
    for w in rows:
        flags |= w.flags
        throttle |= w.throttle
    return Window(
        start_ms=start_ms,
        level_s=level_s,
        energy_j=sum(energies) if energies else None,
        energy_s=sum(w.energy_s for w in rows),
        sampled_s=sum(w.sampled_s for w in rows),
        samples=sum(w.samples for w in rows),
        power_min_w=min((w.power_min_w for w in rows if w.power_min_w is not None), default=None),
        power_max_w=max((w.power_max_w for w in rows if w.power_max_w is not None), default=None),
        vitals=sum(w.vitals for w in rows),
        util_pct=_weighted_mean((w.util_pct, w.vitals) for w in rows),
        memory_max_bytes=max(
            (w.memory_max_bytes for w in rows if w.memory_max_bytes is not None), default=None
        ),
        temperature_max_c=max(
            (w.temperature_max_c for w in rows if w.temperature_max_c is not None), default=None
        ),
        sm_clock_mhz=_weighted_mean((w.sm_clock_mhz, w.vitals) for w in rows),
        throttle=throttle,
        flags=flags,
    )


def _weighted_mean(pairs: Iterable[tuple[float | None, int]]) -> float | None:
    known = [(value, weight) for value, weight in pairs if value is not None and weight > 0]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if total else None


class Pyramid:
    """The open coarse windows of one device: each second goes into its minute and its hour.

    Seconds that are written but may still change are given again with each call, and are in the
    coarse rows of that call alone: so every level has the same total at every commit.
    """

    def __init__(self) -> None:
        self._open: dict[int, Window] = {}
        self._added: list[Window] = []

    def add(self, second: Window) -> None:
        self._added.append(second)

    def take_changed(self, waiting: Sequence[Window] = ()) -> list[Window]:
        """The coarse rows that changed since the last call, to be written with their seconds.

        `waiting` are the seconds after the added ones that will be added later, as they are now.
        """
        added, self._added = self._added, []
        rows: dict[tuple[int, int], Window] = {}
        for level_s in LEVELS_S[1:]:
            for window in self._grown(level_s, added):
                self._open[level_s] = rows[level_s, window.start_ms] = window
            for window in self._grown(level_s, waiting):
                rows[level_s, window.start_ms] = window
        return list(rows.values())

    def _grown(self, level_s: int, seconds: Sequence[Window]) -> Iterator[Window]:
        length_ms = level_s * MS_PER_S
        for number, parts in groupby(seconds, lambda second: second.start_ms // length_ms):
            start_ms = number * length_ms
            before = self._open.get(level_s)
            if before is not None and before.start_ms == start_ms:
                parts = chain([before], parts)
            yield merge(parts, start_ms=start_ms, level_s=level_s)
