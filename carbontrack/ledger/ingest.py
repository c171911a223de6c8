"""Rows of another ledger into this one: in any order, again, and overlapping with what is here.

Runs, recordings and devices meet by their UUIDs; the integers by which rows refer to each other are
translated into this ledger's. Whatever the order of several ledgers, they give the same in the end:
see `join`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from carbontrack.errors import CarbontrackError
from carbontrack.ledger import backlog
from carbontrack.ledger.amended import values_of
from carbontrack.ledger.factor_versions import put_factors
from carbontrack.ledger.join import as_text, is_newer, joined_run
from carbontrack.ledger.late_overlaps import LateOverlaps
from carbontrack.ledger.late_windows import LateWindows
from carbontrack.ledger.tables import (
    AMENDMENTS,
    CARRIED,
    CLOCKS,
    EVENTS,
    INTENSITY,
    OVERLAPS,
    PRICES,
    RECORDINGS,
    REFERS,
    RUNS,
    SENSORS,
    STEPS,
    TOMBSTONES,
    WINDOWS,
    Table,
)
from carbontrack.ledger.transaction import Transaction
from carbontrack.ledger.write import UPSERT_STEP, sensor_keys
from carbontrack.vocabulary import AmendedField

_ROWS_AT_ONCE = 5_000
_SERIAL_OF = {table.name: column for column, table in REFERS.items()}
ORDER = (TOMBSTONES, *(table for table in CARRIED if table is not TOMBSTONES))
"""The tables in the order in which they are taken: those first that others depend on."""


@dataclass
class Taken:
    """What became of the runs of another ledger, by their ids."""

    added: set[str] = field(default_factory=set)
    grew: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)  # all of it was here
    removed: set[str] = field(default_factory=set)  # by somebody, and not brought back
    deleted: dict[str, str] = field(default_factory=dict)  # removed here, as there; their names

    def add(self, other: Taken) -> None:
        """Count these, which came later, too."""
        # What came with these ledgers alone was never here.
        self.deleted |= {id: name for id, name in other.deleted.items() if id not in self.added}
        self.removed |= other.removed | (other.deleted.keys() & self.added)
        self.removed -= self.deleted.keys()
        gone = self.removed | self.deleted.keys()
        self.added = (self.added | other.added) - gone
        self.grew = (self.grew | other.grew) - self.added - gone
        self.known = (self.known | other.known) - self.grew - self.added - gone


class Ingest:
    """Takes the rows of one other ledger within a transaction. Call `take` with the tables in
    `ORDER`, then `finish`. Raises CarbontrackError for rows that contradict each other.
    """

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._keys: dict[str, dict[int, int | None]] = {column: {} for column in REFERS}
        self._removed = {
            row["run_id"] for row in transaction.ask("select run_id from tombstones", {})
        }
        self._ids: dict[int, str] = {}  # of runs, by their keys
        self._runs: dict[int, int] = {}  # of recordings, by their keys
        self._newer: set[int] = set()  # recordings that were older here, or not here
        self._said: set[str] = set()  # runs of which more is said, beside what was recorded
        self._late = LateWindows(transaction)
        self._late_overlaps = LateOverlaps(transaction)
        self.taken = Taken()
        self._takers: Mapping[str, Callable[[Table[Any], _Rows], None]] = {
            TOMBSTONES.name: self._take_tombstones,
            RUNS.name: self._take_runs,
            RECORDINGS.name: self._take_recordings,
            CLOCKS.name: self._take_clocks,
            SENSORS.name: self._take_sensors,
            WINDOWS.name: self._take_windows,
            STEPS.name: self._take_of_recordings,
            EVENTS.name: self._take_of_recordings,
            OVERLAPS.name: self._take_overlaps,
            INTENSITY.name: self._take_factors,
            PRICES.name: self._take_factors,
        }

    def take(
        self,
        table: Table[Any],
        rows: Iterable[Sequence[Any]],
        progress: Callable[[int], None] = lambda rows: None,
    ) -> None:
        """Take rows of a table, as `Source.rows` gives them; `progress` hears how many are done."""
        waiting = iter(rows)
        take = self._takers.get(table.name, self._take_others)
        while part := list(islice(waiting, _ROWS_AT_ONCE)):
            take(table, part)
            progress(len(part))

    def finish(self) -> None:
        """Bring all levels into line where windows came to some that were here."""
        changed = self._late.settle()
        for recording_key in changed:
            self._grew(self._runs[recording_key])
        self._late_overlaps.settle(self._newer | changed)
        # Where this is shipped to, what has come is missing.
        again = backlog.recordings_of(self._transaction, self.taken.grew)
        backlog.ship_again(self._transaction, again)
        before = set(self._ids.values()) - self.taken.added
        for run_id in (self._said & before) - self.taken.grew:
            backlog.amended(self._transaction, run_id)  # any batch has all that is said
        self.taken.grew |= self._said & before
        self.taken.known = before - self.taken.grew

    def _take_tombstones(self, table: Table[Any], rows: _Rows) -> None:
        """A run that was removed elsewhere is removed here."""
        self._take_others(table, rows)
        arrived = {table.parsed(row)["run_id"] for row in rows}
        fresh = [{"id": run_id} for run_id in sorted(arrived - self._removed)]
        for one in fresh:
            for row in self._transaction.ask("select name from runs where id = :id", one):
                said = values_of(list(backlog.amendments(self._transaction, one["id"])))
                self.taken.deleted[one["id"]] = said.get(AmendedField.NAME, row["name"])
        self._transaction.write("delete from runs where id = :id", fresh)
        self._transaction.write("delete from amendments where run_id = :id", fresh)
        self._removed |= arrived

    def _take_runs(self, table: Table[Any], rows: _Rows) -> None:
        for row in map(table.parsed, rows):
            if row["id"] in self._removed:
                self._keys["run_key"][row["key"]] = None
                self.taken.removed.add(row["id"])
                continue
            here = self._here(table, row)
            both = row if here is None else joined_run(row, here)
            if here is None:
                self.taken.added.add(row["id"])
            elif as_text(table, both) != as_text(table, here):
                self.taken.grew.add(row["id"])
            self._ids[self._put(table, row, both, here)] = row["id"]

    def _take_recordings(self, table: Table[Any], rows: _Rows) -> None:
        for row in self._translated(table, rows):
            here = self._here(table, row)
            is_new = here is None or is_newer(row, here)
            key = self._put(table, row, row if here is None or is_new else here, here)
            self._runs[key] = row["run_key"]
            if is_new:
                self._newer.add(key)
                self._grew(row["run_key"])
            if here is not None:
                self._late.expect(key)

    def _take_sensors(self, table: Table[Any], rows: _Rows) -> None:
        translated = list(self._translated(table, rows))
        self._put_of_recordings(table, translated)
        ours = {
            key: sensor_keys(self._transaction, key)
            for key in {row["recording_key"] for row in translated}
        }
        for row in translated:
            self._keys["sensor_key"][row["key"]] = ours[row["recording_key"]][row["device_key"]]

    def _take_windows(self, table: Table[Any], rows: _Rows) -> None:
        recordings, sensors = self._keys["recording_key"], self._keys["sensor_key"]
        ours = []
        for row in rows:
            try:
                recording, sensor = recordings[row[0]], sensors[row[1]]
            except KeyError:
                self._key(table, "recording_key", row[0])
                self._key(table, "sensor_key", row[1])
                raise
            if recording is not None and sensor is not None:
                ours.append((recording, sensor, *row[2:]))
        self._late.put(ours)

    def _take_clocks(self, table: Table[Any], rows: _Rows) -> None:
        """They correct the times of what was recorded before them."""
        ours = list(self._translated(table, rows))
        for row in ours:
            if self._here(table, row) is None:
                self._said.add(self._ids[self._runs[row["recording_key"]]])
        self._put_of_recordings(table, ours)

    def _take_of_recordings(self, table: Table[Any], rows: _Rows) -> None:
        self._put_of_recordings(table, list(self._translated(table, rows)))

    def _take_overlaps(self, table: Table[Any], rows: _Rows) -> None:
        self._late_overlaps.put(self._translated(table, rows))

    def _take_factors(self, table: Table[Any], rows: _Rows) -> None:
        put_factors(self._transaction, table, [table.parsed(row) for row in rows])

    def _take_others(self, table: Table[Any], rows: _Rows) -> None:
        """Of two rows of one key, the one whose text comes later stays."""
        for row in self._translated(table, rows):
            if table is AMENDMENTS and row["run_id"] in self._removed:
                continue
            here = self._here(table, row)
            is_later = here is None or as_text(table, row) > as_text(table, here)
            self._put(table, row, row if here is None or is_later else here, here)
            if is_later and table is AMENDMENTS:
                self._said.add(row["run_id"])
            elif is_later and "run_key" in row:
                self._said.add(self._ids[row["run_key"]])

    def _put_of_recordings(self, table: Table[Any], rows: Sequence[Mapping[str, Any]]) -> None:
        """A recording that is newer than here replaces what it said; another one adds to it."""
        upsert = UPSERT_STEP if table is STEPS else table.upsert
        for statement, is_new in ((upsert, True), (table.insert_once, False)):
            some = [row for row in rows if (row["recording_key"] in self._newer) == is_new]
            self._transaction.write(statement, [table.stored(row) for row in some])

    def _put(
        self,
        table: Table[Any],
        row: Mapping[str, Any],
        stays: Mapping[str, Any],
        here: Mapping[str, Any] | None,
    ) -> int:
        """Write what stays of a row and of the one that is here, if that changes it. Gives its key,
        0 in a table that has none, and keeps it for the rows that refer to it.
        """
        if here is None or as_text(table, stays) != as_text(table, here):
            self._transaction.write(table.upsert, [table.stored(stays)])
            here = here or self._here(table, row)
        if table.serial is None or here is None:
            return 0
        key = int(here[table.serial])
        self._keys[_SERIAL_OF[table.name]][row[table.serial]] = key
        return key

    def _here(self, table: Table[Any], row: Mapping[str, Any]) -> dict[str, Any] | None:
        """The row of the same key in this ledger."""
        where = " and ".join(f'"{name}" = :{name}' for name in table.key)
        values = {name: row[name] for name in table.key}
        found = self._transaction.ask(f"{table.query} where {where}", values)
        return next((table.parsed(list(one.values())) for one in found), None)

    def _translated(self, table: Table[Any], rows: _Rows) -> Iterator[dict[str, Any]]:
        """The rows with this ledger's keys, without those of runs that were removed."""
        columns = [name for name in table.placed if name in REFERS]
        for row in map(table.parsed, rows):
            keys = {name: self._key(table, name, row[name]) for name in columns}
            if None not in keys.values():
                yield {**row, **keys}
            elif table.serial is not None:
                self._keys[_SERIAL_OF[table.name]][row[table.serial]] = None

    def _key(self, table: Table[Any], column: str, key: int) -> int | None:
        """This ledger's key; None of what belongs to a run that was removed."""
        try:
            return self._keys[column][key]
        except KeyError:
            raise CarbontrackError(
                f"{table.name}.{column} is {key}, which {REFERS[column].name} does not have."
            ) from None

    def _grew(self, run_key: int) -> None:
        if self._ids[run_key] not in self.taken.added:
            self.taken.grew.add(self._ids[run_key])


_Rows = Sequence[Sequence[Any]]
