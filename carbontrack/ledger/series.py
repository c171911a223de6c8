"""What is drawn over time: windows between two times, in buckets of a round length, so that however
long the range there are about as many as a picture has room for.

Buckets lie at multiples of their length since the epoch and are whole even where the range is not:
one that is shown twice has the same value, as a view moves along a live run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from operator import ge, itemgetter
from typing import Any

from sqlalchemy import Connection

from carbontrack.ledger import coarser, pyramid
from carbontrack.ledger.buckets import NAMES, buckets_once
from carbontrack.ledger.coarser import Place, Reader, by_clock
from carbontrack.ledger.recorded_rows import Run, Span
from carbontrack.ledger.rows import Coarser, Series
from carbontrack.ledger.true_time import shift_at
from carbontrack.ledger.window import LEVELS_S
from carbontrack.ledger.window_columns import both, by_column, chosen, distinct_places, places_of
from carbontrack.units import MS_PER_S

# SQLite groups and adds up 750 windows in a millisecond, and a zoom should take less than 100, with
# all that is done besides. Three quarters of an hour of eight devices are seen second by second.
_ROWS_READ = 22_000
_SHOWN = ("device_key", *NAMES[1:-1])
_device_and_time = itemgetter(0, 1)


def series(
    connection: Connection,
    run: Run,
    *,
    from_ms: int | None = None,
    to_ms: int | None = None,
    points: int = 2000,
    most_rows: int | None = None,
) -> Series:
    """Windows between two times, in the shortest buckets of which there are at most `points` a
    device; longer ones where more than `most_rows` windows would have to be read for them.

    A bucket is what `carbontrack.ledger.window.merge` makes of its windows; one without any window
    has no row. Where a device has no windows as fine as that any more, its longer ones are spread
    over the time that they stand for: `coarser` says when.
    """
    begin_ms, end_ms = pyramid.range_of(run, from_ms, to_ms)
    length_ms = end_ms - begin_ms
    bucket_s = pyramid.bucket_ms(length_ms, points, least_ms=MS_PER_S) // MS_PER_S
    readers = coarser.readers_of(connection, run.key)
    affordable_s = length_ms * len(readers) / ((most_rows or _ROWS_READ) * MS_PER_S)
    least_s = max(pyramid.level_for(bucket_s), affordable_s)
    level_s = next((level_s for level_s in LEVELS_S if level_s >= least_s), LEVELS_S[-1])
    bucket_s = max(bucket_s, level_s)
    length = bucket_s * MS_PER_S
    span_ms = begin_ms // length * length, (end_ms // length + 1) * length
    right, off = by_clock(run, readers)
    columns, left = _in_buckets(connection, run, right, level_s, length, span_ms)
    stretches = coarser.stretches(left, right, (begin_ms, end_ms))
    for shift_ms, some in _alike(run, off):
        more, left = _corrected(connection, run, some, shift_ms, level_s, length, span_ms)
        columns = both(columns, more)
        found = coarser.stretches(left, some, (begin_ms - shift_ms, end_ms - shift_ms))
        stretches += tuple(
            Coarser(one.from_ms + shift_ms, one.to_ms + shift_ms, one.level_s) for one in found
        )
    by_device = _by_device(columns, readers, bool(stretches or off))
    in_order = tuple(sorted(stretches, key=lambda one: (one.from_ms, one.level_s)))
    return Series(bucket_s, by_device, in_order)


def _alike(run: Run, off: Mapping[int, Reader]) -> Iterator[tuple[int, dict[int, Reader]]]:
    """What is added to times by clocks that were off, each with the sensors of the recordings that
    have some such times.
    """
    shifts = {key: {shift_ms for _, shift_ms in of} for key, of in run.clocks.items()}
    for shift_ms in sorted(set().union(*shifts.values())):
        some = {key: one for key, one in off.items() if shift_ms in shifts[one.recording_key]}
        if some:
            yield shift_ms, some


def _in_buckets(
    connection: Connection,
    run: Run,
    readers: Mapping[int, Reader],
    level_s: int,
    length: int,
    span_ms: Span,
) -> tuple[dict[str, list[Any]], dict[int, set[Place]]]:
    """Buckets of sensors by column, whose longer windows are spread where they have no others; and
    where that is.
    """
    columns = buckets_once(connection, run, readers, level_s, length, span_ms)
    left = coarser.standing_in(connection, readers, level_s, span_ms, distinct_places(columns))
    for coarser_s, places in left.items():
        level_ms = coarser_s * MS_PER_S
        reaching_ms = span_ms[0] // level_ms * level_ms, span_ms[1]
        of_level = buckets_once(connection, run, readers, coarser_s, level_ms, reaching_ms)
        stand_in = chosen(of_level, [place in places for place in places_of(of_level)])
        spread = by_column(NAMES, [*_spread(stand_in, readers, coarser_s, length, span_ms)])
        columns = both(columns, spread)
    return columns, left


def _corrected(
    connection: Connection,
    run: Run,
    readers: Mapping[int, Reader],
    shift_ms: int,
    level_s: int,
    length: int,
    span_ms: Span,
) -> tuple[dict[str, list[Any]], dict[int, set[Place]]]:
    """As `_in_buckets`, of the windows to whose times `shift_ms` is added. What of one is in a
    bucket is its share by time; the places are by the clocks that were off.
    """
    level_ms = level_s * MS_PER_S
    first_ms, last_ms = (time_ms - shift_ms for time_ms in span_ms)
    by_clock_ms = first_ms // level_ms * level_ms, -(-last_ms // level_ms) * level_ms
    columns, left = _in_buckets(connection, run, readers, level_s, level_ms, by_clock_ms)
    shifts = {key: run.clocks[one.recording_key] for key, one in readers.items()}
    if any(len(of_recording) > 1 for of_recording in shifts.values()):
        places = zip(columns["sensor_key"], columns["start_ms"], strict=True)
        at_ms = (shift_at(shifts[key], start_ms) for key, start_ms in places)
        columns = chosen(columns, [one == shift_ms for one in at_ms])
    columns["start_ms"] = [start_ms + shift_ms for start_ms in columns["start_ms"]]
    if length == level_ms == MS_PER_S:
        return columns, left
    moved = {
        key: replace(one, span_ms=(one.span_ms[0] + shift_ms, one.span_ms[1] + shift_ms))
        for key, one in readers.items()
    }
    return by_column(NAMES, [*_spread(columns, moved, level_s, length, span_ms)]), left


def _spread(
    columns: Mapping[str, list[Any]],
    readers: Mapping[int, Reader],
    level_s: int,
    length: int,
    span_ms: Span,
) -> Iterator[Sequence[Any]]:
    """Windows of a level evenly over the buckets of `length` ms that they touch: rows as NAMES
    names them.
    """
    for key, start_ms, energy_j, energy_s, *values in zip(*columns.values(), strict=True):
        begin_ms, end_ms = coarser.time_of(readers[key], start_ms, level_s, energy_s)
        first_ms = max(begin_ms // length * length, span_ms[0])
        for at_ms in range(first_ms, min(end_ms, span_ms[1]), length):
            inside_ms = min(end_ms, at_ms + length) - max(begin_ms, at_ms)
            share = inside_ms / (end_ms - begin_ms)
            part_j = None if energy_j is None else energy_j * share
            yield key, at_ms, part_j, energy_s * share, *values


def _by_device(
    columns: Mapping[str, list[Any]], readers: Mapping[int, Reader], is_spread: bool
) -> dict[str, list[Any]]:
    """The columns of a `Series` from those of its sensors, which are in the order of sensors and
    time, unless some are spread. Two of one device, of an attempt and the next one, may share a
    bucket.
    """
    device_of = {key: readers[key].device_key for key in sorted(readers)}
    device_keys = [device_of[key] for key in columns["sensor_key"]]
    of = {**columns, "sensor_key": device_keys}
    if is_spread or any(map(ge, device_of.values(), [*device_of.values()][1:])):
        at = list(zip(device_keys, columns["start_ms"], strict=True))
        rows: list[Sequence[Any]] = sorted(zip(*of.values(), strict=True), key=_device_and_time)
        if len(set(at)) < len(at):
            groups = (list(group) for _, group in groupby(rows, _device_and_time))
            rows = [_joined(group) for group in groups]
        of = by_column(NAMES, rows)
    return dict(zip(_SHOWN, of.values(), strict=False))


def _joined(rows: Sequence[Sequence[Any]]) -> Sequence[Any]:
    """Rows of one device and time as one, as `merge` reduces them."""
    if len(rows) == 1:
        return rows[0]
    _, _, energies_j, seconds, lowest_w, highest_w, _, highest_c, _ = zip(*rows, strict=True)
    weights = {at: row[-1] for at, row in enumerate(rows) if row[6] is not None and row[-1]}
    vitals = sum(weights.values())
    util_pct = sum(rows[at][6] * weight for at, weight in weights.items())
    return (
        *rows[0][:2],
        sum(_known(energies_j)) if _known(energies_j) else None,
        sum(seconds),
        min(_known(lowest_w), default=None),
        max(_known(highest_w), default=None),
        util_pct / vitals if vitals else None,
        max(_known(highest_c), default=None),
        vitals,
    )


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]
