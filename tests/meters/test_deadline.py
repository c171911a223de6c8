"""Calls that may hang, made side by side."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

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


SLOW = "import time; from carbontrack.meters.deadline import within; print('calls', flush=True); "


def test_the_time_that_the_process_is_stopped_does_not_count() -> None:
    code = SLOW + "print(within(1, lambda: time.sleep(0.2) or 7))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "calls\n"
        child.send_signal(signal.SIGSTOP)
        time.sleep(1.2)
        child.send_signal(signal.SIGCONT)
        assert child.stdout.read() == "7\n"
