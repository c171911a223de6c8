"""Which signals reached others, too: a tiny process in our group that reports what it gets.

A signal may be sent to the wrapper alone, and is then passed on to the job; or to the whole process
group (a terminal's Ctrl-C, `kill %1`, `kill 0` by the job itself, `fg`) or to every process of a
Slurm step, and then the job has it already and must not get it twice. `siginfo` does not tell one
from the other; a third process that got it too does. Standard library only.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Collection
from contextlib import suppress

# Between the first and the last process that a group's signal reaches lie microseconds; a Slurm
# daemon that signals one process after the other takes a little longer.
_DELAY_S = 0.1
_LONGEST_S = 2.0  # on a node whose cores are all busy the witness waits for one


class SignalWitness:
    """A fork of ours that reports every one of `signals` it gets, and ends when we do."""

    def __init__(self, signals: Collection[signal.Signals]) -> None:
        """Raises OSError where there is no process or descriptor to spare."""
        self._seen: set[int] = set()
        self._has_ended = False
        opened: list[int] = []
        try:
            opened += os.pipe()
            opened += os.pipe()
            self._reports, report, end, self._life = opened
            os.set_blocking(self._reports, False)
            os.set_blocking(report, False)
            self._pid = os.fork()
        except OSError:
            for descriptor in opened:
                os.close(descriptor)
            raise
        if self._pid == 0:
            try:
                _report(signals, report, end)
            finally:
                os._exit(0)
        os.close(report)
        os.close(end)

    def saw(self, signo: int) -> bool:
        """Whether the signal that we have just got was sent to others of our group, too."""
        self._take()
        # Not select(), which cannot take a descriptor above 1023.
        reported = select.poll()
        reported.register(self._reports, select.POLLIN)
        give_up_s = time.monotonic() + _LONGEST_S
        while signo not in self._seen:
            had_no_cpu = _waits_for_cpu(self._pid) and time.monotonic() < give_up_s
            if not reported.poll(_DELAY_S * 1000):
                if not had_no_cpu:
                    break
            elif not self._take():  # it has died
                break
        seen = signo in self._seen
        self._seen.discard(signo)
        return seen

    def reaped(self, pid: int) -> None:
        """A child of this process has ended, and its pid is free."""
        self._has_ended |= pid == self._pid

    def dismiss(self) -> None:
        """End it and wait for its end."""
        os.close(self._life)
        os.close(self._reports)
        if not self._has_ended:
            with suppress(ChildProcessError):
                os.waitpid(self._pid, 0)

    def _take(self) -> bool:
        """Whether it has reported anything."""
        reports = b""
        with suppress(BlockingIOError):
            reports = os.read(self._reports, 256)
        self._seen.update(reports)
        return bool(reports)


def _waits_for_cpu(pid: int) -> bool:
    with suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
        return file.read().rpartition(b")")[2].split()[0] == b"R"
    return False


def _report(signals: Collection[signal.Signals], report: int, end: int) -> None:
    """In the fork: write the number of each signal to `report` until `end` is closed."""
    os.dup2(end, 0)
    os.dup2(report, 1)
    # A reader of the job's output must see its end, and the pipes of our parent must close.
    os.close(2)
    for descriptor in os.listdir("/proc/self/fd"):  # noqa: PTH208 - numbers, not paths
        if int(descriptor) > 2:
            with suppress(OSError):  # the descriptor of this very listing is closed again
                os.close(int(descriptor))
    os.set_blocking(1, False)
    signal.set_wakeup_fd(1, warn_on_full_buffer=False)
    for signo in signals:
        signal.signal(signo, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.read(0, 1)
