"""Windows of one level in buckets of a round length, sensor by sensor; what a run recorded twice
counts once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, func, select

from carbontrack.ledger import overlaps, stored_windows
from carbontrack.ledger.coarser import Reader, recordings_of, whole_hours
from carbontrack.ledger.recorded_rows import Run, Span
from carbontrack.ledger.sharing import Part, total
from carbontrack.ledger.window_columns import between, by_column
from carbontrack.units import MS_PER_S

NAMES = (
    *("sensor_key", "start_ms", "energy_j", "energy_s", "power_min_w", "power_max_w"),
    *("util_pct", "temperature_max_c", "vitals"),
)


def buckets_once(
    connection: Connection,
    run: Run,
    readers: Mapping[int, Reader],
    level_s: int,
    length: int,
    span_ms: Span,
) -> dict[str, list[Any]]:
    """As `buckets`, by column, without what an earlier recording of the run has, too: this is
    decided of whole hours.
    """
    if not overlaps.repeats_itself(connection, run.key):
        return by_column(NAMES, buckets(connection, readers, level_s, length, span_ms))
    hours_ms = whole_hours(span_ms)
    rows = buckets(connection, readers, level_s, length, hours_ms)
    twice = overlaps.within_buckets(connection, run.key, length, hours_ms, own_parts(rows))
    columns = take_off(by_column(NAMES, rows), twice)
    return between(columns, span_ms)


def buckets(
    connection: Connection, readers: Mapping[int, Reader], level_s: int, length: int, span_ms: Span
) -> list[Sequence[Any]]:
    """Windows of a level in buckets of `length` ms, of each sensor: rows as NAMES names them."""
    window = stored_windows.windows_between(level_s, *span_ms)
    is_sum = length != level_s * MS_PER_S
    columns = _columns(window, length if is_sum else None)
    query = select(*(column.label(name) for name, column in zip(NAMES, columns, strict=True)))
    query = query.where(window.recording_key.in_(recordings_of(readers)))
    if is_sum:
        query = query.group_by(*columns[:2])
    return list(connection.execute(query.order_by(*columns[:2])).all())


def _columns(window: Any, length: int | None) -> list[ColumnElement[Any]]:
    """Of windows as they are, or of all in a bucket of `length` ms: as `merge` reduces them."""
    if length is None:
        return [getattr(window, name) for name in NAMES]
    vitals = func.sum(case((window.util_pct.is_not(None), window.vitals)))
    return [
        window.sensor_key,
        (window.start_ms // length * length).label("start_ms"),
        func.sum(window.energy_j),
        func.sum(window.energy_s),
        func.min(window.power_min_w),
        func.max(window.power_max_w),
        func.sum(window.util_pct * window.vitals) / func.nullif(vitals, 0),
        func.max(window.temperature_max_c),
        vitals,
    ]


def own_parts(rows: Iterable[Sequence[Any]]) -> dict[int, dict[int, Part]]:
    """What each sensor has in each of its buckets, by their starts."""
    found: dict[int, dict[int, Part]] = defaultdict(dict)
    for key, start_ms, energy_j, energy_s, *_ in rows:
        before = found[key].get(start_ms, Part(key, 0.0, 0.0))
        found[key][start_ms] = total(key, [before, Part(key, energy_j or 0.0, energy_s)])
    return found


def take_off(
    columns: dict[str, list[Any]], twice: Mapping[tuple[int, int], Part]
) -> dict[str, list[Any]]:
    """Make the rows of sensors smaller by what is counted elsewhere: energy, and the time that it
    accounts for.
    """
    for at, where in enumerate(zip(columns["sensor_key"], columns["start_ms"], strict=True)):
        part, energy_s = twice.get(where), columns["energy_s"][at]
        if part is None or columns["energy_j"][at] is None or not energy_s:
            continue
        left = max(0.0, 1.0 - part.seconds / energy_s)
        columns["energy_j"][at] = max(0.0, columns["energy_j"][at] - part.energy_j)
        for name in {"energy_s", "sampled_s"} & columns.keys():
            columns[name][at] *= left
    return columns
