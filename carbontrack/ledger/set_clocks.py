"""How far the clock of this machine was set since its recorders began, which go on by the clock as
it was then: so much later than its heartbeat says a recorder was heard of.

Only a file has recorders that write into it themselves; a server hears of them by its own clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from carbontrack.ledger.outcome import HEARTBEAT_STALE_MS, heard_of
from carbontrack.ledger.recorded_rows import Recording
from carbontrack.ledger.sqlite import SET_MS
from carbontrack.ledger.transaction import LedgerFile, Transaction, asking
from carbontrack.units import MS_PER_DAY
from carbontrack.vocabulary import Status

if TYPE_CHECKING:
    from sqlalchemy import Connection


def heard_sql(transaction: Transaction) -> str:
    """When this ledger heard last of a row of `recordings`, in ms by its own clock; of one that
    fell silent, or was merged, as its heartbeat says.
    """
    set_ms = SET_MS if isinstance(transaction, LedgerFile) else "0"
    heard = "(select heard_ms from live where live.recording_key = recordings.key)"
    return f"coalesce({heard}, recordings.heartbeat_ms + {set_ms})"


def with_sets(
    connection: Connection, recordings: Sequence[Recording], now_ms: int
) -> Sequence[Recording]:
    """The recordings, in the same order, with what is needed to tell how they stand."""
    goes_on = any(one.status is Status.RUNNING for one in recordings)
    if not goes_on or connection.dialect.name != "sqlite":
        return recordings
    transaction = asking(connection)
    return [with_set(transaction, one, now_ms) for one in recordings]


def with_set(transaction: Transaction, recording: Recording, now_ms: int) -> Recording:
    """The same of one, in a file. Few are looked at: those that seem to have fallen silent less
    than a day ago, or to be heard of in the future.
    """
    silent_ms = now_ms - heard_of(recording)
    is_here = recording.status is Status.RUNNING and recording.heard_ms is None
    if not is_here or abs(silent_ms) <= HEARTBEAT_STALE_MS or silent_ms > MS_PER_DAY:
        return recording
    asked = f"select {SET_MS} as set_ms from recordings where key = :key"
    found = next(transaction.ask(asked, {"key": recording.key}), None)
    return recording if found is None else replace(recording, set_ms=found["set_ms"])
