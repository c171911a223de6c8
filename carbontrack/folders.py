"""The user's folders, by the XDG Base Directory Specification. Light: a job waits for it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from carbontrack.errors import CarbontrackError


class NoHome(CarbontrackError):
    """The user has no home folder."""


def user_data() -> str:
    """Where our data is. Raises NoHome."""
    return _of("XDG_DATA_HOME", ".local/share")


def user_config() -> str:
    """Where our settings are. Raises NoHome."""
    return _of("XDG_CONFIG_HOME", ".config")


def runtime_folders(environ: Mapping[str, str]) -> list[str]:
    """Where short-lived files may go, best first. A variable may name what another machine has:
    srun hands on the login node's XDG_RUNTIME_DIR.
    """
    named = (environ.get("XDG_RUNTIME_DIR"), environ.get("TMPDIR"))
    found = [*named, "/tmp", "/var/tmp", "/dev/shm"]
    return list(dict.fromkeys(f for f in found if f and f.startswith("/")))


def working_folder() -> str:
    """Where this process works; empty where that folder was removed."""
    try:
        return os.getcwd()  # noqa: PTH109 - pathlib costs 8 ms here
    except OSError:
        return ""


def absolute(path: str) -> str:
    """The path from the root on; `..` stays, for it may follow a link. Raises CarbontrackError
    where it begins at the working folder, and that was removed.
    """
    if path.startswith("/"):
        return path
    if not (folder := working_folder()):
        raise CarbontrackError(
            f"{path}: the working directory was removed.",
            hint="Change to another, or give an absolute path.",
        )
    return f"{folder}/{path}"


def _of(variable: str, usual: str) -> str:
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
            raise NoHome(
                "There is no home folder for the ledger and settings.",
                hint="Set HOME, or XDG_DATA_HOME and XDG_CONFIG_HOME.",
            ) from None
    return home.rstrip("/")
