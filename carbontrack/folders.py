"""The user's folders, by the XDG Base Directory Specification. Light: a job waits for it."""

from __future__ import annotations

import os

from carbontrack.errors import CarbontrackError


def user_data() -> str:
    """Where our data is."""
    return _of("XDG_DATA_HOME", ".local/share")


def user_config() -> str:
    """Where our settings are."""
    return _of("XDG_CONFIG_HOME", ".config")


def _of(variable: str, usual: str) -> str:
    """Raises CarbontrackError where there is no home folder."""
    base = os.environ.get(variable, "")
    if not base.startswith("/"):  # one that is not absolute is invalid, and is to be ignored
        base = f"{_home()}/{usual}"
    return f"{base.rstrip('/')}/carbontrack"


def _home() -> str:
    home = os.environ.get("HOME", "")
    if not home.startswith("/"):
        import pwd

        try:
            home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            raise CarbontrackError(
                "There is no home folder for the ledger and settings.",
                hint="Set HOME, or XDG_DATA_HOME and XDG_CONFIG_HOME.",
            ) from None
    return home.rstrip("/")
