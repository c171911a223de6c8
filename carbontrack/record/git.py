"""The git commit of a folder, asked beside us: bounded in time and size, running no code of its."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

_LIMIT_S = 2.0  # what a large repository on a slow disk may take
_LIMIT_AFTER_END_S = 0.7  # once the job has ended, and its prompt waits
_LOOK_S = 0.05
_MOMENT_S = 0.1
_MAX_BYTES = 65_536
# What a repository's own configuration could make git run; nothing is fetched, asked or written.
_SAFE = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "--no-optional-locks")
_ENVIRON = {"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none", "GIT_TERMINAL_PROMPT": "0"}
_FILTERS = ("config", "--show-scope", "--get-regexp", r"^filter\..*\.(clean|process)$")
_COMMIT = re.compile(r"[0-9a-f]{40,64}")
_OWN_SCOPES = (b"local", b"worktree")
_STATUS = ("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all")


def ask_git(
    folder: str, has_ended: Callable[[], bool] = lambda: False
) -> Callable[[], tuple[str | None, bool | None]]:
    """Ask git beside us. The answer: (commit, whether tracked files differ from it), each None if
    unknown, as outside a repository, or where git is slower than we wait: less once the job
    `has_ended`.

    Whether files differ is not asked where the repository brings filters of its own: they are
    programs, and to compare a file runs them.
    """
    patience = _Patience(has_ended)
    commit = _Git(folder, "rev-parse", "HEAD")
    filters = _Git(folder, *_FILTERS)

    def answer() -> tuple[str | None, bool | None]:
        found = (commit.output(patience) or b"").decode("ascii", "replace").strip()
        scopes = filters.output(patience, ok=(0, 1))  # 1: there are none
        if not _COMMIT.fullmatch(found):
            return None, None
        if scopes is None or any(line.startswith(_OWN_SCOPES) for line in scopes.splitlines()):
            return found, None
        changed = _Git(folder, *_STATUS).output(patience)
        return found, None if changed is None else bool(changed)

    return answer


class _Patience:
    """How long git may yet take."""

    def __init__(self, has_ended: Callable[[], bool]) -> None:
        self._has_ended = has_ended
        self._give_up_s = time.monotonic() + _LIMIT_S
        self._after_end = False

    def left_s(self) -> float:
        """0 when it is over; ask again after `_LOOK_S`."""
        now_s = time.monotonic()
        if not self._after_end and self._has_ended():
            self._after_end = True
            self._give_up_s = min(self._give_up_s, now_s + _LIMIT_AFTER_END_S)
        return max(0.0, self._give_up_s - now_s)

    def until_readable(self, descriptor: int) -> bool:
        """Whether it is, before patience is over."""
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while (left_s := self.left_s()) > 0:
            if poll.poll(min(left_s, _LOOK_S) * 1000):
                return True
        return False


class _Git:
    """One git command that runs beside us."""

    def __init__(self, folder: str, *arguments: str) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        with suppress(OSError, ValueError):
            self._process = subprocess.Popen(
                ["git", *_SAFE, *arguments],
                cwd=folder or None,
                env={**os.environ, **_ENVIRON},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                process_group=0,  # to be killed with whatever it starts
            )

    def output(self, patience: _Patience, ok: Sequence[int] = (0,)) -> bytes | None:
        """What it printed, up to a bound; None if it failed or takes too long."""
        process = self._process
        if process is None or process.stdout is None:
            return None
        text = b""
        with process.stdout as pipe:
            while len(text) < _MAX_BYTES and patience.until_readable(pipe.fileno()):
                block = os.read(pipe.fileno(), _MAX_BYTES)
                if not block:
                    with suppress(subprocess.TimeoutExpired):
                        code = process.wait(patience.left_s())
                        return text if code in ok else None
                    break
                text += block
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_MOMENT_S)  # no longer: a file system that does not answer holds it
        return text if len(text) >= _MAX_BYTES else None
