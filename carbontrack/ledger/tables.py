"""The table of tables: the columns of each, the key of its rows, and the dataclass of a row.

Statements, inserted rows and the rows that are read derive from here; SQLAlchemy's models, the
migrations and `schema.sql` are held to it by a test. Standard library only, for the recorder.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from operator import attrgetter, itemgetter
from typing import Any, Generic, TypeVar

from carbontrack.ledger.rows import Event, Intensity, Node, Price, Run, Sensor, Step
from carbontrack.ledger.window import Flag, Window
from carbontrack.vocabulary import Status

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
    column_of: Mapping[str, str] = field(default_factory=dict)
    read_as: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    serial: str | None = None  # an integer that the database gives, for use inside this ledger
    computed: tuple[str, ...] = ()  # by the database

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns that are written."""
        return (*self.placed, *self._own)

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
    def insert_once(self) -> str:
        """An INSERT of a row that leaves the one of the same key alone."""
        return f"{self._insert} do nothing"

    @property
    def _insert(self) -> str:
        names = ", ".join(map(_quoted, self.columns))
        values = ", ".join(f":{name}" for name in self.columns)
        keys = ", ".join(map(_quoted, self.key))
        return f"insert into {self.name} ({names}) values ({values}) on conflict ({keys})"

    def written(self, row: Any, **placed: Any) -> dict[str, Any]:
        """The columns of a row, as both databases take them."""
        columns = dict(zip(self._own, self._from_row(row), strict=True))
        for name, value in columns.items():
            if name in self.json:
                columns[name] = json.dumps(plain(value))
            elif type(value) not in _AS_IT_IS:
                columns[name] = plain(value)
        return columns | placed

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
    return f'"{name}"'  # for one that PostgreSQL knows as a word of its own: user


def _names(row: type, *, without: tuple[str, ...] = ()) -> tuple[str, ...]:
    return tuple(one.name for one in fields(row) if one.name not in without)


RUNS = Table(
    "runs",
    Run,
    key=("id",),
    fields=_names(Run, without=("heartbeat_ms", "key")),
    json=frozenset({"tags", "command", "facility", "model"}),
    read_as={"status": Status, "command": tuple},
    serial="key",
)
NODES = Table(
    "nodes",
    Node,
    key=("run_key", "host"),
    fields=_names(Node),
    placed=("run_key",),
    json=frozenset({"settings"}),
)
_OF_DEVICE = ("uuid", "kind", "name", "rated_power_w", "power_limit_w", "mig_parent")
DEVICES = Table("devices", Sensor, key=("uuid",), fields=_OF_DEVICE, serial="key")
SENSORS = Table(
    "sensors",
    Sensor,
    key=("run_key", "device_key"),
    fields=_names(Sensor, without=(*_OF_DEVICE, "device_key")),
    placed=("run_key", "device_key"),
)
WINDOWS = Table(
    "windows",
    Window,
    key=("run_key", "level", "device_key", "start_ms"),
    fields=_names(Window),
    placed=("run_key", "device_key"),
    column_of={"level_s": "level"},
    read_as={"flags": Flag},
    computed=("power_mean_w",),
)
STEPS = Table(
    "steps",
    Step,
    key=("run_key", "step"),
    fields=_names(Step),
    placed=("run_key",),
    json=frozenset({"extra"}),
)
EVENTS = Table(
    "events",
    Event,
    key=("run_key", "time_ms", "seq"),
    fields=_names(Event),
    placed=("run_key", "seq"),
    json=frozenset({"data"}),
)
INTENSITY = Table(
    "intensity", Intensity, key=("zone", "start_ms", "version"), fields=_names(Intensity)
)
PRICES = Table(
    "prices",
    Price,
    key=("book", "key", "version"),
    fields=_names(Price),
    column_of={"item": "key"},
)
TABLES: tuple[Table[Any], ...] = (
    *(RUNS, NODES, DEVICES, SENSORS, WINDOWS, STEPS, EVENTS),
    *(INTENSITY, PRICES),
)
"""All of them, each after those that it refers to."""
