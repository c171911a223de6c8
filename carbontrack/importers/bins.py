"""Energy over time in aligned bins: the finest level of the pyramid that the data is good for."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import TYPE_CHECKING

from carbontrack.ledger.window import LEVELS_S, Flag, Window
from carbontrack.units import MS_PER_S, NS_PER_S

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from carbontrack.importers.spans import Spans

    _Part = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]

MAX_BINS = 50_000  # of one device: 14 hours of seconds; longer logs are read minute by minute
_FINE_STEPS = 1.5  # usual steps up to so many lengths of a bin are fine enough for it
_USUAL_OF = 1_000  # spans
_ENERGY, _TIME, _SAMPLED, _COUNT, _MIN, _MAX = range(6)


class Bins:
    """The energy of one device. Bins become coarser where there would be too many."""

    def __init__(self) -> None:
        self._level = 0
        self._parts: list[_Part] = []  # the last bin of one may go on in the next
        self._lengths_ns: list[int] = []
        self.energy_j = 0.0

    @property
    def known(self) -> bool:
        """Whether any energy is known."""
        return bool(self._parts)

    @property
    def level_s(self) -> int:
        """The length of a bin; as fine as the spans are short."""
        usual_s = median(self._lengths_ns or [0]) / NS_PER_S
        fine = (s for s in LEVELS_S[self._level :] if usual_s <= _FINE_STEPS * s)
        return next(fine, LEVELS_S[-1])

    def add(self, spans: Spans) -> None:
        """Spread spans over the bins they lie in, each evenly. They come in order of time."""
        if not len(spans):
            return
        if (room := _USUAL_OF - len(self._lengths_ns)) > 0:
            self._lengths_ns += (spans.end_ns - spans.start_ns)[:room].tolist()
        self.energy_j += float(spans.energy_j.sum())
        while self._level < len(LEVELS_S) - 1 and self._with(spans) > MAX_BINS:
            self._coarsen()
        self._parts.append(_merged(*_spread(spans, LEVELS_S[self._level] * NS_PER_S)))

    def _with(self, spans: Spans) -> int:
        """About how many bins there would be."""
        length_ns = LEVELS_S[self._level] * NS_PER_S
        more = int(spans.end_ns[-1] // length_ns - spans.start_ns[0] // length_ns)
        return sum(len(starts) for starts, _ in self._parts) + more + 1

    def _whole(self) -> _Part:
        """All bins as one part."""
        import numpy as np

        if not self._parts:
            return np.empty(0, np.int64), np.empty((6, 0))
        starts, values = zip(*self._parts, strict=True)
        whole = _merged(np.concatenate(starts), np.concatenate(values, axis=1))
        self._parts = [whole]
        return whole

    def _coarsen(self) -> None:
        factor = LEVELS_S[self._level + 1] // LEVELS_S[self._level]
        starts, values = self._whole()
        self._parts = [_merged(starts // factor, values)] if len(starts) else []
        self._level += 1

    def windows(self, level_s: int, flags: Flag) -> Iterator[Window]:
        """Of this length, or longer where the bins are, in order."""
        while self._level < len(LEVELS_S) - 1 and LEVELS_S[self._level] < level_s:
            self._coarsen()
        length_s = LEVELS_S[self._level]
        starts, values = self._whole()
        for start, (energy_j, seconds, sampled_s, samples, low, high) in zip(
            starts.tolist(), values.T.tolist(), strict=True
        ):
            yield Window(
                start_ms=start * length_s * MS_PER_S,
                level_s=length_s,
                energy_j=energy_j,
                energy_s=seconds,
                sampled_s=sampled_s,
                samples=round(samples),
                power_min_w=low,
                power_max_w=high,
                vitals=0,
                util_pct=None,
                memory_max_bytes=None,
                temperature_max_c=None,
                sm_clock_mhz=None,
                throttle=0,
                flags=flags if sampled_s >= seconds else flags | Flag.GAP,
            )


def _spread(spans: Spans, length_ns: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Each span cut at the ends of bins: the bin of each part, and its values."""
    import numpy as np

    first = spans.start_ns // length_ns
    last = np.maximum(first, -(-spans.end_ns // length_ns) - 1)
    parts = last - first + 1
    of = np.repeat(np.arange(len(spans)), parts)
    offset = np.arange(len(of)) - np.repeat(np.cumsum(parts) - parts, parts)
    number = first[of] + offset
    begin = np.maximum(spans.start_ns[of], number * length_ns)
    end = np.minimum(spans.end_ns[of], (number + 1) * length_ns)
    part_ns = end - begin
    whole_ns = np.maximum(spans.end_ns - spans.start_ns, 1)[of]
    mean_w = spans.energy_j[of] * NS_PER_S / whole_ns
    values = np.stack(
        [
            spans.energy_j[of] * part_ns / whole_ns,
            part_ns / NS_PER_S,
            np.where(spans.sampled[of], part_ns, 0) / NS_PER_S,
            (offset == 0).astype(np.float64),  # a sample at the start of each
            np.fmin(spans.power_min_w[of], mean_w),
            np.fmax(spans.power_max_w[of], mean_w),
        ]
    )
    return number, values


def _merged(
    numbers: npt.NDArray[np.int64], values: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Neighbours of the same bin as one: sums add, extremes nest."""
    import numpy as np

    if not len(numbers):
        return numbers, values
    if (np.diff(numbers) < 0).any():
        order = np.argsort(numbers, kind="stable")
        numbers, values = numbers[order], values[:, order]
    starts = np.concatenate([[0], np.flatnonzero(np.diff(numbers)) + 1])
    sums = np.add.reduceat(values[:_MIN], starts, axis=1)
    low = np.fmin.reduceat(values[_MIN], starts)
    high = np.fmax.reduceat(values[_MAX], starts)
    return numbers[starts], np.concatenate([sums, [low], [high]])
