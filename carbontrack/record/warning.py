"""Warnings on the job's stderr, and a guard that turns what fails into one."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from carbontrack.errors import CarbontrackError

TYPE_CHECKING = False  # `typing` costs 15 ms, and a job waits for this
if TYPE_CHECKING:
    from typing import Any


def warn(message: str) -> None:
    """One line on stderr; does nothing where stderr cannot be written."""
    to_stderr(f"carbontrack: {message}\n")


def to_stderr(text: str) -> None:
    """This text on stderr. Does nothing where that is closed, its disk is full or its reader is
    gone: nobody can be told, and that must not end anything else.
    """
    encoding = sys.__stderr__.encoding if sys.__stderr__ else "utf-8"
    left = text.encode(encoding, errors="backslashreplace")
    with suppress(OSError):
        if os.get_inheritable(2):  # else it was closed, and a file of somebody has its number
            while left:
                left = left[os.write(2, left) :]


def hold_stderr() -> None:
    """Where stderr is closed, let /dev/null have its number, and no file of ours: libraries write
    there, too. For what is started it stays closed.
    """
    with suppress(OSError):
        try:
            os.get_inheritable(2)
        except OSError as error:
            if error.errno == errno.EBADF:
                null = os.open(os.devnull, os.O_WRONLY)
                if null != 2:
                    os.dup2(null, 2, inheritable=False)
                    os.close(null)


def warn_of_slow_recorder(plan: Mapping[str, Any], *, ends_with_wrapper: bool = False) -> None:
    """The job's end waits no longer; where there was to be a summary, say what prints it."""
    if ends_with_wrapper:
        warn("the recorder is slow to finish and ends here; CARBONTRACK_GRACE_S gives it longer.")
        return
    later = ""
    if not plan.get("quiet") and "kind" not in plan and "run_id" in plan:
        with suppress(Exception):
            from carbontrack.ids import short_id
            from carbontrack.ledger.url import db_option

            later = f"; its summary, then: carbontrack show {short_id(plan['run_id'])}"
            later += db_option(plan["db"])
    warn(
        f"the recorder is slow to finish and goes on in the background for a minute at most{later}."
    )


@contextmanager
def harmless(consequence: str) -> Iterator[None]:
    """What fails inside becomes a warning: the job runs, and no error of ours may reach it."""
    try:
        yield
    except Exception as error:
        warn(f"{consequence}: {_reason(error)}.")


def _reason(error: Exception) -> str:
    if isinstance(error, CarbontrackError):
        return str(error).rstrip(".")
    return getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
