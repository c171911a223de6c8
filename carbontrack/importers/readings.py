"""The readings of several devices, in whatever order a file has them, to their energy over time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from carbontrack.importers.bins import Bins
from carbontrack.importers.model import FoundDevice, Refused, Tally
from carbontrack.importers.plausible import MAX_GPU_W
from carbontrack.importers.power import PowerSeries, counted
from carbontrack.importers.spans import Spans
from carbontrack.units import NS_PER_S
from carbontrack.vocabulary import Quality

if TYPE_CHECKING:
    from carbontrack.importers.spans import Floats, Ints

UNKNOWN = float("nan")
_LEAST_SENTINEL = 9.2e18  # DCGM's blank values are 2^63 - 16 and above
_Samples = dict[int, float]


def known(value: float) -> float:
    """A value, or NaN where it is what a tool writes for none."""
    return UNKNOWN if value >= _LEAST_SENTINEL or value < 0 else value


class Readings:
    """Samples of power in W and of counters in J, by device and time. Of two at one time, as of a
    board for each of its instances, the first counts.
    """

    def __init__(self, file: str, tally: Tally) -> None:
        self._file = file
        self._tally = tally
        self._powers: dict[str, _Samples] = {}
        self._counters: dict[str, _Samples] = {}
        self._means: dict[str, list[tuple[int, int, float]]] = {}

    def power(self, key: str, time_ns: int, power_w: float) -> None:
        """A power of the moment."""
        self._powers.setdefault(key, {}).setdefault(time_ns, power_w)

    def mean(self, key: str, start_ns: int, end_ns: int, power_w: float) -> None:
        """A power that is the mean over a time."""
        self._means.setdefault(key, []).append((start_ns, end_ns, power_w))

    def counter(self, key: str, time_ns: int, energy_j: float) -> None:
        """A counter of energy."""
        self._counters.setdefault(key, {}).setdefault(time_ns, energy_j)

    @property
    def times_ns(self) -> tuple[int, int]:
        """The first and the last. Raises Refused where there is no time between two samples."""
        every = [*self._powers.values(), *self._counters.values()]
        times = [time_ns for samples in every for time_ns in (min(samples), max(samples))]
        times += [t for means in self._means.values() for t in (means[0][0], means[-1][1])]
        if not self._means and all(len(samples) < 2 for samples in every):
            raise Refused(
                f"{self._file} has one sample of a device: no time lies between two of them.",
                self._tally.why or "Log over time.",
            )
        return min(times), max(times)

    def devices(
        self, describe: Callable[[str, Quality], FoundDevice], *, most_w: float = MAX_GPU_W
    ) -> dict[FoundDevice, Bins]:
        """Each device by its counter where it has one, else by its power; one above `most_w` is
        unknown.

        Raises Refused where its usual power is.
        """
        found = {}
        for key in dict.fromkeys([*self._counters, *self._powers, *self._means]):
            spans, quality = self._spans(key, most_w)
            bins = Bins()
            bins.add(spans)
            found[describe(key, quality)] = bins
        if not any(bins.known for bins in found.values()):
            raise Refused(f"{self._file} has no power over time.", self._tally.why)
        return found

    def _spans(self, key: str, most_w: float) -> tuple[Spans, Quality]:
        import numpy as np

        counter = self._counters.get(key, {})
        if sum(not math.isnan(value) for value in counter.values()) > 1:
            spans = counted(*_in_time(counter))
            self._plausible(key, spans.power_max_w, most_w)
            return spans, Quality.COUNTER
        if means := sorted(self._means.get(key, ())):
            powers_w = self._plausible(key, np.array([w for _, _, w in means]), most_w)
            rows = [
                (begin, end, power_w * (end - begin) / NS_PER_S)
                for (begin, end, _), power_w in zip(means, powers_w.tolist(), strict=True)
                if not math.isnan(power_w)
            ]
            return Spans.of(rows), Quality.POWER
        times_ns, powers_w = _in_time(self._powers.get(key, {}))
        return PowerSeries().add(times_ns, self._plausible(key, powers_w, most_w)), Quality.POWER

    def _plausible(self, key: str, powers_w: Floats, most_w: float) -> Floats:
        """NaN for one that cannot be. Raises Refused where the usual one cannot."""
        import numpy as np

        known = powers_w[~np.isnan(powers_w)]
        if len(known) and (usual_w := float(np.median(known))) > most_w:
            raise Refused(
                f"{self._file}: {usual_w:,.6g} W of {key} is more than can be: another unit?",
                "Name the unit with --unit.",
            )
        return np.where(powers_w > most_w, UNKNOWN, powers_w)


def _in_time(samples: _Samples) -> tuple[Ints, Floats]:
    import numpy as np

    times = sorted(samples)
    return np.array(times, np.int64), np.array([samples[t] for t in times], np.float64)
