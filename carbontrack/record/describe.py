"""What a run is called and where it came from: name, command without secrets, git, host."""

from __future__ import annotations

import getpass
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

_LAUNCHERS = re.compile(r"^(python[\d.]*|torchrun|accelerate|deepspeed|bash|sh|env|nohup|uv)$")
# Not "tokens": in training that is a number of words.
_SECRET_NAME = re.compile(
    r"(pass(word|wd)?|secrets?|token|(api|access)[-_]?keys?|credentials?)$", re.IGNORECASE
)
_URL_PASSWORD = re.compile(r"(://[^/@:\s]*:)[^/@\s]+@")


def default_name(command: Sequence[str]) -> str:
    """The program's name, or the script's or module's when the program only launches it."""
    for word in command:
        name = Path(word).name
        if word == "-c":  # what follows is code, not a name
            break
        if not word.startswith("-") and not _LAUNCHERS.match(name):
            return name
    return Path(command[0]).name


def redact(command: Sequence[str]) -> tuple[str, ...]:
    """The command with the values of options and variables named like secrets as ***."""
    shown: list[str] = []
    hide_next = False
    for word in command:
        name, equals, _ = word.partition("=")
        if hide_next and not word.startswith("-"):
            shown.append("***")
        elif equals and _SECRET_NAME.search(name):
            shown.append(f"{name}=***")
        else:
            shown.append(_URL_PASSWORD.sub(r"\1***@", word))
        hide_next = word.startswith("-") and not equals and bool(_SECRET_NAME.search(word))
    return tuple(shown)


def git_state(cwd: str) -> tuple[str | None, bool | None]:
    """(commit, whether tracked files differ from it); (None, None) outside a repository."""
    commit = _git(cwd, "rev-parse", "HEAD")
    if commit is None:
        return None, None
    status = _git(cwd, "status", "--porcelain", "--untracked-files=no")
    return commit, None if status is None else bool(status)


def _git(cwd: str, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", *arguments],
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=2,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def user() -> str:
    """Who runs this; a container may run under a number without a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def is_alive(pid: int) -> bool:
    """Whether this process still runs; one that has ended and waits for its parent does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def boot_id() -> str | None:
    """This boot of this machine: monotonic times compare only within it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
