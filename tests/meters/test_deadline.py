"""Calls that may hang, made side by side."""

from __future__ import annotations

import threading

import pytest

from carbontrack.meters.deadline import all_within, within


def test_calls_that_hang_are_waited_for_together_and_left_behind() -> None:
    """Each call but the last needs all the others to have begun: one after the other, none ends."""
    together = threading.Barrier(8)
    never = threading.Event()

    def meet_and_hang() -> int:
        together.wait()
        never.wait()
        return 0

    def meet() -> int:
        return together.wait()

    *hung, met = all_within(3, [meet_and_hang] * 7 + [meet])
    assert all(isinstance(result, TimeoutError) for result in hung)
    assert isinstance(met, int)
    never.set()


def test_a_single_call_gives_its_result_or_raises() -> None:
    assert within(60, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        within(60, lambda: 1 // 0)
    never = threading.Event()
    with pytest.raises(TimeoutError):
        within(0.1, never.wait)
    never.set()
