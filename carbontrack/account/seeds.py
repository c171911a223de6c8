"""Runs of one recipe that differ by their seed: mean, spread, and whether two recipes are further
apart than that. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and sample standard deviation of one amount over several runs; NaN of one run alone."""

    mean: float
    sd: float
    runs: int

    @classmethod
    def of(cls, amounts: Sequence[float]) -> Spread:
        """Raises StatisticsError for no amount."""
        sd = stdev(amounts) if len(amounts) > 1 else math.nan
        return cls(fmean(amounts), sd, len(amounts))


def is_less(less: Spread, more: Spread) -> bool:
    """Whether one group took less than another beyond their spread: mean + sd of the one is below
    mean - sd of the other. False where one of them is a single run, whose spread is unknown.
    """
    return less.mean + less.sd < more.mean - more.sd
