"""Amending a run: rows beside what was recorded, of which nothing is overwritten."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from carbontrack.errors import CarbontrackError
from carbontrack.ledger import backlog
from carbontrack.ledger.amended import calls
from carbontrack.ledger.recorded_rows import Amendment, Run
from carbontrack.ledger.tables import AMENDMENTS
from carbontrack.ledger.transaction import Transaction, changing
from carbontrack.ledger.user import user
from carbontrack.units import now_ms
from carbontrack.vocabulary import AmendedField


def amend(url: str, run: Run, changes: Mapping[str, tuple[Any, Any]]) -> list[Amendment]:
    """Write amendments of a run: by the name of the field, its values before and after.

    Raises CarbontrackError if the ledger cannot be written.
    """
    return _append(url, amendments_of(run, changes))


def undo(url: str, run: Run) -> list[Amendment]:
    """Undo what the newest call that stands amended of a run.

    Raises CarbontrackError where there is none, and if the ledger cannot be written.
    """
    if not (left := calls(run.amended)):
        raise CarbontrackError(f"Run {run.name} ({run.id}) has no amendment to undo.")
    changes = [(str(AmendedField.UNDO), None, one.id) for one in left[-1]]
    return _append(url, _rows(run, changes))


def amendments_of(run: Run, changes: Mapping[str, tuple[Any, Any]]) -> list[Amendment]:
    """Amendments of a run, which come after those that it has."""
    return _rows(run, [(str(field), *values) for field, values in changes.items()])


def put(transaction: Transaction, rows: Sequence[Amendment]) -> None:
    """Write amendments."""
    transaction.write(AMENDMENTS.insert_once, [AMENDMENTS.written(row) for row in rows])
    for run_id in {row.run_id for row in rows}:
        backlog.amended(transaction, run_id)


def _rows(run: Run, changes: Sequence[tuple[str, Any, Any]]) -> list[Amendment]:
    # A clock that was set back must not make them older than those that they follow.
    time_ms = max([now_ms(), *(one.time_ms + 1 for one in run.amended)])
    ids = sorted(str(uuid.uuid4()) for _ in changes)  # so that they stay in their order
    return [
        Amendment(one, run.id, time_ms, user(), field, before, after)
        for one, (field, before, after) in zip(ids, changes, strict=True)
    ]


def _append(url: str, rows: list[Amendment]) -> list[Amendment]:
    with changing(url) as transaction:
        put(transaction, rows)
    return rows
