"""How both databases are asked for windows, a table in one and a view in the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, Integer, column, literal, text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from carbontrack.ledger import file_windows, models
from carbontrack.ledger.transaction import FIRST_MS, LAST_MS


class _Between(FunctionElement[Any]):
    """See `windows_between`: PostgreSQL has a function."""

    name = "windows_between"
    inherit_cache = True


class _First(FunctionElement[int]):
    """See `first_window`: PostgreSQL has a function."""

    type = BigInteger()
    inherit_cache = True


@compiles(_Between, "sqlite")
def _between_in_file(element: _Between, compiler: SQLCompiler, **kw: Any) -> str:
    return file_windows.BETWEEN.format(*_arguments(element, compiler, kw))


@compiles(_Between)
def _between_on_server(element: _Between, compiler: SQLCompiler, **kw: Any) -> str:
    return f"windows_between({', '.join(_arguments(element, compiler, kw))})"


@compiles(_First, "sqlite")
def _first_in_file(element: _First, compiler: SQLCompiler, **kw: Any) -> str:
    return file_windows.FIRST.format(*_arguments(element, compiler, kw))


@compiles(_First)
def _first_on_server(element: _First, compiler: SQLCompiler, **kw: Any) -> str:
    return f"first_window({', '.join(_arguments(element, compiler, kw))})"


def _arguments(element: FunctionElement[Any], compiler: SQLCompiler, kw: Any) -> list[str]:
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


def count_windows(connection: Connection, recordings: Sequence[int] | None = None) -> int:
    """How many there are: in the ledger, or of recordings by their keys."""
    of_some = "" if recordings is None else f" where recording_key in ({_listed(recordings)})"
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


def _listed(keys: Sequence[int]) -> str:
    return ", ".join(str(int(key)) for key in keys)
