"""The table of tables: the columns of each, the key of its rows, and the dataclass of a row.

Statements, inserted rows and the rows that are read derive from here; SQLAlchemy's models, the
migrations and `schema.sql` are held to it by a test. Those that a recorder writes are in
`recorded_tables.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carbontrack.ledger.recorded_rows import Amendment
from carbontrack.ledger.recorded_tables import (
    DEVICES,
    EVENTS,
    RECORDINGS,
    RUNS,
    SENSORS,
    STEPS,
    WINDOWS,
)
from carbontrack.ledger.rows import (
    ClockOffset,
    Import,
    Intensity,
    LateMinute,
    Live,
    OverlapPart,
    Price,
    ShippedTombstone,
    Stated,
    Token,
    Tombstone,
    Watermark,
)
from carbontrack.ledger.table import Table, names_of, plain

__all__ = [
    "AMENDMENTS",
    "CARRIED",
    "CLOCKS",
    "DEVICES",
    "EVENTS",
    "IMPORTS",
    "INTENSITY",
    "LATE_MINUTES",
    "LIVE",
    "OVERLAPS",
    "PRICES",
    "RECORDINGS",
    "REFERS",
    "RUNS",
    "SENSORS",
    "SHIPPED_TOMBSTONES",
    "STATED",
    "STEPS",
    "TABLES",
    "TOKENS",
    "TOMBSTONES",
    "WATERMARKS",
    "WINDOWS",
    "Table",
    "plain",
]

CLOCKS = Table(
    "clocks",
    ClockOffset,
    key=("recording_key", "time_ms"),
    fields=names_of(ClockOffset),
    placed=("recording_key",),
)
STATED = Table(
    "stated",
    Stated,
    key=("run_key", "device_name"),
    fields=names_of(Stated),
    placed=("run_key",),
)
OVERLAPS = Table(
    "overlaps",
    OverlapPart,
    key=("sensor_key", "start_ms"),
    fields=names_of(OverlapPart),
    placed=("sensor_key",),
)
AMENDMENTS = Table(
    "amendments",
    Amendment,
    key=("id",),
    fields=names_of(Amendment),
    json=frozenset({"before", "after"}),
)
TOMBSTONES = Table("tombstones", Tombstone, key=("run_id",), fields=names_of(Tombstone))
SHIPPED_TOMBSTONES = Table(
    "shipped_tombstones",
    ShippedTombstone,
    key=("run_id", "target"),
    fields=names_of(ShippedTombstone),
)
IMPORTS = Table(
    "imports",
    Import,
    key=("sha256", "run_key"),
    fields=names_of(Import),
    placed=("run_key",),
    json=frozenset({"notes", "facts"}),
    read_as={"notes": tuple},
)
WATERMARKS = Table(
    "watermarks",
    Watermark,
    key=("recording_key", "target"),
    fields=names_of(Watermark),
    placed=("recording_key",),
)
LATE_MINUTES = Table(
    "late_minutes",
    LateMinute,
    key=("recording_key", "sensor_key", "start_ms"),
    fields=names_of(LateMinute),
    placed=("recording_key", "sensor_key"),
)
LIVE = Table(
    "live",
    Live,
    key=("recording_key",),
    fields=names_of(Live),
    placed=("recording_key", "heard_ms", "sensor_keys"),
    arrays=frozenset({"sensor_keys", "power_w", "energy_j", "util_pct"}),
    read_as={"power_w": tuple, "energy_j": tuple, "util_pct": tuple},
)
TOKENS = Table("tokens", Token, key=("hash",), fields=names_of(Token))
INTENSITY = Table(
    "intensity", Intensity, key=("zone", "start_ms", "version"), fields=names_of(Intensity)
)
PRICES = Table(
    "prices",
    Price,
    key=("book", "key", "version"),
    fields=names_of(Price),
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
