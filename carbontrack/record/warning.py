"""Warnings on the job's stderr, and a guard that turns what fails into one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from carbontrack.errors import CarbontrackError

TYPE_CHECKING = False  # `typing` costs 15 ms, and a job waits for this
if TYPE_CHECKING:
    from typing import Any


def warn(message: str) -> None:
    """One line on stderr; does nothing where stderr is closed."""
    with suppress(OSError):
        os.write(2, f"carbontrack: {message}\n".encode(errors="backslashreplace"))


def warn_of_slow_recorder(plan: Mapping[str, Any]) -> None:
    """The job's end waits no longer; where there was to be a summary, say what prints it."""
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
