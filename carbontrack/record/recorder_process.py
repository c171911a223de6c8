"""The recorder as a process: how the wrapper, `attach` and `track()` start it and end it.

Standard library only. Nothing here may fail or block the job: a method that fails warns.
"""

from __future__ import annotations

import _signal
import os
import select
import time
from contextlib import suppress

from carbontrack.record.own_process import close_in_children, leave_to_children, spawn
from carbontrack.record.steps_file import LockedSteps, remove_steps_file
from carbontrack.record.warning import harmless, warn, warn_of_slow_recorder

TYPE_CHECKING = False  # `typing` costs 15 ms, and the recorder's start waits for this
if TYPE_CHECKING:
    from typing import Any

    from carbontrack.record.cpu_wait import CpuWait

_LOOK_S = 0.05


class RecorderProcess:
    """Our end of the recorder: one pipe, which takes the plan and then the outcome.

    It starts at once, and records as soon as it has a plan. The `rendezvous` is open in it, too: a
    name that either gives it is the name for both.
    """

    def __init__(self, steps: LockedSteps | None, rendezvous_fd: int | None = None) -> None:
        self.pid: int | None = None  # None if it could not be started
        self._status: int | None = None  # once it was waited for
        self._pipe = -1
        self._unsent = b""
        self._steps = steps
        self._handed: dict[str, int] = {}  # what is open in it, by the names of the plan
        self._plan: dict[str, Any] = {}
        keep: dict[str, int] = {}
        if steps is not None:
            keep["steps_fd"] = steps.descriptor
        if rendezvous_fd is not None:
            keep["rendezvous_fd"] = rendezvous_fd
        with harmless("this run is not recorded: the recorder cannot start"):
            module = "carbontrack.record"
            self.pid, self._pipe, numbers = spawn(module, keep=list(keep.values()))
            self._handed = dict(zip(keep, numbers, strict=True))
            close_in_children(self._pipe)
            os.set_blocking(self._pipe, False)
        if steps is not None:
            with suppress(OSError):
                os.close(steps.descriptor)  # from now on the recorder alone holds the lock

    def begin(self, plan: dict[str, Any]) -> None:
        """Give it its plan; what the pipe does not take yet, `flush` sends."""
        from carbontrack.record.cut import cut_command  # it needs none to start

        with harmless("this run is not recorded"):
            self._plan = plan
            self._send({**plan, "command": cut_command(plan["command"]), **self._handed})

    def flush(self, timeout_s: float = 0.0) -> bool:
        """Send what the pipe has not taken so far; whether that is all."""
        give_up_s = time.monotonic() + timeout_s
        while self._unsent:
            try:
                sent = os.write(self._pipe, self._unsent)
            except BlockingIOError:
                sent = 0
            except BrokenPipeError:  # it has died; `end` says so
                self._unsent = b""
                break
            self._unsent = self._unsent[sent:]
            if self._unsent and not self._is_writable(give_up_s - time.monotonic()):
                break
        return not self._unsent

    def discard(self) -> None:
        """End it before it has anything to record."""
        if self.pid is not None:
            self._close()
            with suppress(OSError):
                os.kill(self.pid, _signal.SIGKILL)
                os.waitpid(self.pid, 0)

    def reaped(self, pid: int, status: int) -> None:
        """A child of this process has ended with this status; if it is the recorder, `end` says
        what that means. Its pid may soon be another process's.
        """
        if pid == self.pid:
            self._status = status

    def end(self, outcome: dict[str, Any]) -> None:
        """Send how the job ended, and wait a moment until it has written that; or, where it goes on
        for other wrappers of the run, until it lets us go.
        """
        if self.pid is None:
            return
        if self._status is None:
            self._status = self._last_status(self.pid, outcome)
        self._close()
        if self._status:
            warn("the recorder failed; what it had committed is in the ledger.")
            remove_steps_file(self._steps.path if self._steps else None)

    def _last_status(self, pid: int, outcome: dict[str, Any]) -> int | None:
        """With which it ends; None if it goes on, or that is unknown."""
        in_time = released = False
        ends_with_wrapper = outcome.get("ends_with_wrapper", False)
        with harmless("the end of this run may not be recorded"):
            from carbontrack.record.cpu_wait import CpuWait
            from carbontrack.record.grace import grace_s

            cpu = CpuWait(pid)
            self._send(outcome)
            grace = grace_s(ends_with_wrapper=ends_with_wrapper)
            self.flush(grace[0])
            in_time = _ends_in_time(pid, grace, cpu, self._pipe)
            released = _is_closed(self._pipe)
        self._close()  # it leaves the job's stderr
        with harmless("the recorder cannot be waited for"):
            from carbontrack.record.process_end import is_running

            if in_time and released and is_running(pid):
                return None
            if not in_time:
                # If it was stopped (SIGSTOP), it would stay so, with the job's stderr open.
                os.kill(pid, _signal.SIGCONT)
                warn_of_slow_recorder(self._plan, ends_with_wrapper=ends_with_wrapper)
                return None
        with suppress(OSError):
            return os.waitpid(pid, os.WNOHANG)[1]
        return None

    def _send(self, message: dict[str, Any]) -> None:
        if self.pid is not None:
            import json

            self._unsent += json.dumps(message, default=str).encode() + b"\n"
            self.flush()

    def _is_writable(self, timeout_s: float) -> bool:
        writable = select.poll()
        writable.register(self._pipe, select.POLLOUT)
        return bool(writable.poll(max(0.0, timeout_s) * 1000))

    def _close(self) -> None:
        if self._pipe >= 0:
            leave_to_children(self._pipe)
            with suppress(OSError):
                os.close(self._pipe)
            self._pipe = -1


def _ends_in_time(pid: int, grace: tuple[float, float], cpu: CpuWait, pipe: int) -> bool:
    """Whether it ends or lets us go within the grace, which a busy machine prolongs."""
    from carbontrack.record.process_end import ProcessEnd

    try:
        end = ProcessEnd(pid)
    except ProcessLookupError:
        return True
    began_s = time.monotonic()
    left_s, longest_s = grace
    try:
        while left_s > 0:
            if end.wait(min(left_s, _LOOK_S), pipe=pipe) or _is_closed(pipe):
                return True
            waited_s = time.monotonic() - began_s
            left_s = min(grace[0] + cpu.since_s(), longest_s) - waited_s
        return False
    finally:
        end.close()


def _is_closed(pipe: int) -> bool:
    """Whether the recorder has closed its end: it needs us no longer, or it has ended."""
    closed = select.poll()
    closed.register(pipe, 0)
    return bool(closed.poll(0))


def start_live_page(run_id: str, db: str) -> None:
    """Serve the run's page until this process ends and with it our end of the pipe."""
    with harmless("no live page"):
        import json

        _, pipe, _ = spawn("dashboards.live")
        close_in_children(pipe)
        os.set_blocking(pipe, False)
        os.write(pipe, json.dumps({"run_id": run_id, "db": db}).encode() + b"\n")
