"""Values that a ledger cannot have: looked for where a command broke on one.

PostgreSQL refuses them when they are written. SQLite takes any value in any column, and the file
may be somebody else's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from sqlalchemy import BigInteger, Boolean, Column, Double, Integer, Text

from carbontrack.keys import KEYS
from carbontrack.ledger import tables
from carbontrack.ledger.models import Array, Base, Json

_YEARS_MS = (-62_135_596_800_000, 253_402_300_799_999)  # 0001 to 9999
_LARGEST = 1e100
_TEXTS = {("runs", "command"), ("runs", "tags")}  # whose items are texts
_TEXT, _NUMBER = "('text', 'null')", "('real', 'integer', 'null')"  # as SQLite calls JSON's kinds
_MEMBERS = {
    ("runs", "model"): {"name": _TEXT},
    ("runs", "facility"): {key.name: _TEXT if key.low is None else _NUMBER for key in KEYS},
}
_LISTS = {
    (table.name, name)
    for table in tables.TABLES
    for name, read in table.read_as.items()
    if read is tuple
}
_ANYTHING = {("amendments", "before"), ("amendments", "after")}


def first_damage(connection: sqlite3.Connection) -> str | None:
    """The first column with such values, as TABLE.COLUMN; None if there is none.

    Raises sqlite3.Error for a table or column that is missing.
    """
    for table in Base.metadata.sorted_tables:
        for column in table.columns:
            sound = " and ".join(_sound(table.name, column))
            wrong = (
                f'select 1 from {table.name} where "{column.name}" is not null and not ({sound})'
            )
            if connection.execute(f"{wrong} limit 1").fetchone():
                return f"{table.name}.{column.name}"
    return None


def _sound(table: str, column: Column[object]) -> Iterator[str]:
    """The conditions on a value of this column."""
    name = f'"{column.name}"'
    if isinstance(column.type, Json):
        if (
            table,
            column.name,
        ) in _ANYTHING:  # SQLite stores a number that is a column's text as one
            yield f"json_valid(cast({name} as text))"
            return
        yield f"typeof({name}) = 'text' and json_valid({name})"
        kind = "array" if (table, column.name) in _LISTS else "object"
        yield f"iif(json_valid({name}), json_type({name}), '') = '{kind}'"
        if (table, column.name) in _TEXTS:
            yield f"not exists (select 1 from json_each({name}) where type != 'text')"
        for member, kinds in _MEMBERS.get((table, column.name), {}).items():
            yield f"coalesce(json_type({name}, '$.{member}'), 'null') in {kinds}"
    elif isinstance(column.type, Array):
        yield f"iif(json_valid({name}), json_type({name}), '') = 'array'"
        yield f"not exists (select 1 from json_each({name}) where type not in {_NUMBER})"
    elif isinstance(column.type, (BigInteger, Integer, Boolean)):
        yield f"typeof({name}) = 'integer'"
        if column.name.endswith("_ms"):
            yield f"{name} between {_YEARS_MS[0]} and {_YEARS_MS[1]}"
    elif isinstance(column.type, Double):
        yield f"typeof({name}) in ('real', 'integer')"
        if table != "steps":  # a loss may be anything
            yield f"abs({name}) < {_LARGEST}"
    elif isinstance(column.type, Text):
        yield f"typeof({name}) = 'text'"
