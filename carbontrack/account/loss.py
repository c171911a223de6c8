"""The loss of a training without its noise, and what can be read off it. Pure.

Losses of single steps scatter by more than recipes differ: one noisy dip is not progress. All that
is derived from them is derived from trailing means over a width that reports state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from carbontrack.account.curve import EnergyCurve
from carbontrack.ledger.recorded_rows import Step

_SHARE = 20  # the width is a 20th of the losses,
_LEAST = 10  # but not fewer than these, as far as that leaves four widths
_SIGMAS = 2.0
_SIGMA_PER_MEDIAN = 1.4826  # of a normal distribution


def width_of(count: int) -> int:
    """Over how many of so many losses a mean is taken."""
    return max(1, count // _SHARE, min(_LEAST, count // 4))


def smooth(losses: Sequence[float], width: int) -> list[float]:
    """Trailing means over `width` losses; NaN before there are so many, and beside a NaN."""
    return [
        math.nan if at < width else fmean(losses[at - width : at])
        for at in range(1, len(losses) + 1)
    ]


def noise(losses: Sequence[float], width: int) -> float:
    """The standard error of a trailing mean, from how much losses in a row differ: by the median,
    for the first ones fall fast.
    """
    differences = [abs(b - a) for a, b in pairwise(losses) if math.isfinite(b - a)]
    return _SIGMA_PER_MEDIAN * median(differences) / math.sqrt(2 * width) if differences else 0.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """Where a smoothed loss first is down to a target: the place, and the first and the last that
    its noise allows. None if it is not, or need not be.
    """

    at: int | None
    earliest: int | None
    latest: int | None


def arrival(losses: Sequence[float], target: float, width: int) -> Arrival:
    """When a run's smoothed loss reaches the target."""
    means = smooth(losses, width)
    margin = _SIGMAS * noise(losses, width)

    def first_below(limit: float) -> int | None:
        return next((at for at, mean in enumerate(means) if mean <= limit), None)

    return Arrival(first_below(target), first_below(target + margin), first_below(target - margin))


def lowest_common(curves: Sequence[Sequence[float]]) -> float | None:
    """The lowest loss that the means of all runs reached whatever their noise did; None where one
    has no mean.
    """
    lowest = []
    for losses in curves:
        width = width_of(len(losses))
        means = [mean for mean in smooth(losses, width) if math.isfinite(mean)]
        if not means:
            return None
        lowest.append(min(means) + _SIGMAS * noise(losses, width))
    return max(lowest, default=None)


def loss_at(steps: Sequence[Step], curve: EnergyCurve, energy_j: float) -> float | None:
    """The mean loss of the last steps, `width_of` all, that were done within this energy; None if
    there are none.
    """
    with_loss = [step for step in steps if step.loss is not None]
    width = width_of(len(with_loss))
    done = [
        step.loss
        for step in with_loss
        if step.loss is not None and curve.energy_j(step.time_ms) <= energy_j
    ]
    return fmean(done[-width:]) if done else None
