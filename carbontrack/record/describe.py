"""Where a run came from: git, user, boot."""

from __future__ import annotations

import getpass
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_GIT_S = 2.0  # what a large repository on a slow disk may take


def ask_git(cwd: str) -> Callable[[], tuple[str | None, bool | None]]:
    """Ask git beside us. The answer: (commit, whether tracked files differ from it), each None
    where it is not known, as outside a repository.
    """
    commit = _start_git(cwd, "rev-parse", "HEAD")
    status = _start_git(cwd, "status", "--porcelain", "--untracked-files=no")

    def answer() -> tuple[str | None, bool | None]:
        deadline_s = time.monotonic() + _GIT_S
        said, changed = _said(commit, deadline_s), _said(status, deadline_s)
        return said, None if said is None or changed is None else bool(changed)

    return answer


def _start_git(cwd: str, *arguments: str) -> subprocess.Popen[str] | None:
    with suppress(OSError):
        return subprocess.Popen(
            ["git", "--no-optional-locks", *arguments],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    return None


def _said(git: subprocess.Popen[str] | None, deadline_s: float) -> str | None:
    """What it printed; None if it failed or takes too long."""
    if git is None:
        return None
    with git:
        try:
            text, _ = git.communicate(timeout=max(0.0, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            git.kill()
            return None
    return text.strip() if git.returncode == 0 else None


def user() -> str:
    """Who runs this; a container may run under a number without a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def boot_id() -> str | None:
    """This boot of this machine: monotonic times compare only within it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
