"""The recorder's end of the wrapper's pipe: the plan, the outcome, and the deadline after it.

A thread reads it, so that the end of the job is noticed whatever the rest is stuck in: a file
system that does not answer, a server, a driver.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from typing import BinaryIO

from carbontrack.record.messages import Outcome, Plan

# After the job's end, when the kernel ends us: 300 recorders on two cores need half of that for
# their last write.
DEADLINE_S = 60.0
# The job's stderr is left when the wrapper waits no longer, since its readers wait for its end; and
# so long after the wrapper was killed.
LEAVE_STDERR_S = 1.0


class Control(threading.Thread):
    """What the wrapper says: the plan, then nothing while the job runs, then its outcome."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(name="control", daemon=True)
        self._pipe: BinaryIO = os.fdopen(descriptor, "rb", closefd=False)
        self._planned = threading.Event()
        self._ended = threading.Event()
        self._plan = b""
        self._outcome = b""
        # A parent that ignores alarms hands that on.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def run(self) -> None:
        try:
            self._plan = self._pipe.readline()
            self._planned.set()
            self._outcome = self._pipe.readline()
        finally:
            signal.setitimer(signal.ITIMER_REAL, DEADLINE_S)
            self._planned.set()
            self._ended.set()
        if self._outcome:
            self._pipe.read()
        else:
            threading.Event().wait(LEAVE_STDERR_S)
        _leave_stderr()

    def plan(self) -> Plan | None:
        """What to record. None if it turned out to be nothing."""
        self._planned.wait()
        return Plan.from_json(self._plan) if self._plan.endswith(b"\n") else None

    def wait(self, timeout_s: float) -> bool:
        """Whether the job has ended, or the wrapper was killed, after waiting so long."""
        return self._ended.wait(timeout_s)

    def has_ended(self) -> bool:
        """Whether the job has ended, or the wrapper was killed."""
        return self._ended.is_set()

    @property
    def outcome(self) -> Outcome | None:
        """How the job ended; None if the wrapper was killed, or before that."""
        return Outcome.from_json(self._outcome) if self._outcome.endswith(b"\n") else None


def _leave_stderr() -> None:
    with suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(null, 2)
        os.close(null)
