"""The end of a recorder that does not end: what it holds is saved, then the kernel ends it.

The kernel's timer needs none of our threads: it ends whatever holds the interpreter, too. On a busy
machine it is put off by as long as we have waited for a CPU.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from carbontrack.record.cpu_wait import CpuWait

LONGEST_S = 1200.0  # however busy the machine is
_SAVE_AFTER = 0.7  # of the time: what is left of it is for the saving
_BUSY = 0.05  # of the time waited for a CPU


def start(after_s: float, save: Callable[[], None]) -> None:
    """After so many seconds, and more on a busy machine, this process ends; a while before it
    `save` is called in a thread of its own, if one can be started.
    """
    signal.setitimer(signal.ITIMER_REAL, after_s)
    with suppress(RuntimeError):  # no thread to spare
        threading.Thread(target=_watch, args=(after_s, save), name="deadline", daemon=True).start()


def _watch(after_s: float, save: Callable[[], None]) -> None:
    cpu = CpuWait(os.getpid())
    began_s = time.monotonic()
    left_s, put_off_s = after_s, 0.0
    while True:
        time.sleep(_SAVE_AFTER * left_s)
        waited_s = min(cpu.since_s(), time.monotonic() - began_s) - put_off_s
        left_s = after_s + put_off_s - (time.monotonic() - began_s)
        if waited_s < _BUSY * after_s or after_s + put_off_s + waited_s > LONGEST_S:
            break
        put_off_s += waited_s
        left_s += waited_s
        signal.setitimer(signal.ITIMER_REAL, max(left_s, _BUSY * after_s))
    signal.setitimer(signal.ITIMER_REAL, max(left_s, (1 - _SAVE_AFTER) * after_s))
    with suppress(Exception):
        save()
