"""The job as if we were not there: without our secrets, and in our place where nothing records it.

It imports no more of ours than a line on stderr takes, for it must work where the rest does not.
"""

from __future__ import annotations

import _signal  # `signal` makes enumerations of it, which costs 7 ms
import errno
import os
from contextlib import suppress

from carbontrack.record.warning import warn

TYPE_CHECKING = False  # `typing` costs 15 ms
if TYPE_CHECKING:
    from typing import NoReturn

TOKEN = "CARBONTRACK_SHIP_TOKEN"
TOKEN_FILE = "CARBONTRACK_SHIP_TOKEN_FILE"
_COERCED = ("C.UTF-8", "C.utf8", "UTF-8")  # what PEP 538 sets LC_CTYPE to
NOT_EXECUTABLE = 126
NOT_FOUND = 127
# Python ignores these; the job gets the defaults that a shell would give it.
DEFAULTS = (_signal.SIGPIPE, _signal.SIGXFSZ)


def restore_environment() -> None:
    """Take back the LC_CTYPE that Python sets in the locale C; as it is where /proc is closed."""
    if os.environ.get("LC_CTYPE") not in _COERCED:
        return
    with suppress(OSError):
        with open("/proc/self/environ", "rb") as file:  # noqa: PTH123 - pathlib costs 8 ms here
            entries = file.read().split(b"\0")
        given = [entry for entry in entries if entry.startswith(b"LC_CTYPE=")]
        if given:
            os.environ["LC_CTYPE"] = os.fsdecode(given[0].partition(b"=")[2])
        elif entries != [b""]:
            del os.environ["LC_CTYPE"]


def hide_secrets() -> None:
    """Take the token to ship with out of the environment that the job inherits."""
    for name in (TOKEN, TOKEN_FILE):
        os.environ.pop(name, None)


def replace_us(command: list[str]) -> NoReturn:
    """Go on as the job; where it cannot start, end as `refuse` does."""
    for signo in DEFAULTS:
        _signal.signal(signo, _signal.SIG_DFL)
    try:
        try:
            os.execvp(command[0], command)
        except OSError as error:
            if (script := script_of(command, error)) is None:
                raise
            os.execv("/bin/sh", script)
    except OSError as error:
        _signal.signal(_signal.SIGPIPE, _signal.SIG_IGN)  # stderr may be closed
        refuse(command[0], error)


def script_of(command: list[str], error: OSError) -> list[str] | None:
    """What runs a script without "#!": shells, env and nohup give it to sh, and so do we. None if
    the error says that the command is no such script.
    """
    if error.errno != errno.ENOEXEC:
        return None
    from shutil import which

    path = which(command[0])
    return None if path is None else ["sh", path, *command[1:]]


def refuse(program: str, error: OSError) -> NoReturn:
    """The command cannot start: say why, with the exit codes of env(1) and nohup(1)."""
    if error.errno == errno.ENOENT:
        warn(f"{program}: command not found. Check its spelling and PATH; nothing was recorded.")
        os._exit(NOT_FOUND)
    warn(f"{program}: cannot be executed: {error.strerror}. Nothing was recorded.")
    os._exit(NOT_EXECUTABLE)
