"""Seconds of a device packed by the minute, as integers, without loss. Pure.

What adds up is in thousandths, so that sums of integers are those of the levels above. A second
whose values are no such integers, or too large ones, is not packed: see `pack`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import Any

from carbontrack.ledger.joined import Row
from carbontrack.ledger.recorded_tables import WINDOWS
from carbontrack.units import MS_PER_S

Array = list[int | None] | None
"""A value for each second, or a single one that all have; None where none is known."""


@dataclass(frozen=True, slots=True)
class Segment:
    """The seconds of one device in one minute. `at` says which of the 60 they are, None all."""

    start_ms: int
    at: list[int] | None
    energy_mj: Array
    energy_ms: Array
    sampled_ms: Array
    samples: Array
    power_min_mw: Array
    power_max_mw: Array
    vitals: Array
    util_cpct: Array
    memory_max_kib: Array
    temperature_max_c: Array
    sm_clock_mhz: Array
    throttle: Array
    flags: Array


Stored = tuple[Any, ...]
"""A row of `seconds`: `SEGMENT_COLUMNS` in their order."""

SECONDS = 60
_MINUTE_MS = SECONDS * MS_PER_S
_EVERY = list(range(SECONDS))
_INT16, _INT32 = (1 << 15) - 1, (1 << 31) - 1
PACKED: tuple[tuple[str, str, float | None, int], ...] = (
    ("energy_j", "energy_mj", 1000.0, _INT32),
    ("energy_s", "energy_ms", 1000.0, _INT16),
    ("sampled_s", "sampled_ms", 1000.0, _INT16),
    ("samples", "samples", None, _INT16),
    ("power_min_w", "power_min_mw", 1000.0, _INT32),
    ("power_max_w", "power_max_mw", 1000.0, _INT32),
    ("vitals", "vitals", None, _INT16),
    ("util_pct", "util_cpct", 100.0, _INT16),
    ("memory_max_bytes", "memory_max_kib", 1 / 1024, _INT32),
    ("temperature_max_c", "temperature_max_c", 1.0, _INT16),
    ("sm_clock_mhz", "sm_clock_mhz", 1.0, _INT16),
    ("throttle", "throttle", None, _INT16),
    ("flags", "flags", None, _INT16),
)
"""Of a window: the column, the array that has it, how many of that are one, and the largest."""

_FIELDS = tuple(Segment.__dataclass_fields__)
SEGMENT_COLUMNS = ("recording_key", "sensor_key", *_FIELDS)
values_of: Callable[[Segment], tuple[Any, ...]] = attrgetter(*_FIELDS)
"""The fields of a segment in their order."""

place_of: Callable[[Stored], tuple[int, int, int]] = itemgetter(
    *map(SEGMENT_COLUMNS.index, ("recording_key", "start_ms", "sensor_key"))
)
"""The device-minute of a segment: recording, start in ms, sensor."""

_RECORDING, _SENSOR, _START_MS = map(
    WINDOWS.columns.index, ("recording_key", "sensor_key", "start_ms")
)
_VALUES = [(WINDOWS.columns.index(name), by, most) for name, _, by, most in PACKED]
_BY = [by for _, _, by, _ in PACKED]
_LEVEL_S = 1


def minute_of(row: Row) -> tuple[int, int, int]:
    """The device-minute that a second is in."""
    start_ms = row[_START_MS]
    return row[_RECORDING], start_ms - start_ms % _MINUTE_MS, row[_SENSOR]


def stored(segment: Segment, recording_key: int, sensor_key: int) -> Stored:
    """A segment as the row of a ledger with these keys."""
    return (recording_key, sensor_key, *values_of(segment))


def segment_of(row: Stored) -> Segment:
    """A row without the keys of its ledger."""
    return Segment(*row[2:])


def pack(rows: Sequence[Row]) -> tuple[Stored | None, list[Row]]:
    """Seconds of one device-minute, in the order of time, as its segment; and those of them that do
    not fit into any.
    """
    found = _packed(rows)
    if found is not None:
        return found, []
    fit: list[Row] = []
    odd: list[Row] = []
    for row in rows:
        (odd if _packed([row]) is None else fit).append(row)
    return _packed(fit) if fit else None, odd


def unpack(segment: Stored) -> Iterator[Row]:
    """The seconds of a segment, as they were packed."""
    recording, sensor, start_ms, at, *arrays = segment
    seconds = _EVERY if at is None else at
    columns = [_unpacked(array, by, len(seconds)) for array, by in zip(arrays, _BY, strict=True)]
    for second, *values in zip(seconds, *columns, strict=True):
        yield recording, sensor, start_ms + second * MS_PER_S, _LEVEL_S, *values


def _packed(rows: Sequence[Row]) -> Stored | None:
    recording, start_ms, sensor = minute_of(rows[0])
    at = []
    for row in rows:
        second, rest_ms = divmod(row[_START_MS] - start_ms, MS_PER_S)
        if rest_ms:
            return None
        at.append(second)
    arrays: list[list[int | None] | None] = []
    for index, by, most in _VALUES:
        values = [row[index] for row in rows]
        first = values[0]
        is_constant = values.count(first) == len(values)
        found = _integers(values[:1] if is_constant else values, by, most)
        if found is None:
            return None
        arrays.append(None if is_constant and first is None else found)
    return (recording, sensor, start_ms, None if at == _EVERY else at, *arrays)


def _integers(values: list[Any], by: float | None, most: int) -> list[int | None] | None:
    """These values as integers; None if one of them would not come back as it is."""
    found: list[int | None] = []
    try:
        for value in values:
            if value is None:
                found.append(None)
                continue
            scaled = value if by is None else round(value * by)
            if not -most <= scaled <= most or (by is not None and scaled / by != value):
                return None
            found.append(int(scaled))
    except (ValueError, OverflowError):  # not a finite number
        return None
    return found


def _unpacked(array: list[int | None] | None, by: float | None, length: int) -> Sequence[Any]:
    if array is None:
        return [None] * length
    if by is None:
        values: list[Any] = array
    elif by < 1:
        values = [None if value is None else round(value / by) for value in array]
    else:
        values = [None if value is None else value / by for value in array]
    return values * length if len(values) == 1 else values
