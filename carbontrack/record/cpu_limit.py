"""A limit of CPU time on code that may never end, such as a regular expression."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class OutOfTime(Exception):
    """The code took more CPU time than it was given."""


@contextmanager
def cpu_limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTime inside the block after so many seconds of this process's CPU time.

    CPU time, not the clock's: what a busy machine keeps waiting is not at fault. Python's regular
    expressions look for signals while they match. For the main thread only, and not nested.
    """

    def stop(signo: int, frame: FrameType | None) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
