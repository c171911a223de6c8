"""Calls into a driver that may hang for ever, from which no thread can be taken back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, call: Callable[[], T]) -> T:
    """The result of a call that may hang. Raises TimeoutError; the call then stays behind."""
    (result,) = all_within(seconds, [call])
    if isinstance(result, Exception):
        raise result
    return result


def all_within(seconds: float, calls: Sequence[Callable[[], T]]) -> list[T | Exception]:
    """The results of calls made side by side, or what each raised: TimeoutError for those that
    have not come back after so many seconds, which stay behind.
    """
    results: list[T | Exception] = [TimeoutError() for _ in calls]

    def run(place: int) -> None:
        try:
            results[place] = calls[place]()
        except Exception as error:
            results[place] = error

    threads = [
        threading.Thread(target=run, args=(place,), name="patience", daemon=True)
        for place in range(len(calls))
    ]
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return list(results)  # what comes too late changes it no more
