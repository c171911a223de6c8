"""Measurements that waited in journals, brought into the ledger they were meant for."""

from __future__ import annotations

from contextlib import closing

from carbontrack.ledger.engine import errors_in_one_line
from carbontrack.ledger.journals import by_recording, take, waiting
from carbontrack.ledger.remove import finish
from carbontrack.ledger.transaction import open_ledger
from carbontrack.ledger.url import recorded_in


def recover(url: str) -> dict[str, str]:
    """Write the journals into their ledger, or the file that is shipped to it, and delete each one
    that is in; the runs' names by id.

    What is of a run that was removed is deleted only, and so is what is left of such runs.
    Everything is an upsert: a recovery that breaks off can be repeated. Raises CarbontrackError if
    the ledger cannot be written, or a journal is not this program's.
    """
    names: dict[str, str] = {}
    journals = waiting(url)
    if journals:
        file = recorded_in(url)
        with errors_in_one_line(file), closing(open_ledger(file)) as ledger:
            for of_recording in by_recording(journals):
                names |= take(of_recording, ledger)
    finish(url)
    return names
