"""The git commit of a folder, asked beside us: bounded in time and size, running no code of its."""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

_LIMIT_S = 2.0  # what a large repository on a slow disk may take
_MOMENT_S = 0.1
_MAX_BYTES = 65_536
# What a repository's own configuration could make git run; nothing is fetched, asked or written.
_SAFE = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "--no-optional-locks")
_ENVIRON = {"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none", "GIT_TERMINAL_PROMPT": "0"}
_FILTERS = ("config", "--show-scope", "--get-regexp", r"^filter\..*\.(clean|process)$")
_COMMIT = re.compile(r"[0-9a-f]{40,64}")
_OWN_SCOPES = (b"local", b"worktree")
_STATUS = ("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all")


def ask_git(folder: str) -> Callable[[], tuple[str | None, bool | None]]:
    """Ask git beside us. The answer: (commit, whether tracked files differ from it), each None if
    unknown, as outside a repository.

    Whether files differ is not asked where the repository brings filters of its own: they are
    programs, and to compare a file runs them.
    """
    give_up_s = time.monotonic() + _LIMIT_S
    commit = _Git(folder, "rev-parse", "HEAD")
    filters = _Git(folder, *_FILTERS)

    def answer() -> tuple[str | None, bool | None]:
        found = (commit.output(give_up_s) or b"").decode("ascii", "replace").strip()
        scopes = filters.output(give_up_s, ok=(0, 1))  # 1: there are none
        if not _COMMIT.fullmatch(found):
            return None, None
        if scopes is None or any(line.startswith(_OWN_SCOPES) for line in scopes.splitlines()):
            return found, None
        changed = _Git(folder, *_STATUS).output(give_up_s)
        return found, None if changed is None else bool(changed)

    return answer


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
            )

    def output(self, give_up_s: float, ok: Sequence[int] = (0,)) -> bytes | None:
        """What it printed, up to a bound; None if it failed or takes too long."""
        process = self._process
        if process is None or process.stdout is None:
            return None
        text = b""
        with process.stdout as pipe:
            while len(text) < _MAX_BYTES and _readable(pipe.fileno(), give_up_s):
                block = os.read(pipe.fileno(), _MAX_BYTES)
                if not block:
                    with suppress(subprocess.TimeoutExpired):
                        code = process.wait(max(0.0, give_up_s - time.monotonic()))
                        return text if code in ok else None
                    break
                text += block
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_MOMENT_S)  # no longer: a file system that does not answer holds it
        return text if len(text) >= _MAX_BYTES else None


def _readable(descriptor: int, give_up_s: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0.0, give_up_s - time.monotonic()) * 1000))
