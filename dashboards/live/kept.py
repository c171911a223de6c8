"""What was worked out for a run, kept for as long as it holds."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from carbontrack.ledger.rows import Run

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Value(Generic[T]):
    run: Run
    until_s: float
    value: T


class Kept(Generic[T]):
    """One value a run, for `most` runs. For any thread: two may do the same work.

    A value lasts `lasts_s`; if `until_changed`, only as long as the run is as it was.
    """

    def __init__(self, lasts_s: float, *, most: int, until_changed: bool = True) -> None:
        self._lasts_s = lasts_s
        self._most = most
        self._until_changed = until_changed
        self._values: OrderedDict[str, _Value[T]] = OrderedDict()

    def get(self, run: Run, work: Callable[[T | None], T]) -> T:
        """The value, or what `work` makes of the one before: None where that has lasted too long
        to be built on.
        """
        known = self._values.get(run.id)
        if known is not None and known.until_s <= time.monotonic():
            known = None
        if known is None:
            made = _Value(run, time.monotonic() + self._lasts_s, work(None))
        elif known.run == run or not self._until_changed:
            return known.value
        else:
            made = _Value(run, known.until_s, work(known.value))
        self._values[run.id] = made
        while len(self._values) > self._most:
            self._values.popitem(last=False)
        return made.value
