"""How one table of the ledger is written and read: its columns, the key of its rows, and the
dataclass of a row. Standard library only, for the recorder.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from operator import attrgetter, itemgetter
from typing import Any, Generic, TypeVar

R = TypeVar("R")
_AS_IT_IS = frozenset({int, float, bool, type(None)})


@dataclass(frozen=True)
class Table(Generic[R]):
    """One table. Its columns are `placed`, then the `fields` of the row, under their own names but
    for those in `column_of`.
    """

    name: str
    row: type[R]
    key: tuple[str, ...]  # the columns that identify a row
    fields: tuple[str, ...]  # the fields of the row that are columns of this table
    placed: tuple[str, ...] = ()  # columns beside the row's own: keys of other tables, numbers
    json: frozenset[str] = frozenset()
    arrays: frozenset[str] = frozenset()  # see `Transaction.array`
    column_of: Mapping[str, str] = field(default_factory=dict)
    read_as: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    serial: str | None = None  # an integer that the database gives, for use inside this ledger
    computed: tuple[str, ...] = ()  # by the database
    booleans: frozenset[str] = frozenset()  # SQLite has numbers for them

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns that are written."""
        return (*self.placed, *self._own)

    @cached_property
    def carried(self) -> tuple[str, ...]:
        """The columns that go from ledger to ledger, with the integer that others refer to."""
        return self.columns if self.serial is None else (self.serial, *self.columns)

    @cached_property
    def query(self) -> str:
        """A SELECT of `carried`, with JSON as text."""
        names = {name: _quoted(name) for name in self.carried}
        names |= {name: f"cast({names[name]} as text) as {names[name]}" for name in self.json}
        return f"select {', '.join(names.values())} from {_quoted(self.name)}"

    @cached_property
    def _own(self) -> tuple[str, ...]:
        """The columns of `fields`, in their order."""
        return tuple(self.column_of.get(name, name) for name in self.fields)

    @cached_property
    def _from_row(self) -> Callable[[Any], tuple[Any, ...]]:
        return attrgetter(*self.fields)

    @cached_property
    def _from_columns(self) -> Callable[[Any], tuple[Any, ...]]:
        return itemgetter(*self._own)

    @cached_property
    def upsert(self) -> str:
        """An INSERT of a row that replaces the one of the same key."""
        names = [name for name in self.columns if name not in self.key]
        news = ", ".join(f"{_quoted(name)} = excluded.{_quoted(name)}" for name in names)
        return f"{self._insert} do update set {news}"

    @cached_property
    def upsert_in_order(self) -> str:
        """The same for `sqlite3`, of rows as `in_order` makes them."""
        named = ", ".join(f":{name}" for name in self.columns)
        return self.upsert.replace(named, ", ".join("?" for _ in self.columns), 1)

    @cached_property
    def insert_once(self) -> str:
        """An INSERT of a row that leaves the one of the same key alone."""
        return f"{self._insert} do nothing"

    @property
    def _insert(self) -> str:
        names = ", ".join(map(_quoted, self.columns))
        values = ", ".join(f":{name}" for name in self.columns)
        keys = ", ".join(map(_quoted, self.key))
        return f"insert into {_quoted(self.name)} ({names}) values ({values}) on conflict ({keys})"

    def written(self, row: Any, **placed: Any) -> dict[str, Any]:
        """The columns of a row, as both databases take them."""
        columns = dict(zip(self._own, self._from_row(row), strict=True))
        for name, value in columns.items():
            if name in self.json:
                columns[name] = json.dumps(plain(value))
            elif type(value) not in _AS_IT_IS:
                columns[name] = plain(value)
        return columns | placed

    def in_order(self, row: R, *placed: int) -> tuple[Any, ...]:
        """The columns of a row that has numbers only: names would take as long as all the rest."""
        return (*placed, *self._from_row(row))

    def parsed(self, row: Sequence[Any]) -> dict[str, Any]:
        """The columns of a row of `query`, alike from both databases: JSON as what it says."""
        columns = dict(zip(self.carried, row, strict=True))
        for name in self.json:
            columns[name] = json.loads(columns[name])
        for name in self.booleans:
            columns[name] = None if columns[name] is None else bool(columns[name])
        return columns

    def stored(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """The written columns of a parsed row, as both databases take them."""
        return {
            name: json.dumps(columns[name]) if name in self.json else columns[name]
            for name in self.columns
        }

    def read(self, columns: Mapping[Any, Any]) -> R:
        """The row of these columns; those that are not fields of it are left out."""
        return self.of_fields(dict(zip(self.fields, self._from_columns(columns), strict=True)))

    def of_fields(self, values: Mapping[str, Any]) -> R:
        """The row of these fields, whose values are as a database or JSON gives them."""
        made = dict(values)
        for name, make in self.read_as.items():
            made[name] = make(values[name])
        return self.row(**made)


def plain(value: Any) -> Any:
    """What both databases hold: they refuse NaN in JSON, NUL in text and half a character."""
    if isinstance(value, str):
        return value.replace("\0", "\N{SYMBOL FOR NULL}").encode(errors="backslashreplace").decode()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and type(value) is not bool:
        return int(value)
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def _quoted(name: str) -> str:
    return f'"{name}"'  # for those that PostgreSQL knows as words of its own: user, overlaps


def names_of(row: type, *, without: tuple[str, ...] = ()) -> tuple[str, ...]:
    return tuple(one.name for one in fields(row) if one.name not in without)
