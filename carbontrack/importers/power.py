"""From samples of power, or readings of a counter, to the energy between them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median_low
from typing import TYPE_CHECKING

from carbontrack.importers.spans import Spans
from carbontrack.units import NS_PER_S

if TYPE_CHECKING:
    from carbontrack.importers.spans import Floats, Ints

_HELD_STEPS = 10  # power is taken to change evenly between samples up to so many usual steps apart
_LEAST_HELD_NS = 2 * NS_PER_S
_MOST_USUAL_NS = 3600 * NS_PER_S  # a log of days apart says nothing of the time between
_USUAL_OF = 1_000  # steps
_MOST_IN_TURN = 16  # GPUs that one node has
_MOST_TURN_NS = NS_PER_S // 10  # from one to the next; a driver takes some ms
_LONG_AT = 0.95  # where the pauses are among the steps in order of length, also of 16 GPUs
_LEAST_BURSTS = 4  # fewer are of one size by chance
_PAUSE = 1 / 3  # of a long step: above, a burst ends
_TURN = 1 / 5  # of a long step: below, the steps within bursts are short
MOST_HELD_S = _HELD_STEPS * _MOST_USUAL_NS / NS_PER_S
"""No power is taken to be known over a longer time without a sample."""


class PowerSeries:
    """The samples of one device, in order of time, a block at a time.

    Between two samples power changes evenly (trapezoids). Where they are farther apart than
    `_HELD_STEPS` of the usual step, or one has no value, nothing is known: a gap.
    """

    def __init__(self) -> None:
        self._time_ns: int | None = None
        self._power_w = float("nan")
        self._held_ns: int | None = None

    @property
    def last_ns(self) -> int | None:
        """The time of the last sample; None before the first."""
        return self._time_ns

    def add(self, times_ns: Ints, powers_w: Floats) -> Spans:
        """Samples after those before, at times that increase; NaN is a missing value."""
        import numpy as np

        if self._time_ns is not None:
            times_ns = np.concatenate([[self._time_ns], times_ns])
            powers_w = np.concatenate([[self._power_w], powers_w])
        if not len(times_ns):
            return Spans.of([])
        self._time_ns, self._power_w = int(times_ns[-1]), float(powers_w[-1])
        steps_ns = np.diff(times_ns)
        if self._held_ns is None and len(steps_ns):
            self._held_ns = held_ns(steps_ns[:_USUAL_OF].tolist())
        before, after = powers_w[:-1], powers_w[1:]
        energy_j = (before + after) / 2 * steps_ns / NS_PER_S
        known = ~np.isnan(energy_j) & (steps_ns <= (self._held_ns or 0))
        return Spans(
            times_ns[:-1][known],
            times_ns[1:][known],
            energy_j[known],
            np.minimum(before, after)[known],
            np.maximum(before, after)[known],
            np.ones(int(known.sum()), np.bool_),
        )


def usual_ns(steps_ns: Sequence[int]) -> int:
    """The usual one of these steps; 0 of none.

    Of two it is the shorter one, for a pause among few steps is not usual; and an hour at most.
    """
    return min(median_low(steps_ns), _MOST_USUAL_NS) if steps_ns else 0


def held_ns(steps_ns: Sequence[int]) -> int:
    """The longest step between two samples over which power is taken to be known."""
    return max(_LEAST_HELD_NS, _HELD_STEPS * usual_ns(steps_ns))


def read_in_turn(times_ns: Ints) -> int:
    """How many devices a tool reads one after the other, a few ms apart, before it waits: 1 where
    the samples at these times are those of one.

    Of several the steps between samples are short, but for a long one each so many samples.
    Jitter, and pauses here and there, make no such bursts of one size.
    """
    import numpy as np

    steps_ns = np.diff(times_ns[:_USUAL_OF])
    if not len(steps_ns):
        return 1
    long_ns = np.sort(steps_ns)[int(_LONG_AT * len(steps_ns))]
    is_pause = steps_ns > _PAUSE * long_ns
    last_of_burst = np.flatnonzero(is_pause)
    sizes = np.diff(last_of_burst, prepend=-1, append=len(steps_ns)).tolist()
    size, count = Counter(sizes).most_common(1)[0]
    is_rule = count >= _LEAST_BURSTS and 2 * count > len(sizes)
    if not (is_rule and 1 < size <= _MOST_IN_TURN):
        return 1
    turn_ns = np.median(steps_ns[~is_pause])
    return size if turn_ns <= min(_MOST_TURN_NS, _TURN * long_ns) else 1


def counted(times_ns: Ints, energies_j: Floats) -> Spans:
    """Between readings of a counter that were taken in this order; NaN is a missing one.

    Where the counter goes back nothing is known. Across a long gap the energy is known, but was not
    watched.
    """
    import numpy as np

    known = ~np.isnan(energies_j)
    times_ns, energies_j = times_ns[known], energies_j[known]
    steps_ns, energy_j = np.diff(times_ns), np.diff(energies_j)
    forward = (energy_j >= 0) & (steps_ns > 0)
    power_w = energy_j[forward] * NS_PER_S / steps_ns[forward]
    return Spans(
        times_ns[:-1][forward],
        times_ns[1:][forward],
        energy_j[forward],
        power_w,
        power_w,
        steps_ns[forward] <= held_ns(steps_ns[:_USUAL_OF].tolist()),
    )
