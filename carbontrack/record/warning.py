"""Warnings on the job's stderr, and a guard that turns what fails into one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from carbontrack.errors import CarbontrackError


def warn(message: str) -> None:
    """One line on stderr; does nothing where stderr is closed."""
    with suppress(OSError):
        os.write(2, f"carbontrack: {message}\n".encode(errors="backslashreplace"))


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
