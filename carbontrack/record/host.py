"""Who and where: the user, the machine and its boot."""

from __future__ import annotations

import getpass
from pathlib import Path

_MAX_CHARS = 256


def user() -> str:
    """Who runs this; a container may run under a number without a name."""
    try:
        return getpass.getuser()[:_MAX_CHARS]
    except (KeyError, OSError, ImportError):
        return "unknown"


def boot_id() -> str | None:
    """This boot of this machine: monotonic times compare only within it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (OSError, ValueError):
        return None
