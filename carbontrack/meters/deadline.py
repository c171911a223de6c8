"""Calls into a driver that may hang for ever, from which no thread can be taken back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
_LOOK_S = 0.02


def within(seconds: float, call: Callable[[], T]) -> T:
    """The result of a call that may hang. Raises TimeoutError; the call then stays behind."""
    (result,) = all_within(seconds, [call])
    if isinstance(result, Exception):
        raise result
    return result


def all_within(seconds: float, calls: Sequence[Callable[[], T]]) -> list[T | Exception]:
    """The results of calls made side by side, or what each raised: TimeoutError for those that
    have not come back after so many seconds, which stay behind. Time that this process did not run
    in, since it was stopped or had no CPU, does not count.
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
    for thread in threads:
        thread.start()
    left_s = seconds
    for thread in threads:
        thread.join(0)
        while thread.is_alive() and left_s > 0:
            thread.join(min(left_s, _LOOK_S))
            left_s -= _LOOK_S
    return list(results)  # what comes too late changes it no more
