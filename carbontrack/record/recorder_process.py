"""The recorder as a process: how the wrapper, `attach` and `track()` start it and end it.

Standard library only. Nothing here may fail or block whoever is recorded.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from carbontrack.units import now_ms

# Long enough for a busy machine to write the last windows; the recorder's own limits are shorter.
GRACE_S = 5.0


class RecorderProcess:
    """Our end of the recorder: one pipe, on which it is told the plan and then the outcome.

    It starts at once, and records when it knows what.
    """

    def __init__(self, steps: LockedSteps | None) -> None:
        self._pid: int | None = None
        self._pipe = -1
        self._steps = steps
        try:
            self._pid, self._pipe = _spawn(
                "carbontrack.record", keep=steps.descriptor if steps else None
            )
        except OSError as error:
            warn(f"this run is not recorded: the recorder cannot start: {error.strerror}.")
            return
        finally:
            if steps is not None:
                os.close(steps.descriptor)  # from now on the recorder alone holds the lock
        _pipes.add(self._pipe)
        os.set_blocking(self._pipe, False)

    @property
    def pid(self) -> int | None:
        """None if it could not be started."""
        return self._pid

    def begin(self, plan: dict[str, Any]) -> None:
        """Tell it what to record."""
        if self._pid is not None:
            self._send(plan)

    def discard(self) -> None:
        """End it before it has anything to record."""
        if self._pid is not None:
            self._close()
            os.kill(self._pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(self._pid, 0)

    def end(self, outcome: dict[str, Any]) -> None:
        """Tell it how the job ended and give it a moment to write that down."""
        if self._pid is None:
            return
        self._send(outcome)
        self._close()
        if not _ends_within(self._pid, GRACE_S):
            warn("the recorder is slow to finish and goes on in the background.")
            return
        with suppress(ChildProcessError):
            _, status = os.waitpid(self._pid, 0)
            if status:
                warn("the recorder failed; what it had committed is in the ledger.")
                remove_steps_file(self._steps.path if self._steps else None)

    def _close(self) -> None:
        _pipes.discard(self._pipe)
        os.close(self._pipe)

    def _send(self, message: dict[str, Any]) -> None:
        with suppress(OSError):  # it has died; `end` says so
            os.write(self._pipe, json.dumps(message).encode() + b"\n")


# Pipes of recorders that watch this process: one that it forks must not keep them from closing.
_pipes: set[int] = set()


def _close_pipes() -> None:
    for pipe in _pipes:
        os.close(pipe)
    _pipes.clear()


os.register_at_fork(after_in_child=_close_pipes)


def start_live_page(run_id: str, db: str) -> None:
    """Serve the run's page until this process ends and with it our end of the pipe."""
    try:
        _spawn("dashboards.live", run_id, db)
    except OSError as error:
        warn(f"no live page: {error.strerror}.")


def _spawn(module: str, *arguments: str, keep: int | None = None) -> tuple[int, int]:
    """A Python process of ours beside the job: its pid, and the pipe that is its stdin.

    The descriptor `keep` stays open in it.
    """
    read_end, pipe = os.pipe()
    null = os.open(os.devnull, os.O_WRONLY)
    # dup2 makes a descriptor survive the exec; onto the next free one it overwrites nothing.
    kept = [] if keep is None else [(os.POSIX_SPAWN_DUP2, keep, max(keep, read_end, null) + 1)]
    try:
        pid = os.posix_spawn(
            sys.executable,
            # -P: a file of the job's folder must not pass for a module of ours.
            [sys.executable, "-P", "-m", module, *arguments],
            os.environ,
            file_actions=[
                *kept,
                (os.POSIX_SPAWN_DUP2, read_end, 0),
                (os.POSIX_SPAWN_DUP2, null, 1),  # readers of the job's stdout must see its end
            ],
            # Out of reach of Ctrl-C and Ctrl-Z. Until it is, our blocked signals shield it.
            setsid=True,
            setsigdef=[signal.SIGPIPE, signal.SIGCHLD],
        )
    except OSError:
        os.close(pipe)
        raise
    finally:
        os.close(read_end)
        os.close(null)
    return pid, pipe


@dataclass(frozen=True, slots=True)
class LockedSteps:
    """A file of the run's own, in which the job says how it is doing.

    As long as the run is recorded, the recorder holds a lock on it through `descriptor`.
    """

    path: str
    descriptor: int


def make_steps_file(run_id: str) -> LockedSteps | None:
    """The file, locked; None, and a word about it, if there can be none."""
    base = os.environ.get("XDG_RUNTIME_DIR") or os.environ.get("TMPDIR") or "/tmp"
    folder = f"{base}/carbontrack-{run_id}"
    path = f"{folder}/steps.jsonl"
    try:
        os.mkdir(folder, 0o700)  # noqa: PTH102 - pathlib costs 8 ms here
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        warn(f"training steps will not be recorded: cannot create {path}: {error.strerror}.")
        return None
    with suppress(OSError):  # a file system without locks
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return LockedSteps(path, descriptor)


def remove_steps_file(path: str | None) -> None:
    """The file with the folder that was made for it, if there is one."""
    if path is not None:
        with suppress(OSError):
            os.unlink(path)  # noqa: PTH108
            os.rmdir(os.path.dirname(path))  # noqa: PTH106, PTH120


def is_recorded_already() -> bool:
    """Whether a recorder above us counts this node's devices now: one run, not two.

    The file alone does not say so: after `kill -9` of the recorder it stays, the lock does not.
    """
    path = os.environ.get("CARBONTRACK_STEPS")
    if path is None or "CARBONTRACK_RUN_ID" not in os.environ:
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def uuid7() -> str:
    """A UUID version 7 (RFC 9562): sorts by time, unique without a server."""
    value = now_ms() << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    digits = f"{value:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def warn(message: str) -> None:
    """One line on stderr; a closed stderr is nobody's problem."""
    with suppress(OSError):
        os.write(2, f"carbontrack: {message}\n".encode())


def _ends_within(pid: int, timeout_s: float) -> bool:
    try:
        descriptor = os.pidfd_open(pid)
    except (AttributeError, OSError):  # an old kernel: look now and then
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None:
                return True
            time.sleep(0.01)
        return False
    try:
        return bool(select.select([descriptor], [], [], timeout_s)[0])
    finally:
        os.close(descriptor)
