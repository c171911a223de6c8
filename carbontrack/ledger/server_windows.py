"""Windows on PostgreSQL: rows of any level into the tables behind the view `windows`, and out.

Who writes into a recording locks its row first, so no other writer of it comes between what is
asked here and what is then written: what a place has is looked up, and by COPY goes what has none
yet. Where there is something, as where a minute comes in parts, both are joined here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from carbontrack.errors import CarbontrackError
from carbontrack.ledger.joined import Better, Joined, Row, best_of
from carbontrack.ledger.packed import (
    SEGMENT_COLUMNS,
    Stored,
    minute_of,
    pack,
    place_of,
    unpack,
)
from carbontrack.ledger.tables import WINDOWS
from carbontrack.ledger.window import LEVELS_S
from carbontrack.units import MS_PER_S

if TYPE_CHECKING:
    from sqlalchemy import Connection

_SECOND, _MINUTE, _HOUR = LEVELS_S
_TABLES = {_SECOND: "odd_seconds", _MINUTE: "minutes", _HOUR: "hours"}
_PARTITIONED = frozenset({"seconds", "minutes"})
_LEVEL, _RECORDING, _START_MS = map(WINDOWS.columns.index, ("level", "recording_key", "start_ms"))
_place = itemgetter(*map(WINDOWS.columns.index, ("recording_key", "start_ms", "sensor_key")))
_KEY = "recording_key, start_ms, sensor_key"
_ROW_COLUMNS = tuple(name for name in WINDOWS.columns if name != "level")
_SAME = "(s.recording_key, s.start_ms, s.sensor_key) = (t.recording_key, t.start_ms, t.sensor_key)"
Key = tuple[int, int, int]


class ServerWindows:
    """Within a transaction of a connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(self, rows: Sequence[Row], is_better: Better | None) -> Joined:
        """Write windows. Of two of one place the better one stays; without such a rule the new one.

        Raises what the database refuses as SQLAlchemy's errors.
        """
        if not rows:
            return Joined()
        self._lock({row[_RECORDING] for row in rows})
        if unknown := {row[_LEVEL] for row in rows} - _TABLES.keys():
            raise CarbontrackError(f"There are no windows of {min(unknown)} s.")
        by_level: dict[int, list[Row]] = defaultdict(list)
        for row in best_of(rows, is_better):
            by_level[row[_LEVEL]].append(row)
        joined = Joined()
        for level_s, of_level in by_level.items():
            if level_s == _SECOND:
                joined.add(self._put_seconds(of_level, is_better))
            else:
                joined.add(self._put_rows(_TABLES[level_s], level_s, of_level, is_better))
        return joined

    def put_segments(self, segments: Sequence[Stored], is_better: Better) -> None:
        """Write seconds that are packed already; of two of one time the better one stays."""
        if not segments:
            return
        self._lock({recording for recording, *_ in segments})
        waiting = list(segments)
        while waiting:  # of a minute that comes twice, one after the other
            first: dict[Key, Stored] = {}
            again = [one for one in waiting if first.setdefault(place_of(one), one) is not one]
            unlike = self._add(first)
            self._join_minutes({key: list(unpack(first[key])) for key in unlike}, is_better)
            waiting = again

    def remove(
        self,
        recording_key: int,
        levels_s: Iterable[int],
        from_ms: int,
        to_ms: int,
        sensors: Collection[int] | None,
    ) -> None:
        """Delete a recording's windows of these lengths between two times, which are whole minutes;
        of all sensors, or of some.
        """
        where = "recording_key = %s and start_ms >= %s and start_ms < %s"
        values: list[Any] = [recording_key, from_ms, to_ms]
        if sensors is not None:
            where += " and sensor_key = any(%s)"
            values.append(list(sensors))
        for level_s in levels_s:
            for table in (_TABLES[level_s], *(["seconds"] if level_s == _SECOND else [])):
                self._run(f"delete from {table} where {where}", *values)

    def _lock(self, recordings: Collection[int]) -> None:
        asked = "select key from recordings where key = any(%s) order by key for no key update"
        found = self._run(asked, sorted(recordings)).scalars().all()
        if missing := set(recordings) - set(found):
            raise CarbontrackError(f"Recording {min(missing)} is not in the ledger any more.")

    def _put_seconds(self, rows: Sequence[Row], is_better: Better | None) -> Joined:
        minutes: dict[Key, list[Row]] = defaultdict(list)
        for row in sorted(rows, key=itemgetter(_START_MS)):
            minutes[minute_of(row)].append(row)
        packed = {key: pack(of_minute) for key, of_minute in minutes.items()}
        whole = {key: one for key, (one, odd) in packed.items() if one is not None and not odd}
        unlike = self._add(whole)
        joined = Joined([row for key in whole.keys() - unlike for row in minutes[key]])
        again = {key: minutes[key] for key in minutes if key in unlike or key not in whole}
        joined.add(self._join_minutes(again, is_better))
        return joined

    def _add(self, segments: Mapping[Key, Stored]) -> set[Key]:
        """Write the segments of minutes of which there is nothing yet; gives the others, unless the
        same is there.
        """
        if not segments:
            return set()
        self._make_partitions("seconds", {start_ms for _, start_ms, _ in segments})
        here = {place_of(one): one for one in self._segments(segments)}
        odd = self._odd_minutes(segments)
        fresh = [segments[key] for key in sorted(segments.keys() - here.keys() - odd)]
        self._insert("seconds", SEGMENT_COLUMNS, fresh)
        return {key for key, one in here.items() if one != segments[key]} | odd

    def _odd_minutes(self, minutes: Collection[Key]) -> set[Key]:
        """Those of these minutes that have seconds which are not packed."""
        recordings = {recording for recording, _, _ in minutes}
        found = self._run(
            "select distinct recording_key, start_ms - start_ms %% 60000 as start_ms, sensor_key "
            "from odd_seconds where recording_key = any(%s) and start_ms >= %s and start_ms < %s",
            *(sorted(recordings), min(at for _, at, _ in minutes)),
            max(at for _, at, _ in minutes) + _MINUTE * MS_PER_S,
        )
        return {_key_of(row) for row in found.mappings()} & set(minutes)

    def _join_minutes(self, minutes: dict[Key, list[Row]], is_better: Better | None) -> Joined:
        """Write seconds into minutes of which there is something already, or that are not all
        packed.
        """
        joined = Joined()
        if not minutes:
            return joined
        self._make_partitions("seconds", {start_ms for _, start_ms, _ in minutes})
        here: dict[Key, dict[int, Row]] = defaultdict(dict)
        unpacked = chain.from_iterable(map(unpack, self._segments(minutes)))
        for row in chain(unpacked, self._odd(minutes)):
            here[minute_of(row)][row[_START_MS]] = row
        segments: list[Stored] = []
        odd: list[Row] = []
        for key, rows in minutes.items():
            of_minute = here[key]
            for row in rows:
                if joined.take(row, of_minute.get(row[_START_MS]), is_better):
                    of_minute[row[_START_MS]] = row
            segment, others = pack([of_minute[at] for at in sorted(of_minute)])
            odd += others
            if segment is not None:
                segments.append(segment)
        self._run(f"delete from seconds s using {_KEYS} where {_SAME}", *_split(minutes))
        self._run(f"delete from odd_seconds s using {_KEYS} where {_IN_MINUTE}", *_split(minutes))
        self._insert("seconds", SEGMENT_COLUMNS, segments)
        self._insert("odd_seconds", _ROW_COLUMNS, map(_without_level, odd))
        return joined

    def _put_rows(
        self, table: str, level_s: int, rows: Sequence[Row], is_better: Better | None
    ) -> Joined:
        if table in _PARTITIONED:
            self._make_partitions(table, {row[_START_MS] for row in rows})
        here = {_place(row): row for row in self._rows(table, level_s, list(map(_place, rows)))}
        fresh = [row for row in rows if _place(row) not in here]
        joined = Joined(list(fresh))
        better = [
            row
            for row in rows
            if _place(row) in here and joined.take(row, here[_place(row)], is_better)
        ]
        self._insert(table, _ROW_COLUMNS, map(_without_level, sorted(fresh, key=_place)))
        self._replace(table, [_without_level(row) for row in sorted(better, key=_place)])
        return joined

    def _insert(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Write rows where there are none of their keys."""
        if lines := copied(rows):
            self._copy(f"copy {table} ({', '.join(columns)}) from stdin", lines)

    def _replace(self, table: str, rows: Sequence[Sequence[Any]]) -> None:
        """Write rows instead of those of their keys."""
        if rows:
            self._run(
                _REPLACE.format(table=table), *(list(column) for column in zip(*rows, strict=True))
            )

    def _rows(self, table: str, level_s: int, keys: Collection[Key]) -> Iterator[Row]:
        names = ", ".join(f"s.{name}" for name in _ROW_COLUMNS)
        found = self._run(f"select {names} from {table} s join {_KEYS} on {_SAME}", *_split(keys))
        return (_with_level(row, level_s) for row in found)

    def _segments(self, keys: Collection[Key]) -> Iterator[Stored]:
        names = ", ".join(f"s.{name}" for name in SEGMENT_COLUMNS)
        found = self._run(f"select {names} from seconds s join {_KEYS} on {_SAME}", *_split(keys))
        return (tuple(row) for row in found)

    def _odd(self, keys: Collection[Key]) -> Iterator[Row]:
        names = ", ".join(f"s.{name}" for name in _ROW_COLUMNS)
        found = self._run(
            f"select {names} from odd_seconds s join {_KEYS} on {_IN_MINUTE}", *_split(keys)
        )
        return (_with_level(row, _SECOND) for row in found)

    def _make_partitions(self, table: str, starts_ms: Collection[int]) -> None:
        self._run("select make_partitions(%s, %s)", table, sorted(starts_ms))

    def _run(self, statement: str, *values: Any) -> Any:
        return self._connection.exec_driver_sql(statement, values)

    def _copy(self, statement: str, lines: str) -> None:
        with self._driver_errors(statement):
            cursor = self._connection.connection.cursor()
            with cursor.copy(statement) as copy:
                copy.write(lines)

    @contextmanager
    def _driver_errors(self, statement: str) -> Iterator[None]:
        """The driver's errors as SQLAlchemy's: what is written goes by it, all but COPY."""
        import psycopg
        from sqlalchemy.exc import DBAPIError

        try:
            yield
        except psycopg.Error as error:
            raise DBAPIError.instance(
                statement, None, error, psycopg.Error, dialect=self._connection.dialect
            ) from error


_KEYS = "unnest(%s::int[], %s::bigint[], %s::int[]) t(recording_key, start_ms, sensor_key)"
_TYPES = {
    **dict.fromkeys(("start_ms", "memory_max_bytes", "throttle"), "bigint"),
    **dict.fromkeys(("recording_key", "sensor_key", "samples", "vitals", "flags"), "int"),
}
_REPLACE = (
    "update {table} s set "
    + ", ".join(f"{name} = t.{name}" for name in _ROW_COLUMNS if name not in _KEY.split(", "))
    + " from unnest("
    + ", ".join(f"%s::{_TYPES.get(name, 'double precision')}[]" for name in _ROW_COLUMNS)
    + f") t({', '.join(_ROW_COLUMNS)}) where {_SAME}"
)
_IN_MINUTE = (
    "s.recording_key = t.recording_key and s.sensor_key = t.sensor_key "
    "and s.start_ms >= t.start_ms and s.start_ms < t.start_ms + 60000"
)


def _split(keys: Collection[Key]) -> list[list[int]]:
    return [list(column) for column in zip(*keys, strict=True)]


def _key_of(row: Any) -> Key:
    return row["recording_key"], row["start_ms"], row["sensor_key"]


def _without_level(row: Row) -> tuple[Any, ...]:
    return (*row[:_LEVEL], *row[_LEVEL + 1 :])


def _with_level(row: Sequence[Any], level_s: int) -> tuple[Any, ...]:
    return (*row[:_LEVEL], level_s, *row[_LEVEL:])


def copied(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as COPY reads them."""
    return "".join(map(_line, rows))


def _line(row: Sequence[Any]) -> str:
    return "\t".join(map(_text, row)) + "\n"


def _text(value: Any) -> str:
    if value is None:
        return "\\N"
    if type(value) is list:
        return f"{{{str(value)[1:-1].replace('None', 'NULL')}}}"  # of integers
    return repr(value) if type(value) is float else str(int(value))
