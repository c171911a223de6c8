"""Seconds of a device packed by the minute, as integers, without loss. Pure.

What adds up is in thousandths, so that sums of integers are those of the levels above. A second
whose values are no such integers, or too large ones, is not packed: see `pack`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from carbontrack.ledger.joined import Row
from carbontrack.ledger.tables import WINDOWS
from carbontrack.units import MS_PER_S

Segment = tuple[Any, ...]
"""A row of `seconds`: `SEGMENT_COLUMNS` in their order."""

_MINUTE_MS = 60 * MS_PER_S
_EVERY = list(range(60))
_INT16, _INT32 = (1 << 15) - 1, (1 << 31) - 1
# Of a window: the column, the array that has it, how many of that are one, and the largest.
_PACKED: tuple[tuple[str, str, float | None, int], ...] = (
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
SEGMENT_COLUMNS = (
    *("start_ms", "recording_key", "sensor_key", "at"),
    *(array for _, array, _, _ in _PACKED),
)
_RECORDING, _SENSOR, _START_MS = map(
    WINDOWS.columns.index, ("recording_key", "sensor_key", "start_ms")
)
_VALUES = [(WINDOWS.columns.index(name), by, most) for name, _, by, most in _PACKED]
_BY = [by for _, _, by, _ in _PACKED]
_LEVEL_S = 1


def minute_of(row: Row) -> tuple[int, int, int]:
    """The device-minute that a second is in: recording, start in ms, sensor."""
    start_ms = row[_START_MS]
    return row[_RECORDING], start_ms - start_ms % _MINUTE_MS, row[_SENSOR]


def pack(rows: Sequence[Row]) -> tuple[Segment | None, list[Row]]:
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


def unpack(segment: Segment) -> Iterator[tuple[Any, ...]]:
    """The seconds of a segment, as they were packed."""
    start_ms, recording, sensor, at, *arrays = segment
    seconds = _EVERY if at is None else at
    columns = [_unpacked(array, by, len(seconds)) for array, by in zip(arrays, _BY, strict=True)]
    for second, *values in zip(seconds, *columns, strict=True):
        yield recording, sensor, start_ms + second * MS_PER_S, _LEVEL_S, *values


def _packed(rows: Sequence[Row]) -> Segment | None:
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
    return (start_ms, recording, sensor, None if at == _EVERY else at, *arrays)


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
