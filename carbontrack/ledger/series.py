"""What is drawn over time: windows between two times, in buckets of a round length, so that however
long the range there are about as many as a picture has room for.

Buckets lie at multiples of their length since the epoch and are whole even where the range is not:
one that is shown twice has the same value, as a view moves along a live run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from itertools import compress, groupby
from operator import ge, itemgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, func, select

from carbontrack.ledger import coarser, overlaps, pyramid, stored_windows
from carbontrack.ledger.coarser import Place, Reader, hour_of
from carbontrack.ledger.recorded_rows import Run, Span
from carbontrack.ledger.rows import Coarser, Series
from carbontrack.ledger.sharing import Part, total
from carbontrack.ledger.true_time import farthest_ms, shift_at, true_ms
from carbontrack.ledger.true_windows import Share, Stored, shares
from carbontrack.ledger.window import FIRST_MS, LAST_MS, LEVELS_S, Window
from carbontrack.units import MS_PER_HOUR, MS_PER_S

# SQLite groups and adds up 750 windows in a millisecond, and a zoom should take less than 100, with
# all that is done besides. Three quarters of an hour of eight devices are seen second by second.
_ROWS_READ = 22_000
_NOTHING = 1e-6  # J or s: sums in another order
_NAMES = (
    *("sensor_key", "start_ms", "energy_j", "energy_s", "power_min_w", "power_max_w"),
    *("util_pct", "temperature_max_c", "vitals"),
)
_SHOWN = ("device_key", *_NAMES[1:-1])
_FIELDS = tuple(field.name for field in fields(Window) if field.name != "level_s")
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
    right, off = _by_clock(run, readers)
    columns, left = _in_buckets(connection, run, right, level_s, length, span_ms)
    stretches = coarser.stretches(left, right, (begin_ms, end_ms))
    for shift_ms, some in _alike(run, off):
        more, left = _corrected(connection, run, some, shift_ms, level_s, length, span_ms)
        columns = _both(columns, more)
        found = coarser.stretches(left, some, (begin_ms - shift_ms, end_ms - shift_ms))
        stretches += tuple(
            Coarser(one.from_ms + shift_ms, one.to_ms + shift_ms, one.level_s) for one in found
        )
    by_device = _by_device(columns, readers, bool(stretches or off))
    in_order = tuple(sorted(stretches, key=lambda one: (one.from_ms, one.level_s)))
    return Series(bucket_s, by_device, in_order)


def _by_clock(run: Run, readers: dict[int, Reader]) -> tuple[dict[int, Reader], dict[int, Reader]]:
    """The sensors of recordings whose clocks were right, and those of the others."""
    if not run.clocks:
        return readers, {}
    off = {key: one for key, one in readers.items() if one.recording_key in run.clocks}
    return {key: one for key, one in readers.items() if key not in off}, off


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
    columns = _buckets_once(connection, run, readers, level_s, length, span_ms)
    left = coarser.standing_in(connection, readers, level_s, span_ms, _distinct(columns))
    for coarser_s, places in left.items():
        level_ms = coarser_s * MS_PER_S
        reaching_ms = span_ms[0] // level_ms * level_ms, span_ms[1]
        of_level = _buckets_once(connection, run, readers, coarser_s, level_ms, reaching_ms)
        stand_in = _chosen(of_level, [place in places for place in _places(of_level)])
        spread = _by_column(_NAMES, [*_spread(stand_in, readers, coarser_s, length, span_ms)])
        columns = _both(columns, spread)
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
        columns = _chosen(columns, [one == shift_ms for one in at_ms])
    columns["start_ms"] = [start_ms + shift_ms for start_ms in columns["start_ms"]]
    if length == level_ms == MS_PER_S:
        return columns, left
    moved = {
        key: replace(one, span_ms=(one.span_ms[0] + shift_ms, one.span_ms[1] + shift_ms))
        for key, one in readers.items()
    }
    return _by_column(_NAMES, [*_spread(columns, moved, level_s, length, span_ms)]), left


def _both(columns: dict[str, list[Any]], more: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    return {name: column + more[name] for name, column in columns.items()}


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
    keys = set(_recordings_of(readers) if recordings is None else recordings)
    span_ms = FIRST_MS if from_ms is None else from_ms, LAST_MS if to_ms is None else to_ms
    columns = _stored(connection, readers, level_s, span_ms, sorted(keys - run.clocks.keys()))
    columns = _once(connection, run, readers, level_s, columns)
    if off := sorted(keys & run.clocks.keys()):
        stored = _stored(connection, readers, level_s, _by_any_clock(run, level_s, span_ms), off)
        stored = _once(connection, run, readers, level_s, stored)
        of_off = _by_clock(run, readers)[1]
        columns = _both(columns, _true(connection, run, of_off, level_s, stored, span_ms))
    return _in_order(columns, readers)


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
        return _between(_moved(run, readers, columns), span_ms)
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


def _between(columns: Mapping[str, list[Any]], span_ms: Span) -> dict[str, list[Any]]:
    return _chosen(columns, [span_ms[0] <= at_ms < span_ms[1] for at_ms in columns["start_ms"]])


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
    begin_ms, end_ms = _whole_hours((run.started_ms, run.end_ms))
    span_ms = begin_ms if from_ms is None else from_ms, end_ms if to_ms is None else to_ms
    right, off = _by_clock(run, readers)
    found = _finest(connection, run, right, level_s, span_ms)
    if off:
        more = _finest(connection, run, off, level_s, _by_any_clock(run, level_s, span_ms))
        more = _moved(run, off, more)
        reaching_ms = (of_s * MS_PER_S - 1 if of_s > level_s else 0 for of_s in more["level_s"])
        starts = zip(more["start_ms"], reaching_ms, strict=True)
        inside = [span_ms[0] - beyond_ms <= at_ms < span_ms[1] for at_ms, beyond_ms in starts]
        found = _both(found, _chosen(more, inside))
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
    left = coarser.standing_in(connection, readers, level_s, span_ms, _distinct(parts[level_s]))
    for coarser_s, places in left.items():
        level_ms = coarser_s * MS_PER_S
        reaching_ms = span_ms[0] // level_ms * level_ms, span_ms[1]
        columns = _stored(connection, readers, coarser_s, reaching_ms)
        parts[coarser_s] = _chosen(columns, [place in places for place in _places(columns)])
    found: dict[str, list[Any]] = {}
    for of_level_s, columns in parts.items():
        once = _once(connection, run, readers, of_level_s, columns)
        first = {"sensor_key": once["sensor_key"], "start_ms": once["start_ms"]}
        lengths = [of_level_s] * len(once["start_ms"])
        for name, column in {**first, "level_s": lengths, **once}.items():
            found.setdefault(name, []).extend(column)
    return found


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
    keys = _recordings_of(readers) if recordings is None else recordings
    query = select(window.sensor_key, *(getattr(window, name) for name in names))
    rows = connection.execute(query.where(window.recording_key.in_(keys))).all()
    return _by_column(["sensor_key", *names], rows)


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
    rows = _buckets(connection, readers, level_s, length, _whole_hours(span_ms))
    twice = overlaps.within_buckets(connection, run.key, length, span_ms, _own(rows))
    return _left(_take_off(columns, twice))


def _in_order(columns: dict[str, list[Any]], readers: Mapping[int, Reader]) -> dict[str, list[Any]]:
    """The columns of sensors as those of devices, ordered by device and time."""
    device_keys = [readers[key].device_key for key in columns.pop("sensor_key")]
    of = {"device_key": device_keys, **columns}
    order = sorted(range(len(device_keys)), key=lambda at: (device_keys[at], of["start_ms"][at]))
    return {name: [column[at] for at in order] for name, column in of.items()}


def _whole_hours(span_ms: Span) -> Span:
    return hour_of(span_ms[0]), hour_of(span_ms[1] - 1) + MS_PER_HOUR


def _recordings_of(readers: Mapping[int, Reader]) -> list[int]:
    return sorted({reader.recording_key for reader in readers.values()})


def _places(columns: Mapping[str, list[Any]]) -> Iterable[Place]:
    return zip(columns["sensor_key"], map(hour_of, columns["start_ms"]), strict=True)


def _distinct(columns: Mapping[str, list[Any]]) -> set[Place]:
    """The same, each once: of windows in order without a tuple for each, which costs most."""
    found: set[Place] = set()
    last_key, until_ms = None, 0
    for key, start_ms in zip(columns["sensor_key"], columns["start_ms"], strict=True):
        if key != last_key or not until_ms - MS_PER_HOUR <= start_ms < until_ms:
            last_key, until_ms = key, hour_of(start_ms) + MS_PER_HOUR
            found.add((key, until_ms - MS_PER_HOUR))
    return found


def _by_column(names: Sequence[str], rows: Sequence[Any]) -> dict[str, list[Any]]:
    values = zip(*rows, strict=True) if rows else ([] for _ in names)
    return {name: list(column) for name, column in zip(names, values, strict=True)}


def _chosen(columns: Mapping[str, list[Any]], which: Sequence[bool]) -> dict[str, list[Any]]:
    return {name: list(compress(column, which)) for name, column in columns.items()}


def _own(rows: Iterable[Sequence[Any]]) -> dict[int, dict[int, Part]]:
    """What each sensor has in each of its buckets, by their starts."""
    found: dict[int, dict[int, Part]] = defaultdict(dict)
    for key, start_ms, energy_j, energy_s, *_ in rows:
        before = found[key].get(start_ms, Part(key, 0.0, 0.0))
        found[key][start_ms] = total(key, [before, Part(key, energy_j or 0.0, energy_s)])
    return found


def _take_off(
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


def _left(columns: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """The rows of which something is left: not those that are counted elsewhere."""
    rows = zip(columns["energy_j"], columns["energy_s"], strict=True)
    return _chosen(columns, [j is None or s > _NOTHING or j > _NOTHING for j, s in rows])


def _buckets_once(
    connection: Connection,
    run: Run,
    readers: Mapping[int, Reader],
    level_s: int,
    length: int,
    span_ms: Span,
) -> dict[str, list[Any]]:
    """As `_buckets`, by column, without what an earlier recording of the run has, too: this is
    decided of whole hours.
    """
    if not overlaps.repeats_itself(connection, run.key):
        return _by_column(_NAMES, _buckets(connection, readers, level_s, length, span_ms))
    hours_ms = _whole_hours(span_ms)
    rows = _buckets(connection, readers, level_s, length, hours_ms)
    twice = overlaps.within_buckets(connection, run.key, length, hours_ms, _own(rows))
    columns = _take_off(_by_column(_NAMES, rows), twice)
    return _between(columns, span_ms)


def _buckets(
    connection: Connection, readers: Mapping[int, Reader], level_s: int, length: int, span_ms: Span
) -> list[Sequence[Any]]:
    """Windows of a level in buckets of `length` ms, of each sensor: rows as _NAMES names them."""
    window = stored_windows.windows_between(level_s, *span_ms)
    is_sum = length != level_s * MS_PER_S
    columns = _columns(window, length if is_sum else None)
    query = select(*(column.label(name) for name, column in zip(_NAMES, columns, strict=True)))
    query = query.where(window.recording_key.in_(_recordings_of(readers)))
    if is_sum:
        query = query.group_by(*columns[:2])
    return list(connection.execute(query.order_by(*columns[:2])).all())


def _columns(window: Any, length: int | None) -> list[ColumnElement[Any]]:
    """Of windows as they are, or of all in a bucket of `length` ms: as `merge` reduces them."""
    if length is None:
        return [getattr(window, name) for name in _NAMES]
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


def _spread(
    columns: Mapping[str, list[Any]],
    readers: Mapping[int, Reader],
    level_s: int,
    length: int,
    span_ms: Span,
) -> Iterator[Sequence[Any]]:
    """Windows of a level evenly over the buckets of `length` ms that they touch: rows as _NAMES
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
        of = _by_column(_NAMES, rows)
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
