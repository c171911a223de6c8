"""A value with how far it scatters, and whether two of them are apart. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev


@dataclass(frozen=True, slots=True)
class Spread:
    """A mean over `n` runs with their standard deviation; `low` and `high` are as far as it may be:
    a standard deviation off, or what the noise of a single run allows.
    """

    mean: float
    sd: float | None  # None of one run
    n: int
    low: float
    high: float

    @property
    def is_known(self) -> bool:
        """Whether anything is known of how far it scatters."""
        return self.sd is not None or self.low < self.high


def spread_of(values: Sequence[float | None]) -> Spread | None:
    """Of one value a run; None where one is unknown, or there is none."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    mean = fmean(known)
    sd = stdev(known) if len(known) > 1 else None
    return Spread(mean, sd, len(known), mean - (sd or 0.0), mean + (sd or 0.0))


def apart(a: Spread, b: Spread) -> bool | None:
    """Whether they differ by more than they scatter; None where too little is known of that: one
    run beyond what others scatter says nothing, for it scatters, too.
    """
    beyond = a.high < b.low or b.high < a.low
    known = (a.is_known and b.is_known) if beyond else (a.is_known or b.is_known)
    return beyond if known else None
