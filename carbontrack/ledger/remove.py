"""Removing runs: first a tombstone, so that they are gone for every reader at once and nothing
brings them back, then their rows, in transactions that hold up no recorder.

What is cut short is finished by `sweep`: a run's own row goes last.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from carbontrack.errors import CarbontrackError
from carbontrack.files import open_ours
from carbontrack.ledger import engine, models, stored_windows
from carbontrack.ledger.engine import errors_in_one_line
from carbontrack.ledger.outcome import is_silent
from carbontrack.ledger.pyramid import recordings_of
from carbontrack.ledger.recorded_rows import Run
from carbontrack.ledger.rows import Tombstone
from carbontrack.ledger.set_clocks import heard_sql
from carbontrack.ledger.tables import EVENTS, OVERLAPS, STEPS, TOMBSTONES, Table
from carbontrack.ledger.transaction import (
    Transaction,
    WritableLedger,
    open_ledger,
)
from carbontrack.ledger.url import journal_paths
from carbontrack.ledger.user import user
from carbontrack.ledger.window import FIRST_MS, LAST_MS, LEVELS_S
from carbontrack.units import MS_PER_S, now_ms
from carbontrack.vocabulary import Status

ROWS_AT_ONCE = 2_000
_MINUTE_S = LEVELS_S[1]
_MINUTE_MS = _MINUTE_S * MS_PER_S
LEFT = "select id from runs where id in (select run_id from tombstones)"
"""The runs that were removed, but not to the end."""
_LONG = (STEPS, EVENTS)  # many rows a recording


@dataclass(frozen=True, slots=True)
class Held:
    """What a ledger holds of a run."""

    windows: int
    steps: int
    events: int


def held(connection: Connection, run: Run) -> Held:
    """What the ledger holds of a run."""
    own = recordings_of(run.key)
    counts = (
        select(func.count()).where(table.recording_key.in_(own))
        for table in (models.Step, models.Event)
    )
    windows = stored_windows.count_windows(connection, connection.scalars(own).all())
    return Held(windows, *(connection.scalar(count) or 0 for count in counts))


def remove(url: str, runs: Sequence[Run]) -> None:
    """Remove these runs and all that is recorded of them, journals too. It cannot be undone.

    What the ledger is shipped to removes them, too, when the tombstones arrive there. Raises
    CarbontrackError, and removes nothing, if one of them is being recorded or the ledger cannot be
    written.
    """
    with errors_in_one_line(url), closing(open_ledger(url)) as ledger:
        with ledger.begin() as transaction:
            for run in runs:
                _refuse_recorded(transaction, run)
            recordings = [one for run in runs for one in _recordings(transaction, run.id)]
            rows = [TOMBSTONES.written(_tombstone(transaction, run)) for run in runs]
            transaction.write(TOMBSTONES.insert_once, rows)
        for recording in recordings:
            _remove_journals(url, recording["id"])
        sweep(ledger)


def finish(url: str) -> int:
    """`sweep` the ledger at this URL, if there is one. Raises CarbontrackError if it cannot be
    written.
    """
    with suppress(engine.NoLedger), errors_in_one_line(url):
        engine.open_reader(url).dispose()
        with closing(open_ledger(url)) as ledger:
            return sweep(ledger)
    return 0


def sweep(ledger: WritableLedger) -> int:
    """Delete what is left of runs that were removed; how many there were."""
    with ledger.begin() as transaction:
        left = [row["id"] for row in transaction.ask(LEFT, {})]
    for run_id in left:
        _sweep_run(ledger, run_id)
    return len(left)


def _sweep_run(ledger: WritableLedger, run_id: str) -> None:
    with ledger.begin() as transaction:
        recordings = list(_recordings(transaction, run_id))
    for recording in recordings:
        for _ in sweep_recording(ledger, recording["key"]):
            pass
    with _short(ledger) as transaction:
        transaction.write("delete from runs where id = :id", [{"id": run_id}])
        transaction.write("delete from amendments where run_id = :id", [{"id": run_id}])


def sweep_recording(ledger: WritableLedger, key: int) -> Iterator[None]:
    """Delete a recording with all that is of it, one short transaction at each step."""
    of_it = {"key": key}
    asked = "select key, device_key from sensors where recording_key = :key"
    with ledger.begin() as transaction:
        sensors = list(transaction.ask(asked, of_it))
    yield from _empty_windows(ledger, key, len(sensors))
    for table in _LONG:
        yield from _empty(ledger, table, key)
    for sensor in sensors:
        yield from _empty(ledger, OVERLAPS, sensor["key"])
    with _short(ledger) as transaction:
        transaction.write("delete from recordings where key = :key", [of_it])
        _delete_unused(transaction, [sensor["device_key"] for sensor in sensors])
    yield


def _empty_windows(ledger: WritableLedger, recording_key: int, sensors: int) -> Iterator[None]:
    """Delete the windows of a recording, some minutes or more at once."""
    asked = "select first_window(:key, :level, :from_ms, :to_ms) as start_ms"
    for level_s in LEVELS_S:
        minutes = ROWS_AT_ONCE * level_s // max(1, sensors) // _MINUTE_S
        ever = {"key": recording_key, "level": level_s, "from_ms": FIRST_MS, "to_ms": LAST_MS}
        while True:
            with _short(ledger) as transaction:
                (first,) = transaction.ask(asked, ever)
                if first["start_ms"] is None:
                    break
                from_ms = first["start_ms"] // _MINUTE_MS * _MINUTE_MS
                to_ms = from_ms + max(1, minutes) * _MINUTE_MS
                transaction.remove_windows(recording_key, [level_s], from_ms=from_ms, to_ms=to_ms)
            yield


def _empty(ledger: WritableLedger, table: Table[Any], owner: int) -> Iterator[None]:
    """Delete what a table has of a recording or a sensor: the first column of its key."""
    first, *others = table.key
    names = ", ".join(others)
    of_owner = f'from "{table.name}" where {first} = :owner'
    place = f"select {names} {of_owner} order by {names} limit 1 offset {ROWS_AT_ONCE - 1}"
    until = f"({names}) <= ({', '.join(f':{name}' for name in others)})"
    last: dict[str, Any] | None = {}
    while last is not None:
        with _short(ledger) as transaction:
            last = next(transaction.ask(place, {"owner": owner}), None)
            some = f"delete {of_owner}" if last is None else f"delete {of_owner} and {until}"
            transaction.write(some, [{**(last or {}), "owner": owner}])
        yield


def _delete_unused(transaction: Transaction, devices: Sequence[int]) -> None:
    """Those of these devices that no recording has."""
    transaction.write(
        "delete from devices where key = :key "
        "and not exists (select 1 from sensors where device_key = :key)",
        [{"key": key} for key in devices],
    )


@contextmanager
def _short(ledger: WritableLedger) -> Iterator[Transaction]:
    """A transaction, and then as long a pause, for a recorder that waits to write in."""
    began_s = time.monotonic()
    with ledger.begin() as transaction:
        yield transaction
    time.sleep(time.monotonic() - began_s)


def _tombstone(transaction: Transaction, run: Run) -> Tombstone:
    """Of the project that the run was recorded in, whatever it has been moved into since."""
    (found,) = transaction.ask("select project from runs where id = :id", {"id": run.id})
    return Tombstone(run.id, now_ms(), user(), found["project"])


def _refuse_recorded(transaction: Transaction, run: Run) -> None:
    for recording in _recordings(transaction, run.id):
        is_running = recording["status"] == Status.RUNNING
        if is_running and not is_silent(
            recording["heartbeat_ms"], recording["heard_ms"], now_ms=now_ms()
        ):
            raise CarbontrackError(
                f"Run {run.name} ({run.id}) is being recorded, on {recording['host']}.",
                hint="Remove it when it has ended. Nothing was removed.",
            )


def _recordings(transaction: Transaction, run_id: str) -> Iterator[dict[str, Any]]:
    asked = (
        "select recordings.key, recordings.id, host, status, heard_ms, "
        f"{heard_sql(transaction)} as heartbeat_ms from recordings join runs on runs.key = run_key "
        "left join live on live.recording_key = recordings.key where runs.id = :id"
    )
    return transaction.ask(asked, {"id": run_id})


def _remove_journals(url: str, recording: str) -> None:
    """Those that are our own files; `recover` leaves out what is of a removed run."""
    for path in journal_paths(url, recording):
        with suppress(OSError):
            os.close(open_ours(path))
            path.unlink()
