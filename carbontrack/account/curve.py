"""A run's cumulative energy as a curve over time. Pure."""

from __future__ import annotations

import bisect
from dataclasses import dataclass

from carbontrack.ledger.rows import Series
from carbontrack.units import MS_PER_S


@dataclass(frozen=True, slots=True)
class EnergyCurve:
    """Cumulative energy of all devices: straight lines between the ends of windows."""

    times_ms: tuple[int, ...]
    energies_j: tuple[float, ...]

    @classmethod
    def of(cls, series: Series, *, from_ms: int, to_ms: int) -> EnergyCurve:
        """From windows of any level, whose energy lies between `from_ms` and `to_ms`."""
        spent: dict[int, float] = {}
        for start_ms, energy_j in zip(
            series.columns["start_ms"], series.columns["energy_j"], strict=True
        ):
            spent[start_ms] = spent.get(start_ms, 0.0) + (energy_j or 0.0)
        times, energies = [from_ms], [0.0]
        for start_ms in sorted(spent):
            end_ms = min(to_ms, start_ms + series.level_s * MS_PER_S)
            begin_ms = max(start_ms, times[-1])
            if begin_ms > times[-1]:  # a gap: nothing is known to be spent in it
                times.append(begin_ms)
                energies.append(energies[-1])
            times.append(max(end_ms, begin_ms))
            energies.append(energies[-1] + spent[start_ms])
        return cls(tuple(times), tuple(energies))

    @property
    def total_j(self) -> float:
        return self.energies_j[-1]

    def energy_j(self, time_ms: float) -> float:
        """Energy in J from the start until a time."""
        after = bisect.bisect_right(self.times_ms, time_ms)
        if after == 0:
            return 0.0
        if after == len(self.times_ms):
            return self.total_j
        t0, t1 = self.times_ms[after - 1], self.times_ms[after]
        e0, e1 = self.energies_j[after - 1], self.energies_j[after]
        return e0 + (e1 - e0) * (time_ms - t0) / (t1 - t0)
