"""Windows on PostgreSQL: rows of any level into the tables behind the view `windows`, and out.

Staged by COPY, then inserted where there is nothing yet. Where there is something, as where a
minute comes in parts, both are joined here. Who writes into a recording has locked its row, so no
other writer of it comes between.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from carbontrack.errors import CarbontrackError
from carbontrack.ledger.joined import Better, Joined, Row, best_of
from carbontrack.ledger.packed import SEGMENT_COLUMNS, Segment, minute_of, pack, unpack
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
        self._make_partitions("seconds", {start_ms for _, start_ms, _ in minutes})
        odd = self._odd_minutes(minutes)
        odd |= {key for key, (segment, others) in packed.items() if segment is None or others}
        whole = {key: segment for key, (segment, _) in packed.items() if segment and key not in odd}
        fresh, known = self._insert("seconds", SEGMENT_COLUMNS, list(whole.values()))
        again = odd | {(recording, start_ms, sensor) for start_ms, recording, sensor, *_ in known}
        joined = Joined([row for key in fresh for row in minutes[key]])
        joined.add(self._join_minutes({key: minutes[key] for key in again}, is_better))
        return joined

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
        here: dict[Key, dict[int, Row]] = defaultdict(dict)
        unpacked = chain.from_iterable(map(unpack, self._segments(minutes)))
        for row in chain(unpacked, self._odd(minutes)):
            here[minute_of(row)][row[_START_MS]] = row
        segments: list[Segment] = []
        odd: list[Row] = []
        gone: list[Key] = []
        for key, rows in minutes.items():
            of_minute = here[key]
            for row in rows:
                if joined.take(row, of_minute.get(row[_START_MS]), is_better):
                    of_minute[row[_START_MS]] = row
            segment, others = pack([of_minute[at] for at in sorted(of_minute)])
            odd += others
            if segment is None:
                gone.append(key)
            else:
                segments.append(segment)
        self._delete("seconds", gone)
        self._delete_odd(minutes)
        self._insert("seconds", SEGMENT_COLUMNS, segments, replace=True)
        self._insert("odd_seconds", _ROW_COLUMNS, [_without_level(row) for row in odd])
        return joined

    def _put_rows(
        self, table: str, level_s: int, rows: Sequence[Row], is_better: Better | None
    ) -> Joined:
        if table in _PARTITIONED:
            self._make_partitions(table, {row[_START_MS] for row in rows})
        if is_better is None:
            plain = [_without_level(row) for row in rows]
            self._insert(table, _ROW_COLUMNS, plain, replace=True)
            return Joined(written=list(rows))
        fresh, known = self._insert(table, _ROW_COLUMNS, [_without_level(row) for row in rows])
        here = {_place(row): row for row in (_with_level(one, level_s) for one in known)}
        joined = Joined([row for row in rows if _place(row) in fresh])
        unlike = [row for row in rows if _place(row) in here]
        better = [
            _without_level(row) for row in unlike if joined.take(row, here[_place(row)], is_better)
        ]
        self._insert(table, _ROW_COLUMNS, better, replace=True)
        return joined

    def _insert(
        self,
        table: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[Any]],
        *,
        replace: bool = False,
    ) -> tuple[set[Key], list[tuple[Any, ...]]]:
        """Insert rows where there are none of their keys: the keys of these, and the rows that were
        there and differ. Or replace these.
        """
        if not rows:
            return set(), []
        names = ", ".join(columns)
        staged = f"staged_{'seconds' if table == 'seconds' else 'rows'}"
        self._run(
            f"create temp table if not exists {staged} (like "
            f"{'seconds' if table == 'seconds' else 'hours'}) on commit delete rows"
        )
        self._run(f"truncate pg_temp.{staged}")
        self._copy(f"copy pg_temp.{staged} ({names}) from stdin", rows)
        insert = (
            f"insert into {table} ({names}) select {names} from pg_temp.{staged} order by {_KEY} "
            f"on conflict ({_KEY}) do "
        )
        if replace:
            values = [name for name in columns if name not in _KEY.split(", ")]
            news = ", ".join(f"{name} = excluded.{name}" for name in values)
            self._run(f"{insert} update set {news}")
            return set(), []
        inserted = {tuple(row) for row in self._run(f"{insert} nothing returning {_KEY}")}
        if len(inserted) == len(rows):
            return inserted, []
        ours = ", ".join(f"s.{name}" for name in columns)
        theirs = ", ".join(f"t.{name}" for name in columns)
        found = self._run(
            f"select {ours} from {table} s join pg_temp.{staged} t on {_SAME} "
            f"where ({ours}) is distinct from ({theirs})"
        )
        return inserted, [tuple(row) for row in found]

    def _segments(self, keys: Collection[Key]) -> Iterator[Segment]:
        names = ", ".join(f"s.{name}" for name in SEGMENT_COLUMNS)
        found = self._run(f"select {names} from seconds s join {_KEYS} on {_SAME}", *_split(keys))
        return (tuple(row) for row in found)

    def _odd(self, keys: Collection[Key]) -> Iterator[Row]:
        names = ", ".join(f"s.{name}" for name in _ROW_COLUMNS)
        found = self._run(
            f"select {names} from odd_seconds s join {_KEYS} on {_IN_MINUTE}", *_split(keys)
        )
        return (_with_level(row, _SECOND) for row in found)

    def _delete(self, table: str, keys: Collection[Key]) -> None:
        if keys:
            self._run(f"delete from {table} s using {_KEYS} where {_SAME}", *_split(keys))

    def _delete_odd(self, keys: Collection[Key]) -> None:
        self._run(f"delete from odd_seconds s using {_KEYS} where {_IN_MINUTE}", *_split(keys))

    def _make_partitions(self, table: str, starts_ms: Collection[int]) -> None:
        self._run("select make_partitions(%s, %s)", table, sorted(starts_ms))

    def _run(self, statement: str, *values: Any) -> Any:
        return self._connection.exec_driver_sql(statement, values)

    def _copy(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        with self._driver_errors(statement):
            cursor = self._connection.connection.cursor()
            with cursor.copy(statement) as copy:
                copy.write(copied(rows))

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
        return "{" + ",".join(["NULL" if one is None else str(one) for one in value]) + "}"
    return repr(value) if type(value) is float else str(int(value))
