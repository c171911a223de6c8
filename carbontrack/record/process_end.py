"""Waiting for the end of a process, its parent's or not ours."""

from __future__ import annotations

import os
import select
import time
from contextlib import suppress

_LOOK_S = 0.05


class ProcessEnd:
    """Notices when the process that has this pid now has ended, a zombie or gone."""

    def __init__(self, pid: int) -> None:
        """Raises ProcessLookupError if there is none."""
        self._pid = pid
        self._descriptor: int | None = None
        # Missing in Pythons that were built for an old C library (conda's), refused by old kernels
        # and some sandboxes.
        with suppress(AttributeError, OSError):
            self._descriptor = os.pidfd_open(pid)
        self._started = _started(pid)
        if self._started is None:
            self.close()
            raise ProcessLookupError(pid)

    def wait(self, timeout_s: float | None = None, *, pipe: int | None = None) -> bool:
        """Whether it has ended, after waiting for that so long, or for ever; or, where that can be
        seen, until the `pipe` to it is closed at its end.
        """
        give_up_s = None if timeout_s is None else time.monotonic() + timeout_s
        if self._descriptor is not None:
            ended = select.poll()
            ended.register(self._descriptor, select.POLLIN)
            if pipe is not None:
                ended.register(pipe, 0)
            found = ended.poll(None if timeout_s is None else max(0.0, timeout_s) * 1000)
            return any(descriptor == self._descriptor for descriptor, _ in found)
        while _started(self._pid) == self._started:
            left_s = _LOOK_S if give_up_s is None else give_up_s - time.monotonic()
            if left_s <= 0:
                return False
            time.sleep(min(_LOOK_S, left_s))
        return True

    def close(self) -> None:
        """Forget about it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def is_running(pid: int) -> bool:
    """Whether there is such a process that has not ended; a zombie has."""
    return _started(pid) is not None


def _started(pid: int) -> str | None:
    """When it started, in clock ticks since the boot; None if it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib costs 8 ms
            words = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if words[0] in (b"Z", b"X") else words[19].decode()
