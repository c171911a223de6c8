"""Who else got a signal: a tiny process in our group that tells what arrives there as well.

A signal may be sent to the wrapper alone, and is then passed on to the job; or to the whole process
group (a terminal's Ctrl-C, `kill %1`, `kill 0` by the job itself, `fg`) or to every process of a
Slurm step, and then the job has it already and must not get it twice. `siginfo` does not tell one
from the other; a third process that got it too does. Standard library only.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Collection
from contextlib import suppress

# Between the first and the last process that a group's signal reaches lie microseconds; a Slurm
# daemon that signals one process after the other takes a little longer, and on a node whose cores
# are all busy the witness waits for one.
_DELAY_S = 0.1


class Witness:
    """A fork of ours that reports every one of `signals` it gets, and ends when we do."""

    def __init__(self, signals: Collection[signal.Signals]) -> None:
        self._seen: set[int] = set()
        self.pid: int | None = None
        self._reports, report = os.pipe()
        end, self._life = os.pipe()
        os.set_blocking(self._reports, False)
        os.set_blocking(report, False)
        try:
            pid = os.fork()
        except OSError:  # no process to spare: every signal is passed on
            pid = -1
        if pid == 0:
            try:
                _report(signals, report, end)
            finally:
                os._exit(0)
        os.close(report)
        os.close(end)
        if pid > 0:
            self.pid = pid

    def saw(self, signo: int) -> bool:
        """Whether the signal that we have just got was sent to others of our group, too."""
        self._take()
        if signo not in self._seen and self.pid is not None:
            select.select([self._reports], [], [], _DELAY_S)
            self._take()
        seen = signo in self._seen
        self._seen.discard(signo)
        return seen

    def dismiss(self) -> None:
        """End it and wait for its end."""
        os.close(self._life)
        os.close(self._reports)
        if self.pid is not None:
            with suppress(ChildProcessError):
                os.waitpid(self.pid, 0)

    def _take(self) -> None:
        with suppress(BlockingIOError):
            self._seen.update(os.read(self._reports, 256))


def _report(signals: Collection[signal.Signals], report: int, end: int) -> None:
    """In the fork: write the number of each signal to `report` until `end` is closed."""
    os.dup2(end, 0)
    os.dup2(report, 1)
    # Whoever reads the job's output must see its end, and the pipes of our parent must close.
    os.close(2)
    os.closerange(3, 256)
    os.set_blocking(1, False)
    signal.set_wakeup_fd(1, warn_on_full_buffer=False)
    for signo in signals:
        signal.signal(signo, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.read(0, 1)
