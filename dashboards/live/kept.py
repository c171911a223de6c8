"""What was worked out for a run, kept for as long as it holds."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from carbontrack.ledger.rows import Run

T = TypeVar("T")
_KEPT = 1024


class Kept(Generic[T]):
    """One value a run, the newest `_KEPT` runs. For any thread: two may do the same work."""

    def __init__(self, lasts_s: float) -> None:
        self._lasts_s = lasts_s
        self._values: OrderedDict[str, tuple[Run, float, T]] = OrderedDict()

    def get(self, run: Run, work: Callable[[T | None], T], *, unchanged: bool = True) -> T:
        """What `work` gave less than `lasts_s` ago; if `unchanged`, for the run as it is now.

        `work` is given the value of less than `lasts_s` ago that does not hold any more.
        """
        known = self._values.get(run.id)
        fresh = known is not None and known[1] > time.monotonic()
        if known is not None and fresh and (known[0] == run or not unchanged):
            return known[2]
        until_s = known[1] if known is not None and fresh else time.monotonic() + self._lasts_s
        value = work(known[2] if known is not None and fresh else None)
        self._values[run.id] = (run, until_s, value)
        while len(self._values) > _KEPT:
            self._values.popitem(last=False)
        return value
