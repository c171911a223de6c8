"""What a ledger is shipped to: something that takes batches and says what became of each.

Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from carbontrack.ledger.batch import Batch, Held
from carbontrack.ledger.rows import ClockOffset, Tombstone

TAKEN = (200, 204)
OTHER_PROJECT = 403
UNFIT = (400, OTHER_PROJECT, 413, 422)  # for what the batch holds: the same answer comes again
REMOVED = 410  # the run, there: nothing more of it is wanted
NO_TOKEN = 401
OTHER_VERSION = 409
_FOR_A_PERSON = (NO_TOKEN, OTHER_VERSION)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said of a batch, with the status of HTTP."""

    status: int
    reason: str = ""  # why it was refused
    retry_after_s: float | None = None
    held: Held | None = None
    clock: ClockOffset | None = None  # how far the one there was ahead of ours
    late_rows: int = 0  # of what is taken: left out, for they are older than what is kept there

    @property
    def is_taken(self) -> bool:
        """Whether it is written, and committed."""
        return self.status in TAKEN

    @property
    def is_final(self) -> bool:
        """Whether the same batch would be answered so again."""
        return self.is_taken or self.is_removed or self.status in UNFIT

    @property
    def is_removed(self) -> bool:
        """Whether the run was removed there, and stays removed."""
        return self.status == REMOVED


class NotShipped(Exception):
    """The target takes nothing now; `answer` is what it said, None if it did not answer."""

    def __init__(self, why: str, answer: Answer | None = None) -> None:
        super().__init__(why)
        self.answer = answer

    @property
    def is_for_a_person(self) -> bool:
        """Whether no wait alone can change it."""
        return self.answer is not None and self.answer.status in _FOR_A_PERSON


class Target(Protocol):
    """Where batches go."""

    name: str
    """What people call it, without secrets: watermarks are of it."""

    def send(self, batch: Batch) -> Answer:
        """Send a batch; the answer is final. Raises NotShipped if there is none now."""

    def remove(self, tombstone: Tombstone) -> Answer:
        """Let a run be removed there, too. Raises NotShipped as well."""

    def close(self) -> None:
        """Leave the connection, if one is kept."""
