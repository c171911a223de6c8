"""The table of tables: the columns of each, the key of its rows, and the dataclass of a row.

Statements, inserted rows and the rows that are read derive from here; SQLAlchemy's models, the
migrations and `schema.sql` are held to it by a test. Standard library only, for the recorder.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from operator import attrgetter, itemgetter
from typing import Any, Generic, TypeVar

from carbontrack.ledger.rows import (
    Amendment,
    ClockOffset,
    Event,
    Import,
    Intensity,
    LateMinute,
    Live,
    OverlapPart,
    Price,
    Recording,
    Run,
    Sensor,
    ShippedTombstone,
    Stated,
    Step,
    Token,
    Tombstone,
    Watermark,
)
from carbontrack.ledger.window import Flag, Window
from carbontrack.vocabulary import RunKind, Status

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


def _names(row: type, *, without: tuple[str, ...] = ()) -> tuple[str, ...]:
    return tuple(one.name for one in fields(row) if one.name not in without)


RUNS = Table(
    "runs",
    Run,
    key=("id",),
    fields=_names(
        Run,
        without=(
            *("ended_ms", "status", "exit_code", "heartbeat_ms", "heard_ms"),
            *("amended", "clocks", "key"),
        ),
    ),
    json=frozenset({"tags", "command", "facility", "model"}),
    read_as={"kind": RunKind, "command": tuple},
    serial="key",
    booleans=frozenset({"git_dirty"}),
)
RECORDINGS = Table(
    "recordings",
    Recording,
    key=("id",),
    fields=_names(Recording, without=("key", "heard_ms", "shifts", "set_ms")),
    placed=("run_key",),
    json=frozenset({"settings"}),
    read_as={"status": Status},
    serial="key",
)
CLOCKS = Table(
    "clocks",
    ClockOffset,
    key=("recording_key", "time_ms"),
    fields=_names(ClockOffset),
    placed=("recording_key",),
)
_OF_DEVICE = ("uuid", "kind", "name", "mig_parent")
DEVICES = Table("devices", Sensor, key=("uuid",), fields=_OF_DEVICE, serial="key")
SENSORS = Table(
    "sensors",
    Sensor,
    key=("recording_key", "device_key"),
    fields=_names(Sensor, without=(*_OF_DEVICE, "device_key", "spans_ms")),
    placed=("recording_key", "device_key"),
    serial="key",
)
WINDOWS = Table(
    "windows",
    Window,
    key=("recording_key", "level", "start_ms", "sensor_key"),
    fields=_names(Window),
    placed=("recording_key", "sensor_key"),
    column_of={"level_s": "level"},
    read_as={"flags": Flag},
    computed=("power_mean_w",),
)
STEPS = Table(
    "steps",
    Step,
    key=("recording_key", "restart", "step"),
    fields=_names(Step),
    placed=("recording_key",),
    json=frozenset({"extra"}),
)
EVENTS = Table(
    "events",
    Event,
    key=("recording_key", "number"),
    fields=_names(Event),
    placed=("recording_key", "number"),
    json=frozenset({"data"}),
)
STATED = Table(
    "stated",
    Stated,
    key=("run_key", "device_name"),
    fields=_names(Stated),
    placed=("run_key",),
)
OVERLAPS = Table(
    "overlaps",
    OverlapPart,
    key=("sensor_key", "start_ms"),
    fields=_names(OverlapPart),
    placed=("sensor_key",),
)
AMENDMENTS = Table(
    "amendments",
    Amendment,
    key=("id",),
    fields=_names(Amendment),
    json=frozenset({"before", "after"}),
)
TOMBSTONES = Table("tombstones", Tombstone, key=("run_id",), fields=_names(Tombstone))
SHIPPED_TOMBSTONES = Table(
    "shipped_tombstones",
    ShippedTombstone,
    key=("run_id", "target"),
    fields=_names(ShippedTombstone),
)
IMPORTS = Table(
    "imports",
    Import,
    key=("sha256", "run_key"),
    fields=_names(Import),
    placed=("run_key",),
    json=frozenset({"notes", "facts"}),
    read_as={"notes": tuple},
)
WATERMARKS = Table(
    "watermarks",
    Watermark,
    key=("recording_key", "target"),
    fields=_names(Watermark),
    placed=("recording_key",),
)
LATE_MINUTES = Table(
    "late_minutes",
    LateMinute,
    key=("recording_key", "sensor_key", "start_ms"),
    fields=_names(LateMinute),
    placed=("recording_key", "sensor_key"),
)
LIVE = Table(
    "live",
    Live,
    key=("recording_key",),
    fields=_names(Live),
    placed=("recording_key", "heard_ms", "sensor_keys"),
    arrays=frozenset({"sensor_keys", "power_w", "energy_j", "util_pct"}),
    read_as={"power_w": tuple, "energy_j": tuple, "util_pct": tuple},
)
TOKENS = Table("tokens", Token, key=("hash",), fields=_names(Token))
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
    *(RUNS, RECORDINGS, CLOCKS, DEVICES, SENSORS, WINDOWS, STEPS, EVENTS),
    *(STATED, OVERLAPS, AMENDMENTS, TOMBSTONES, SHIPPED_TOMBSTONES),
    *(IMPORTS, WATERMARKS, LATE_MINUTES, LIVE),
    *(TOKENS, INTENSITY, PRICES),
)
"""All of them, each after those that it refers to."""

REFERS: Mapping[str, Table[Any]] = {
    "run_key": RUNS,
    "recording_key": RECORDINGS,
    "device_key": DEVICES,
    "sensor_key": SENSORS,
}
"""The columns that hold the `serial` of another table's row: each ledger has its own."""

_OF_ONE_LEDGER = (SHIPPED_TOMBSTONES, WATERMARKS, LATE_MINUTES, LIVE, TOKENS)
CARRIED = tuple(table for table in TABLES if table not in _OF_ONE_LEDGER)
"""Those that go from ledger to ledger; the others are about one ledger."""
