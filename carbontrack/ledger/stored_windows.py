"""How both databases are asked for windows, a table in one and a view in the other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    column,
    literal,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from carbontrack.ledger import file_windows, models
from carbontrack.ledger.recorded_rows import Span
from carbontrack.ledger.sql import in_parts, listed
from carbontrack.ledger.window import FIRST_MS, LAST_MS, LEVELS_S
from carbontrack.units import MS_PER_HOUR, MS_PER_S


class _OfWindows(FunctionElement[Any]):
    """What PostgreSQL has a function of this `name` for, and a file's SQL `in_file` stands for."""

    in_file: ClassVar[str]
    inherit_cache = True


class _Between(_OfWindows):
    """See `windows_between`."""

    name = "windows_between"
    in_file = file_windows.BETWEEN
    inherit_cache = True


class _First(_OfWindows):
    """See `first_window`."""

    name = "first_window"
    in_file = file_windows.FIRST
    type = BigInteger()
    inherit_cache = True


@compiles(_OfWindows, "sqlite")
def _in_file(element: _OfWindows, compiler: SQLCompiler, **kw: Any) -> str:
    return element.in_file.format(*_arguments(element, compiler, kw))


@compiles(_OfWindows)
def _on_server(element: _OfWindows, compiler: SQLCompiler, **kw: Any) -> str:
    return f"{element.name}({', '.join(_arguments(element, compiler, kw))})"


def _arguments(element: _OfWindows, compiler: SQLCompiler, kw: Any) -> list[str]:
    return [compiler.process(clause, **kw) for clause in element.clauses]


def windows_between(level_s: int, from_ms: int | None, to_ms: int | None) -> Any:
    """Windows of a level that begin from one time on, and before another; as columns by the names
    of `Window`. PostgreSQL unpacks the seconds that are asked for only if it is asked like this,
    with the keys of recordings as values.
    """
    wanted = [_integer(level_s), _integer(_or(from_ms, FIRST_MS)), _integer(_or(to_ms, LAST_MS))]
    columns = models.Window.__table__.columns
    return _Between(*wanted).table_valued(*(column(c.name, c.type) for c in columns)).c


def first_window(
    recording_key: Any, level_s: int, from_ms: int | None, to_ms: int | None
) -> ColumnElement[int]:
    """When the first of a recording's windows of a level begins, between two times; of seconds at
    most a minute too early.
    """
    times = _integer(_or(from_ms, FIRST_MS)), _integer(_or(to_ms, LAST_MS))
    found: ColumnElement[int] = _First(recording_key, _integer(level_s), *times)
    return found


def windows_at(
    connection: Connection, level_s: int, starts_ms: Mapping[int, Collection[int]]
) -> Iterator[Sequence[Any]]:
    """Windows of a level that begin at these times, by the keys of their recordings: each as
    (sensor_key, start_ms, energy_j, energy_s).
    """
    alike: dict[tuple[Span, ...], list[int]] = defaultdict(list)
    for key, starts in starts_ms.items():
        alike[_joined(sorted(starts), level_s * MS_PER_S)].append(key)
    windows, where = _AT[connection.dialect.name]
    for spans, keys in alike.items():
        for some in in_parts(spans):
            between = ", ".join(f"(cast({a} as bigint), cast({b} as bigint))" for a, b in some)
            query = (
                f"with spans (from_ms, to_ms) as (values {between}) "
                "select w.sensor_key, w.start_ms, w.energy_j, w.energy_s from spans "
                f"cross join {windows} where w.recording_key in ({listed(keys)}){where}"
            )
            yield from connection.execute(text(query.format(level=level_s))).all()


# SQLite joins in this order, and so seeks each span.
_AT = {
    "sqlite": (
        "windows w",
        " and w.level = {level} and w.start_ms >= spans.from_ms and w.start_ms < spans.to_ms",
    ),
    "postgresql": ("lateral windows_between({level}, spans.from_ms, spans.to_ms) w", ""),
}


def _joined(starts_ms: Iterable[int], length_ms: int) -> tuple[Span, ...]:
    """Windows, in order, as the spans that those make which follow each other."""
    spans: list[Span] = []
    for start_ms in starts_ms:
        begins_ms = spans.pop()[0] if spans and spans[-1][1] == start_ms else start_ms
        spans.append((begins_ms, start_ms + length_ms))
    return tuple(spans)


def hours_with_finer(
    connection: Connection, hours: Iterable[tuple[int, int]]
) -> set[tuple[int, int]]:
    """Those of some hours, as (key of the run, start in ms), of which there are minutes or seconds
    of any device.
    """
    asked = _FINER if connection.dialect.name == "postgresql" else _FINER_IN_FILE
    found: set[tuple[int, int]] = set()
    for some in in_parts(sorted(hours)):
        rows = ", ".join(f"({run_key}, {start_ms})" for run_key, start_ms in some)
        for run_key, start_ms in connection.execute(text(asked.format(rows=rows))):
            found.add((run_key, start_ms))
    return found


def _with_finer(source: str) -> str:
    """The statement; `source` has the windows of a level in an hour, and perhaps others."""
    hour = f"at.start_ms, at.start_ms + {MS_PER_HOUR}"
    some = " or ".join(
        f"exists (select 1 from recordings, {source.format(level=level_s, hour=hour)} "
        "where recordings.run_key = at.run_key and windows.recording_key = recordings.key "
        f"and recordings.started_ms < at.start_ms + {MS_PER_HOUR} "
        "and coalesce(recordings.ended_ms, recordings.heartbeat_ms) > at.start_ms "
        f"and windows.level = {level_s} and windows.start_ms >= at.start_ms "
        f"and windows.start_ms < at.start_ms + {MS_PER_HOUR})"
        for level_s in LEVELS_S[1::-1]
    )
    rows = "with at (run_key, start_ms) as (values {rows}) "
    return f"{rows}select at.run_key, at.start_ms from at where {some}"


_FINER = _with_finer("windows_between({level}, {hour}) windows")
_FINER_IN_FILE = _with_finer("windows")


def count_windows(connection: Connection, recordings: Sequence[int] | None = None) -> int:
    """How many there are: in the ledger, or of recordings by their keys."""
    of_some = "" if recordings is None else f" where recording_key in ({listed(recordings)})"
    if recordings is not None and not recordings:
        return 0
    counts = {"windows": "count(*)"}
    if connection.dialect.name == "postgresql":
        counts = dict.fromkeys(("odd_seconds", "minutes", "hours"), "count(*)")
        counts["seconds"] = "coalesce(sum(coalesce(cardinality(at), 60)), 0)"
    queries = (f"select {count} from {table}{of_some}" for table, count in counts.items())
    return sum(int(connection.scalar(text(query)) or 0) for query in queries)


def _or(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value


def _integer(value: int) -> ColumnElement[int]:
    return literal(value, Integer() if abs(value) < 1 << 31 else BigInteger())
