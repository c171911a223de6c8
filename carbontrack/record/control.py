"""The recorder's end of what the wrappers say: the plan, who joins, how each job ended.

One wrapper started the recorder and speaks through a pipe; others of its run may join by a socket
(`rendezvous.py`). A thread hears them, so that the end of the last job is noticed whatever the rest
is stuck in: a file system that does not answer, a server, a driver.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from carbontrack.record import deadline
from carbontrack.record.messages import Outcome, Plan, joint

if TYPE_CHECKING:
    from socket import socket

    from carbontrack.record.guest import Guest, GuestWrapper

# After the job's end, when the kernel ends us, but for the time that we waited for a CPU: 300
# recorders on two cores need half of that for their last write.
DEADLINE_S = 60.0
# The job's stderr is left when the wrapper waits no longer, since its readers wait for its end; and
# so long after the wrapper was killed.
LEAVE_STDERR_S = 1.0
_MOMENT_S = 0.1
_PIECE = 1 << 16


class Control(threading.Thread):
    """What the wrappers say: the plan, then nothing while the jobs run, then their outcomes."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(name="control", daemon=True)
        self._host = _Host(descriptor)
        self._guests: dict[int, GuestWrapper] = {}  # those that have not ended
        self._listener: socket | None = None
        self._planned = threading.Event()
        self._ended = threading.Event()
        self._outcomes: list[Outcome | None] = []  # of those that have
        self._joined: list[Guest] = []  # since the last `joined`
        self._last: _Host | GuestWrapper = self._host
        self._release = os.eventfd(0, os.EFD_CLOEXEC)
        self.save: Callable[[], None] = lambda: None  # what is held, before we are ended
        # A parent that ignores alarms hands that on.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def run(self) -> None:
        try:
            self._hear()
        finally:
            self._planned.set()
            self._ended.set()
            deadline.start(self._deadline_s(), lambda: self.save())
        if self._last.outcome is not None:
            self._wait_for_last()
        else:
            threading.Event().wait(LEAVE_STDERR_S)
        _leave_stderr()
        self._last.leave()

    def plan(self) -> Plan | None:
        """What to record. None if it turned out to be nothing."""
        self._planned.wait()
        return self._host.plan

    def wait(self, timeout_s: float) -> bool:
        """Whether all jobs have ended, or their wrappers were killed, after waiting so long."""
        return self._ended.wait(timeout_s)

    def has_ended(self) -> bool:
        """Whether all jobs have ended, or their wrappers were killed."""
        return self._ended.is_set()

    def release(self) -> None:
        """Let the last wrapper go, and its stderr: what is left to do is not its concern."""
        os.eventfd_write(self._release, 1)
        self.join(_MOMENT_S)  # else what comes next would keep the interpreter from that

    def joined(self) -> list[Guest]:
        """Those that have joined since the last call."""
        guests, self._joined = self._joined, []
        return guests

    @property
    def outcome(self) -> Outcome | None:
        """How the jobs ended; None if that is not known, or before that."""
        return joint(self._outcomes) if self.has_ended() else None

    def _deadline_s(self) -> float:
        outcome = self.outcome
        if outcome is None or not outcome.ends_with_wrapper:
            return DEADLINE_S
        from carbontrack.record.grace import grace_s

        return max(DEADLINE_S, grace_s(ends_with_wrapper=True)[0] + LEAVE_STDERR_S)

    def _wait_for_last(self) -> None:
        """Until the last wrapper is gone, or is let go."""
        ready = select.poll()
        ready.register(self._release, select.POLLIN)
        ready.register(self._last.descriptor, select.POLLIN)
        while not any(fd == self._release for fd, _ in ready.poll()) and self._last.listens():
            pass

    def _hear(self) -> None:
        """Until the last job has ended."""
        ready = select.poll()
        ready.register(self._host.descriptor, select.POLLIN)
        while True:
            for descriptor, _ in ready.poll():
                if descriptor == self._host.descriptor:
                    self._hear_host(ready)
                elif self._listener is not None and descriptor == self._listener.fileno():
                    self._accept(ready)
                else:
                    self._hear_guest(descriptor, ready)
            if self._host.has_ended and not self._guests:
                self._accept(ready)  # who has just come
                if not self._guests:
                    break
            if self._host.has_ended and self._last is self._host:
                self._release_host()
        if self._listener is not None:
            self._listener.close()

    def _hear_host(self, ready: select.poll) -> None:
        self._host.read()
        if self._host.plan is not None and not self._planned.is_set():
            self._planned.set()
            if self._host.plan.rendezvous_fd is not None:
                from socket import socket  # few runs need it

                self._listener = socket(fileno=self._host.plan.rendezvous_fd)
                self._listener.setblocking(False)
                ready.register(self._listener.fileno(), select.POLLIN)
        if self._host.has_ended:
            ready.unregister(self._host.descriptor)
            self._outcomes.append(self._host.outcome)

    def _release_host(self) -> None:
        """Its wrapper waits no longer: we go on for the others."""
        self._last = next(iter(self._guests.values()))
        _leave_stderr()
        self._host.leave()

    def _accept(self, ready: select.poll) -> None:
        while self._listener is not None:
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:  # no more
                return
            except OSError:  # it was never named: poll would say so again at once, and for ever
                ready.unregister(self._listener.fileno())
                self._listener.close()
                self._listener = None
                return
            from carbontrack.record.guest import GuestWrapper

            guest = GuestWrapper(connection)
            if not guest.is_ours:
                guest.close()
                continue
            self._guests[guest.descriptor] = guest
            ready.register(guest.descriptor, select.POLLIN)

    def _hear_guest(self, descriptor: int, ready: select.poll) -> None:
        guest = self._guests[descriptor]
        if (joins := guest.read()) is not None:
            self._joined.append(joins)
        if not guest.has_ended:
            return
        ready.unregister(descriptor)
        del self._guests[descriptor]
        if guest.has_joined:
            self._outcomes.append(guest.outcome)
        if guest.has_joined and self._host.has_ended and not self._guests:
            self._last = guest
            guest.take_stderr()
        else:
            guest.close()


class _Host:
    """The wrapper that started us, at the other end of our stdin."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.plan: Plan | None = None
        self.outcome: Outcome | None = None
        self.has_ended = False
        self._unread = b""

    def read(self) -> None:
        data = os.read(self.descriptor, _PIECE)
        self.has_ended = not data
        *lines, self._unread = (self._unread + data).split(b"\n")
        try:
            for line in lines:
                if self.plan is None:
                    self.plan = Plan.from_json(line)
                else:
                    self.outcome = Outcome.from_json(line)
                    self.has_ended = True
        except (ValueError, LookupError, TypeError):  # it says why, and there is nothing to record
            self.has_ended = True

    def listens(self) -> bool:
        """Whether it still waits for us, of something that can be read."""
        return bool(os.read(self.descriptor, _PIECE))

    def leave(self) -> None:
        """Close our end, so that it sees that it need not wait."""
        _replace(self.descriptor, os.O_RDONLY)


def _leave_stderr() -> None:
    _replace(2, os.O_WRONLY)


def _replace(descriptor: int, access: int) -> None:
    """Let go of what it is open on."""
    with suppress(OSError):
        null = os.open(os.devnull, access | os.O_CLOEXEC)
        os.dup2(null, descriptor)
        os.close(null)
