"""The job as our child, and the signals that are passed on to it. The job waits for this import."""

from __future__ import annotations

import _signal
import os
from contextlib import suppress

from carbontrack.units import monotonic_ns

FORWARDED = (
    _signal.SIGINT,
    _signal.SIGTERM,
    _signal.SIGHUP,
    _signal.SIGQUIT,
    _signal.SIGUSR1,
    _signal.SIGUSR2,
    _signal.SIGTSTP,
    _signal.SIGCONT,
)
"""Signals that are passed on to the job."""
WATCHED = (*FORWARDED, _signal.SIGCHLD)


class Job:
    """The job as our child, left a zombie at its end until `reap`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.signal: int | None = None  # that killed it
        self.exit_code: int | None = None  # 128+n if signal n killed it; None if unknown
        self.ended_ns = 0
        self._reaped = False

    def has_ended(self) -> bool:
        """Whether it has. Raises OSError in a sandbox where that cannot be asked."""
        try:
            ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        except ChildProcessError:  # somebody else has waited for it
            self._reaped = True
        else:
            if ended is None:
                return False
            killed = ended.si_code != os.CLD_EXITED
            self._take(ended.si_status if killed else None, ended.si_status)
        self.ended_ns = monotonic_ns()
        return True

    def wait(self) -> None:
        """Until it has ended, reaping it: all that is left where `has_ended` fails."""
        if self._reaped:
            return
        _, status = os.waitpid(self.pid, 0)
        self._reaped = True
        code = os.waitstatus_to_exitcode(status)
        self._take(-code if code < 0 else None, code)
        self.ended_ns = monotonic_ns()

    def reap(self) -> None:
        """Let it go."""
        if not self._reaped:
            self._reaped = True
            with suppress(OSError):
                os.waitpid(self.pid, 0)

    def _take(self, signo: int | None, code: int) -> None:
        self.signal = signo
        self.exit_code = code if signo is None else 128 + signo
