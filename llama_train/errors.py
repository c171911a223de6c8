"""The error that a user can fix: one line with what, where, and how to fix it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class TrainError(Exception):
    """A condition for the user, printed as one line on stderr without a traceback.

    `exit_code` is 2 for bad use (the default) and 1 for what went wrong while working.
    """

    def __init__(self, what: str, *, hint: str = "", exit_code: int = 2) -> None:
        super().__init__(f"{what} {hint}".rstrip())
        self.exit_code = exit_code


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest known one."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f"; did you mean {near[0]}?" if near else "."


def make_folder(path: Path) -> None:
    """Make the folder and those above it. Raises TrainError if it cannot be made."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainError(
            f"The folder {path} cannot be made: {error.strerror}.", hint="Name another with --out."
        ) from error
