"""The errors that a user can fix: each one is a line that says what, where, and how to fix it."""

from __future__ import annotations


class CarbontrackError(Exception):
    """A condition for the user, printed as one line on stderr without a traceback.

    `exit_code` is 2 for bad use (the default) and 1 for what went wrong while working.
    """

    def __init__(self, what: str, *, hint: str = "", exit_code: int = 2) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
        self.exit_code = exit_code

    def __str__(self) -> str:
        return f"{self.what} {self.hint}".rstrip()


class NotFoundError(CarbontrackError):
    """What was asked for does not exist: the ledger, or a run in it."""
