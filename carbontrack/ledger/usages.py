"""What the devices of a run used: of each in each hour, of each in all, and of all in each hour.

All are made of the windows of an hour, without what an earlier recording of the run has, too. The
database adds up where few rows come of it: to read the hours of 256 devices over five weeks takes
Python a second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    Select,
    case,
    column,
    func,
    select,
    table,
    text,
    values,
)

from carbontrack.ledger import coarser, models, overlaps
from carbontrack.ledger.recorded_rows import Run, Span, Usage
from carbontrack.ledger.sharing import Part
from carbontrack.ledger.sql import in_parts, listed_rows
from carbontrack.ledger.true_time import farthest_ms
from carbontrack.ledger.true_windows import Share, Stored, shares
from carbontrack.ledger.window import LEVELS_S
from carbontrack.units import MS_PER_HOUR, MS_PER_S

ALL_DEVICES = 0
"""The key that stands for all devices of a run."""
_UTIL_READINGS = case((models.Window.util_pct.is_not(None), models.Window.vitals), else_=0)


class Hour(NamedTuple):
    """Windows of a device, added up as far as they have the same flags: SQL cannot unite those."""

    recording_key: int
    device_key: int
    sensor_key: int
    start_ms: int
    energy_j: float | None
    energy_s: float
    sampled_s: float
    samples: int
    power_min_w: float | None
    power_max_w: float | None
    util_pct: float | None  # mean of so many readings:
    util_readings: int
    flags: int


def hours(
    connection: Connection,
    run: Run,
    recordings: Sequence[int] | None = None,
    *,
    span_ms: Span | None = None,
) -> list[Usage]:
    """What each device used in each hour, ordered by device and time: by some recordings, of which
    these are the keys; in the hours that begin in a span.
    """
    repeating = {run.key} if overlaps.repeats_itself(connection, run.key) else set()
    return united(parts_of(connection, [run], repeating, recordings, span_ms)[run.key])


def united(parts: Iterable[Hour]) -> list[Usage]:
    """Parts of a run, in order, by device and hour."""
    return _united_by(parts, lambda part: (part.device_key, part.start_ms))


def totals(connection: Connection, run: Run) -> list[Usage]:
    """What each device used over the whole run, ordered by device."""
    repeating = {run.key} if overlaps.repeats_itself(connection, run.key) else set()
    return totals_of(connection, [run], repeating)[run.key]


def totals_of(
    connection: Connection, runs: Sequence[Run], repeating: Collection[int]
) -> dict[int, list[Usage]]:
    """By the key of the run: what each of its devices used over the whole of it, ordered by device.

    In one statement, but for the runs (keys) that are `repeating`, which recorded one device twice
    at one time.
    """
    found: dict[int, list[Usage]] = {run.key: [] for run in runs}
    window, sensor, recording = models.Window, models.Sensor, models.Recording
    mean = func.sum(window.util_pct * window.vitals) / func.nullif(func.sum(_UTIL_READINGS), 0)
    columns = _columns_of(func.sum, func.min, func.max, mean)
    first_ms = func.min(window.start_ms).label("start_ms")
    own = select(recording.key).where(recording.run_key.in_(found.keys() - set(repeating)))
    sums = select(window.sensor_key, first_ms, *columns).where(*_wanted(own))
    by_sensor = sums.group_by(window.sensor_key, window.flags).subquery().c
    query = select(recording.run_key, sensor.device_key, *by_sensor)
    query = query.join(sensor, sensor.key == by_sensor.sensor_key)
    query = query.join(recording, recording.key == sensor.recording_key)
    rows = connection.execute(query.order_by(recording.run_key, sensor.device_key)).all()
    summed = {key: [Hour(0, *row[1:]) for row in of] for key, of in groupby(rows, itemgetter(0))}
    again = parts_of(connection, [run for run in runs if run.key in repeating], repeating)
    for key, parts in (summed | again).items():
        found[key] = _united_by(parts, lambda part: part.device_key)
    return found


def hours_of_all(
    connection: Connection, run: Run, recordings: Sequence[int] | None = None
) -> list[Usage]:
    """What all devices used together in each hour, in order: energy, seconds and samples alone;
    `recordings` as of `hours`.
    """
    repeats = overlaps.repeats_itself(connection, run.key)
    if repeats or run.clocks:
        repeating = {run.key} if repeats else set()
        return hours_together(parts_of(connection, [run], repeating, recordings)[run.key])
    if recordings is None:
        return hours_of_all_of(connection, [run.key])[run.key]
    return hours_of_groups(connection, {0: recordings})[0]


def hours_together(parts: Iterable[Hour]) -> list[Usage]:
    """The same of the hours of a run's devices."""
    in_order = sorted(parts, key=lambda part: part.start_ms)
    return [_of_all(usage) for usage in _united_by(in_order, lambda part: part.start_ms)]


def hours_of_all_of(connection: Connection, keys: Collection[int]) -> dict[int, list[Usage]]:
    """The same of runs of which none recorded a device twice at one time, by the key of the run."""
    window, recording = models.Window, models.Recording
    added = (window.energy_j, window.energy_s, window.sampled_s, window.samples)
    query = select(recording.run_key, window.start_ms, *map(func.sum, added))
    query = query.join(recording, recording.key == window.recording_key)
    query = query.where(window.level == LEVELS_S[-1], recording.run_key.in_(keys))
    query = query.group_by(recording.run_key, window.start_ms)
    query = query.order_by(recording.run_key, window.start_ms)
    if connection.dialect.name == "postgresql":
        query = _rolled(keys)
    return _by_key(keys, connection.execute(query).all())


def _rolled(keys: Collection[int], *more: str) -> Select[Any]:
    """The same rows from a server's sums of hours; with these columns after the run's key."""
    place, added = ("run_key", *more, "start_ms"), ("energy_j", "energy_s", "sampled_s", "samples")
    rolled = table("run_hours", *(column(name) for name in (*place, *added))).c
    of_run = [rolled[name] for name in place]
    query = select(*of_run, *(func.sum(rolled[name]) for name in added))
    return query.where(rolled.run_key.in_(keys)).group_by(*of_run).order_by(*of_run)


def hours_of_groups(
    connection: Connection,
    groups: Mapping[int, Sequence[int]],
    starts_ms: Mapping[int, Sequence[int]] | None = None,
) -> dict[int, list[Usage]]:
    """The same of recordings by their keys, together by any number that stands for them; of each in
    the hours that begin at `starts_ms`, where that is given.
    """
    every = [(number, key) for number, keys in groups.items() for key in keys]
    if not every:
        return {number: [] for number in groups}
    query, rows = _OF_GROUPS, {"of": listed_rows(every)}
    if starts_ms is not None:
        query = _OF_GROUPS_AT
        rows["at"] = listed_rows((number, at) for number, of in starts_ms.items() for at in of)
    return _by_key(groups, connection.execute(text(query.format(**rows))))


_HOURS_OF = f"""
select of.number, windows.start_ms, sum(windows.energy_j), sum(windows.energy_s),
    sum(windows.sampled_s), sum(windows.samples)
from {{source}} where windows.recording_key = of.recording_key and windows.level = {LEVELS_S[-1]}
    {{at}} group by of.number, windows.start_ms order by of.number, windows.start_ms"""
_OF_GROUPS = "with of (number, recording_key) as (values {of})" + _HOURS_OF.format(
    source="of, windows", at=""
)
_OF_GROUPS_AT = (
    "with of (number, recording_key) as (values {of}), at (number, start_ms) as (values {at})"
) + _HOURS_OF.format(
    source="of, at, windows", at="and at.number = of.number and at.start_ms = windows.start_ms"
)


@dataclass(frozen=True, slots=True)
class Group:
    """Recordings of a run, by their keys, which restart of the scheduler they are of, and from and
    to when they lasted.
    """

    run_key: int
    restart: int
    keys: Sequence[int]
    span_ms: Span


def hours_of_attempts(
    connection: Connection, groups: Mapping[int, Group]
) -> dict[int, list[Usage]]:
    """As `hours_of_groups`, of all recordings of some runs, of which none recorded a device twice
    at one time. A server has added up the hours that only one group of a restart has.
    """
    if connection.dialect.name != "postgresql":
        return hours_of_groups(connection, {number: of.keys for number, of in groups.items()})
    had: Counter[tuple[int, int, int]] = Counter()
    hours = {number: _touched(group.span_ms) for number, group in groups.items()}
    for number, group in groups.items():
        had.update((group.run_key, group.restart, at_ms) for at_ms in hours[number])
    found: dict[int, dict[int, Usage]] = {number: {} for number in groups}
    rolled = _hours_of_restarts(connection, {group.run_key for group in groups.values()})
    shared: dict[int, list[int]] = {}
    for number, group in groups.items():
        for at_ms in hours[number]:
            at = group.run_key, group.restart, at_ms
            if had[at] > 1:
                shared.setdefault(number, []).append(at_ms)
            elif (usage := rolled.get(at)) is not None:
                found[number][at_ms] = usage
    keys = {number: groups[number].keys for number in shared}
    for number, usages in hours_of_groups(connection, keys, shared).items():
        found[number] |= {usage.start_ms: usage for usage in usages}
    return {number: [of[at_ms] for at_ms in sorted(of)] for number, of in found.items()}


def _hours_of_restarts(
    connection: Connection, keys: Collection[int]
) -> dict[tuple[int, int, int], Usage]:
    """What a server has added up of runs, by the key of the run, the restart and the hour."""
    rows = connection.execute(_rolled(keys, "restart")).all()
    return {(key, restart, row[0]): _of_all_at(*row) for key, restart, *row in rows}


def _touched(span_ms: Span) -> range:
    """The hours in which recordings of this time have windows: they may reach beyond it by ms."""
    first_ms = (span_ms[0] - MS_PER_S) // MS_PER_HOUR * MS_PER_HOUR
    return range(first_ms, span_ms[1] + MS_PER_S, MS_PER_HOUR)


def _by_key(keys: Iterable[int], rows: Iterable[Any]) -> dict[int, list[Usage]]:
    """Rows of a key, the start of an hour, and what all devices used in it."""
    found: dict[int, list[Usage]] = {key: [] for key in keys}
    for key, *row in rows:
        found[key].append(_of_all_at(*row))
    return found


def _of_all_at(
    start_ms: int, energy_j: float | None, energy_s: float, sampled_s: float, samples: int
) -> Usage:
    return Usage(
        device_key=ALL_DEVICES,
        start_ms=start_ms,
        energy_j=energy_j,
        energy_s=energy_s,
        sampled_s=sampled_s,
        samples=int(samples),
        power_min_w=None,
        power_max_w=None,
        util_pct=None,
        flags=0,
    )


def parts_of(
    connection: Connection,
    runs: Sequence[Run],
    repeating: Collection[int],
    recordings: Sequence[int] | None = None,
    span_ms: Span | None = None,
) -> dict[int, list[Hour]]:
    """By the key of the run, each hour of each sensor, ordered by device and time, without what an
    earlier recording of a run that is `repeating` has, too; `recordings` and `span_ms` as of
    `hours`.
    """
    found: dict[int, list[Hour]] = {run.key: [] for run in runs}
    if not runs:
        return found
    keys = select(models.Recording.key).where(models.Recording.run_key.in_(found))
    query = _parts().where(
        models.Window.recording_key.in_(keys if recordings is None else recordings)
    )
    if span_ms is not None:
        start_ms = models.Window.start_ms
        off_ms = max(map(farthest_ms, (run.clocks for run in runs)))
        off_ms = off_ms and off_ms + MS_PER_HOUR
        query = query.where(start_ms >= span_ms[0] - off_ms, start_ms < span_ms[1] + off_ms)
    found |= _read_parts(connection, query, repeating)
    for run in runs:
        if run.clocks:
            found[run.key] = _true_hours(connection, run, found[run.key], span_ms)
    return found


def _parts() -> Select[Any]:
    """The key of the run, and the columns of an `Hour`."""
    window, sensor, recording = models.Window, models.Sensor, models.Recording
    columns = _columns_of(_same, _same, _same, window.util_pct.expression)
    own = (sensor.recording_key, sensor.device_key, sensor.key, window.start_ms)
    query = select(recording.run_key, *own, *columns)
    query = query.join(sensor, sensor.key == window.sensor_key)
    query = query.join(recording, recording.key == window.recording_key)
    query = query.where(window.level == LEVELS_S[-1])
    return query.order_by(recording.run_key, sensor.device_key, window.start_ms)


def _read_parts(
    connection: Connection, query: Select[Any], repeating: Collection[int]
) -> dict[int, list[Hour]]:
    found: dict[int, list[Hour]] = {}
    twice: dict[int, Mapping[tuple[int, int], Part]] = {}
    for run_key, *row in connection.execute(query).all():
        if run_key in repeating and run_key not in twice:
            twice[run_key] = overlaps.within_run(connection, run_key)
        part, less = Hour._make(row), twice.get(run_key)
        found.setdefault(run_key, []).append(_without(part, less) if less else part)
    return found


def parts_at(
    connection: Connection, hours_ms: Mapping[int, Collection[int]], repeating: Collection[int]
) -> dict[int, list[Hour]]:
    """As `parts_of`, of the runs with these keys in the hours that begin at these times."""
    found: dict[int, list[Hour]] = {key: [] for key in hours_ms}
    rows = [(key, at_ms) for key, of_run in hours_ms.items() for at_ms in of_run]
    for some in in_parts(rows):
        columns = (column("run_key", Integer), column("start_ms", BigInteger))
        at = values(*columns, name="at").data(list(some)).cte()
        query = _parts().join(
            at,
            (at.c.run_key == models.Recording.run_key) & (at.c.start_ms == models.Window.start_ms),
        )
        for key, parts in _read_parts(connection, query, repeating).items():
            found[key] += parts
    return found


def _true_hours(
    connection: Connection, run: Run, parts: Sequence[Hour], span_ms: Span | None
) -> list[Hour]:
    """Hours by the clocks of recordings as true ones; those that begin in a span."""
    readers = coarser.readers_of(connection, run.key)
    rows = [Stored(one.sensor_key, one.start_ms, one.energy_j, one.energy_s) for one in parts]
    shared = shares(connection, readers, run.clocks, LEVELS_S[-1], rows)
    found = [
        _part(part, share)
        for part, shares_of in zip(parts, shared, strict=True)
        for share in shares_of
        if span_ms is None or span_ms[0] <= share.start_ms < span_ms[1]
    ]
    return sorted(found, key=lambda part: (part.device_key, part.start_ms))


def _part(hour: Hour, share: Share) -> Hour:
    return hour._replace(
        start_ms=share.start_ms,
        energy_j=None if hour.energy_j is None else hour.energy_j * share.energy,
        energy_s=hour.energy_s * share.time,
        sampled_s=hour.sampled_s * share.time,
        samples=round(hour.samples * share.time),
        util_readings=round(hour.util_readings * share.time),
    )


def _wanted(recordings: Any) -> tuple[ColumnElement[bool], ...]:
    """The hours of recordings, whose keys are given or selected."""
    return models.Window.recording_key.in_(recordings), models.Window.level == LEVELS_S[-1]


_Column = Callable[[Any], ColumnElement[Any]]


def _same(column: Any) -> ColumnElement[Any]:
    found: ColumnElement[Any] = column
    return found


def _columns_of(
    add: _Column, least: _Column, most: _Column, util_pct: ColumnElement[Any]
) -> list[ColumnElement[Any]]:
    """Those of a `Hour` after its start."""
    window = models.Window
    columns = {
        "energy_j": add(window.energy_j),
        "energy_s": add(window.energy_s),
        "sampled_s": add(window.sampled_s),
        "samples": add(window.samples),
        "power_min_w": least(window.power_min_w),
        "power_max_w": most(window.power_max_w),
        "util_pct": util_pct,
        "util_readings": add(_UTIL_READINGS),
        "flags": window.flags,
    }
    return [column.label(name) for name, column in columns.items()]


def _without(part: Hour, twice: Mapping[tuple[int, int], Part]) -> Hour:
    """Less what an earlier recording has."""
    less = twice.get((part.sensor_key, part.start_ms))
    if less is None or part.energy_j is None:
        return part
    left = max(0.0, 1.0 - less.seconds / part.energy_s)
    return part._replace(
        energy_j=max(0.0, part.energy_j - less.energy_j),
        energy_s=part.energy_s * left,
        sampled_s=part.sampled_s * left,
    )


def _united_by(parts: Iterable[Hour], key: Callable[[Hour], object]) -> list[Usage]:
    return [_united(list(together)) for _, together in groupby(parts, key)]


def _of_all(usage: Usage) -> Usage:
    return replace(
        usage, device_key=ALL_DEVICES, power_min_w=None, power_max_w=None, util_pct=None, flags=0
    )


def _united(parts: Sequence[Hour]) -> Usage:
    """Parts of one device, added up as `window.merge` adds up windows."""
    flags = 0
    for part in parts:
        flags |= part.flags
    return Usage(
        device_key=parts[0].device_key,
        start_ms=min(part.start_ms for part in parts),
        energy_j=_known(sum, parts, "energy_j"),
        energy_s=sum(part.energy_s for part in parts),
        sampled_s=sum(part.sampled_s for part in parts),
        samples=int(sum(part.samples for part in parts)),
        power_min_w=_known(min, parts, "power_min_w"),
        power_max_w=_known(max, parts, "power_max_w"),
        util_pct=parts[0].util_pct if len(parts) == 1 else _mean_util_pct(parts),
        flags=flags,
    )


def _mean_util_pct(parts: Sequence[Hour]) -> float | None:
    readings = sum(int(part.util_readings) for part in parts)
    total = sum((part.util_pct or 0.0) * int(part.util_readings) for part in parts)
    return total / readings if readings else None


def _known(
    reduce: Callable[[list[float]], float], parts: Sequence[Hour], name: str
) -> float | None:
    found = [value for part in parts if (value := getattr(part, name)) is not None]
    return reduce(found) if found else None
