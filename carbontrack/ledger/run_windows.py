"""The windows of a run one by one: of a level, or of the finest that is left; what a run recorded
twice counts once, and times are true where a clock was off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, select

from carbontrack.ledger import coarser, overlaps, stored_windows
from carbontrack.ledger.buckets import buckets, own_parts, take_off
from carbontrack.ledger.coarser import Reader, by_clock, recordings_of, whole_hours
from carbontrack.ledger.recorded_rows import Run, Span
from carbontrack.ledger.true_time import farthest_ms, true_ms
from carbontrack.ledger.true_windows import Share, Stored, shares
from carbontrack.ledger.window import FIRST_MS, LAST_MS, LEVELS_S, Window
from carbontrack.ledger.window_columns import (
    between,
    both,
    by_column,
    chosen,
    distinct_places,
    places_of,
)
from carbontrack.units import MS_PER_S

_NOTHING = 1e-6  # J or s: sums in another order
_FIELDS = tuple(field.name for field in fields(Window) if field.name != "level_s")


def windows(
    connection: Connection,
    run: Run,
    level_s: int,
    *,
    from_ms: int | None = None,
    to_ms: int | None = None,
    recordings: Sequence[int] | None = None,
) -> dict[str, list[Any]]:
    """The windows of one level that begin between two times (the second one excluded): columns by
    the names of `window.Window` with `device_key` and `power_mean_w`, ordered by device and time.
    They are as they are stored, but without what an earlier recording of the run has, too; where a
    clock was off, each is what of a stored one is in a true window, in which there may be two.
    `recordings` are the keys of those whose windows are wanted; None: all.
    """
    readers = coarser.readers_of(connection, run.key)
    keys = set(recordings_of(readers) if recordings is None else recordings)
    span_ms = FIRST_MS if from_ms is None else from_ms, LAST_MS if to_ms is None else to_ms
    columns = _stored(connection, readers, level_s, span_ms, sorted(keys - run.clocks.keys()))
    columns = _once(connection, run, readers, level_s, columns)
    if off := sorted(keys & run.clocks.keys()):
        stored = _stored(connection, readers, level_s, _by_any_clock(run, level_s, span_ms), off)
        stored = _once(connection, run, readers, level_s, stored)
        of_off = by_clock(run, readers)[1]
        columns = both(columns, _true(connection, run, of_off, level_s, stored, span_ms))
    return _in_order(columns, readers)


def finest_windows(
    connection: Connection,
    run: Run,
    level_s: int,
    *,
    from_ms: int | None = None,
    to_ms: int | None = None,
) -> dict[str, list[Any]]:
    """As `windows`, with longer ones where a device has none of this level any more; `level_s` says
    how long each is. One that began before `from_ms` is there, too, if it reaches beyond that. All
    are whole: where a clock was off, minutes and hours begin some seconds beside full ones.
    """
    readers = coarser.readers_of(connection, run.key)
    begin_ms, end_ms = whole_hours((run.started_ms, run.end_ms))
    span_ms = begin_ms if from_ms is None else from_ms, end_ms if to_ms is None else to_ms
    right, off = by_clock(run, readers)
    found = _finest(connection, run, right, level_s, span_ms)
    if off:
        more = _finest(connection, run, off, level_s, _by_any_clock(run, level_s, span_ms))
        more = _moved(run, off, more)
        reaching_ms = (of_s * MS_PER_S - 1 if of_s > level_s else 0 for of_s in more["level_s"])
        starts = zip(more["start_ms"], reaching_ms, strict=True)
        inside = [span_ms[0] - beyond_ms <= at_ms < span_ms[1] for at_ms, beyond_ms in starts]
        found = both(found, chosen(more, inside))
    return _in_order(found, readers)


def _finest(
    connection: Connection,
    run: Run,
    readers: Mapping[int, Reader],
    level_s: int,
    span_ms: Span,
) -> dict[str, list[Any]]:
    """The same of some sensors, in the order of levels, by the clocks of their recordings."""
    parts = {level_s: _stored(connection, readers, level_s, span_ms)}
    left = coarser.standing_in(
        connection, readers, level_s, span_ms, distinct_places(parts[level_s])
    )
    for coarser_s, places in left.items():
        level_ms = coarser_s * MS_PER_S
        reaching_ms = span_ms[0] // level_ms * level_ms, span_ms[1]
        columns = _stored(connection, readers, coarser_s, reaching_ms)
        parts[coarser_s] = chosen(columns, [place in places for place in places_of(columns)])
    found: dict[str, list[Any]] = {}
    for of_level_s, columns in parts.items():
        once = _once(connection, run, readers, of_level_s, columns)
        first = {"sensor_key": once["sensor_key"], "start_ms": once["start_ms"]}
        lengths = [of_level_s] * len(once["start_ms"])
        for name, column in {**first, "level_s": lengths, **once}.items():
            found.setdefault(name, []).extend(column)
    return found


def _once(
    connection: Connection,
    run: Run,
    readers: Mapping[int, Reader],
    level_s: int,
    columns: dict[str, list[Any]],
) -> dict[str, list[Any]]:
    """Windows of a level without what an earlier recording of the run has, too."""
    if not columns["start_ms"] or not overlaps.repeats_itself(connection, run.key):
        return columns
    length = level_s * MS_PER_S
    span_ms = min(columns["start_ms"]), max(columns["start_ms"]) + length
    rows = buckets(connection, readers, level_s, length, whole_hours(span_ms))
    twice = overlaps.within_buckets(connection, run.key, length, span_ms, own_parts(rows))
    return _left(take_off(columns, twice))


def _left(columns: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """The rows of which something is left: not those that are counted elsewhere."""
    rows = zip(columns["energy_j"], columns["energy_s"], strict=True)
    return chosen(columns, [j is None or s > _NOTHING or j > _NOTHING for j, s in rows])


def _stored(
    connection: Connection,
    readers: Mapping[int, Reader],
    level_s: int,
    span_ms: tuple[int | None, int | None],
    recordings: Sequence[int] | None = None,
) -> dict[str, list[Any]]:
    """Windows of a level as they are, by sensor."""
    window = stored_windows.windows_between(level_s, *span_ms)
    names = list(_FIELDS)
    names.insert(names.index("power_min_w"), "power_mean_w")
    keys = recordings_of(readers) if recordings is None else recordings
    query = select(window.sensor_key, *(getattr(window, name) for name in names))
    rows = connection.execute(query.where(window.recording_key.in_(keys))).all()
    return by_column(["sensor_key", *names], rows)


def _by_any_clock(run: Run, level_s: int, span_ms: Span) -> Span:
    """When windows of a level may begin, by any clock of the run, of which some is in a span."""
    off_ms = farthest_ms(run.clocks) + level_s * MS_PER_S
    return span_ms[0] - off_ms, span_ms[1] + off_ms


def _true(
    connection: Connection,
    run: Run,
    readers: Mapping[int, Reader],
    level_s: int,
    columns: Mapping[str, list[Any]],
    span_ms: Span,
) -> dict[str, list[Any]]:
    """Windows by clocks that were off as true ones, those that begin in a span."""
    if level_s == LEVELS_S[0]:
        return between(_moved(run, readers, columns), span_ms)
    rows = map(Stored, *(columns[name] for name in Stored._fields))
    shared = shares(connection, readers, run.clocks, level_s, list(rows))
    found: dict[str, list[Any]] = {name: [] for name in columns}
    for at, shares_of in enumerate(shared):
        for one in shares_of:
            if span_ms[0] <= one.start_ms < span_ms[1]:
                for name, column in columns.items():
                    found[name].append(_part(name, column[at], one))
    return found


def _moved(
    run: Run, readers: Mapping[int, Reader], columns: Mapping[str, list[Any]]
) -> dict[str, list[Any]]:
    """Whole windows by clocks that were off, at their true times."""
    shifts = {key: run.clocks[one.recording_key] for key, one in readers.items()}
    places = zip(columns["sensor_key"], columns["start_ms"], strict=True)
    return {**columns, "start_ms": [true_ms(shifts[key], at_ms) for key, at_ms in places]}


def _part(name: str, value: Any, share: Share) -> Any:
    """A field of what of a window is in a true one."""
    if name == "start_ms":
        return share.start_ms
    if value is None or (share.energy, share.time) == (1.0, 1.0):
        return value
    if name == "energy_j":
        return value * share.energy
    if name in ("energy_s", "sampled_s"):
        return value * share.time
    return round(value * share.time) if name in ("samples", "vitals") else value


def _in_order(columns: dict[str, list[Any]], readers: Mapping[int, Reader]) -> dict[str, list[Any]]:
    """The columns of sensors as those of devices, ordered by device and time."""
    device_keys = [readers[key].device_key for key in columns.pop("sensor_key")]
    of = {"device_key": device_keys, **columns}
    order = sorted(range(len(device_keys)), key=lambda at: (device_keys[at], of["start_ms"][at]))
    return {name: [column[at] for at in order] for name, column in of.items()}
