"""Who runs this program: whose a run is, and who changes what is said of one."""

from __future__ import annotations

import getpass

_MAX_CHARS = 256


def user() -> str:
    """Who runs this; a container may run under a number without a name."""
    try:
        return getpass.getuser()[:_MAX_CHARS]
    except (KeyError, OSError, ImportError):
        return "unknown"
