"""What is drawn over time: windows and training steps between two times, in buckets of a round
length, so that however long the range there are about as many as a picture has room for.

Buckets lie at multiples of their length since the epoch and are whole even where the range is not:
one that is shown twice has the same value, as a view moves along a live run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, case, cast, func, select

from carbontrack.ledger import models, overlaps, pyramid, stored_windows
from carbontrack.ledger.pyramid import recordings_of
from carbontrack.ledger.rows import Run, Series, StepMean
from carbontrack.ledger.run_steps import steps_of
from carbontrack.ledger.sharing import Part, total
from carbontrack.ledger.window import LEVELS_S, Window
from carbontrack.units import MS_PER_S

# SQLite groups and adds up 750 windows in a millisecond, and a zoom should take less than 100, with
# all that is done besides. Three quarters of an hour of eight devices are seen second by second.
_ROWS_READ = 22_000
_NOTHING = 1e-6  # J or s: sums in another order


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
    device; longer ones where more than `most_rows` windows would have to be read for them, or
    where the ledger has no finer windows.

    A bucket is what `carbontrack.ledger.window.merge` makes of its windows; one without any window
    has no row.
    """
    sensor = models.Sensor
    keys = pyramid.keys_of(connection, run.key)
    begin_ms, end_ms = _range(run, from_ms, to_ms)
    length_ms = end_ms - begin_ms
    bucket_s = pyramid.bucket_ms(length_ms, points, least_ms=MS_PER_S) // MS_PER_S
    firsts = _firsts_inside(connection, run, from_ms, to_ms)
    sensors = select(func.count()).where(sensor.recording_key.in_(recordings_of(run.key)))
    count = connection.scalar(sensors) or 0
    affordable_s = length_ms * count / ((most_rows or _ROWS_READ) * MS_PER_S)
    level_s = next(
        level_s
        for level_s in LEVELS_S
        if level_s == LEVELS_S[-1]
        or (
            level_s >= max(pyramid.level_for(bucket_s), affordable_s)
            and not any(_was_dropped(level_s, first) for first in firsts)
        )
    )
    bucket_s = max(bucket_s, level_s)
    length = bucket_s * MS_PER_S
    is_sum = bucket_s != level_s or len(keys) != 1
    window = stored_windows.windows_between(
        level_s, begin_ms // length * length, (end_ms // length + 1) * length
    )
    columns = _columns(window, length if is_sum else None)
    query = (
        select(*(column.label(name) for name, column in columns.items()))
        .join(sensor, sensor.key == window.sensor_key)
        .where(window.recording_key.in_(keys))
        .order_by(sensor.device_key, columns["start_ms"])
    )
    if is_sum:
        query = query.group_by(sensor.device_key, columns["start_ms"])
    found = _by_column(list(columns), connection.execute(query).all())
    if overlaps.repeats_itself(connection, run.key):
        span = begin_ms // length * length, (end_ms // length + 1) * length
        twice = overlaps.within_buckets(connection, run.key, length, span)
        of_run = sensor.recording_key.in_(keys)
        found_keys = connection.execute(select(sensor.key, sensor.device_key).where(of_run))
        by_device = _by_device(twice, {row.key: row.device_key for row in found_keys})
        _take_off(found, ("device_key", "start_ms"), by_device)
    return Series(bucket_s, found)


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
    They are as they are stored, but without what an earlier recording of the run has, too.
    `recordings` are the keys of those whose windows are wanted; None: all.
    """
    window, sensor = stored_windows.windows_between(level_s, from_ms, to_ms), models.Sensor
    names = [field.name for field in fields(Window) if field.name != "level_s"]
    names.insert(names.index("power_min_w"), "power_mean_w")
    keys = pyramid.keys_of(connection, run.key) if recordings is None else recordings
    columns = [sensor.key, sensor.device_key, *(getattr(window, name) for name in names)]
    query = select(*columns).where(window.recording_key.in_(keys))
    query = query.join(sensor, sensor.key == window.sensor_key)
    rows = connection.execute(query.order_by(sensor.device_key, window.start_ms)).all()
    found = _by_column(["sensor_key", "device_key", *names], rows)
    if rows and overlaps.repeats_itself(connection, run.key):
        length_ms = level_s * MS_PER_S
        span = min(found["start_ms"]), max(found["start_ms"]) + length_ms
        twice = overlaps.within_buckets(connection, run.key, length_ms, span)
        found = _left(_take_off(found, ("sensor_key", "start_ms"), twice))
    del found["sensor_key"]
    return found


def _by_column(names: Sequence[str], rows: Sequence[Any]) -> dict[str, list[Any]]:
    values = zip(*rows, strict=True) if rows else ([] for _ in names)
    return {name: list(column) for name, column in zip(names, values, strict=True)}


def _by_device(
    twice: Mapping[tuple[int, int], Part], device_of: Mapping[int, int]
) -> dict[tuple[int, int], Part]:
    """What the sensors of each device have twice, by the device's key and the time."""
    found: dict[tuple[int, int], Part] = {}
    for (sensor_key, start_ms), part in twice.items():
        at = device_of[sensor_key], start_ms
        found[at] = total(at[0], [found.get(at, Part(at[0], 0.0, 0.0)), part])
    return found


def _take_off(
    columns: dict[str, list[Any]], key: tuple[str, str], twice: Mapping[tuple[int, int], Part]
) -> dict[str, list[Any]]:
    """Make rows smaller by what is counted elsewhere: energy, and the time it accounts for."""
    for at, where in enumerate(zip(columns[key[0]], columns[key[1]], strict=True)):
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
    places = [
        at
        for at, (energy_j, energy_s) in enumerate(
            zip(columns["energy_j"], columns["energy_s"], strict=True)
        )
        if energy_j is None or energy_s > _NOTHING or energy_j > _NOTHING
    ]
    return {name: [column[at] for at in places] for name, column in columns.items()}


def _columns(window: Any, length: int | None) -> dict[str, ColumnElement[Any]]:
    """Of windows as they are, or of all in a bucket of `length` ms: as `merge` reduces them."""
    device_key = models.Sensor.device_key.expression
    if length is None:
        names = ("start_ms", "energy_j", "energy_s", "power_min_w", "power_max_w")
        own = {name: getattr(window, name) for name in (*names, "util_pct", "temperature_max_c")}
        return {"device_key": device_key, **own}
    vitals_known = case((window.util_pct.is_not(None), window.vitals))
    return {
        "device_key": device_key,
        "start_ms": (window.start_ms // length * length).label("start_ms"),
        "energy_j": func.sum(window.energy_j),
        "energy_s": func.sum(window.energy_s),
        "power_min_w": func.min(window.power_min_w),
        "power_max_w": func.max(window.power_max_w),
        "util_pct": func.sum(window.util_pct * window.vitals)
        / func.nullif(func.sum(vitals_known), 0),
        "temperature_max_c": func.max(window.temperature_max_c),
    }


def step_means(
    connection: Connection,
    run: Run,
    *,
    from_ms: int | None = None,
    to_ms: int | None = None,
    points: int = 2000,
) -> list[StepMean]:
    """Training steps between two times, in order, in the shortest buckets of which there are at
    most `points`: a step that has one of its own is as it was logged.
    """
    length = step_bucket_ms(run, from_ms=from_ms, to_ms=to_ms, points=points)
    return steps_in_buckets(connection, run, length, from_ms=from_ms, to_ms=to_ms)


def step_bucket_ms(run: Run, *, from_ms: int | None, to_ms: int | None, points: int) -> int:
    """How long the buckets of `step_means` are for the same arguments, in ms."""
    begin_ms, end_ms = _range(run, from_ms, to_ms)
    return pyramid.bucket_ms(end_ms - begin_ms, points)


def mergeable_step_bucket_ms(run: Run, points: int) -> int:
    """How long buckets of all the run's steps are, about as many as `points`, that add up to those
    of `step_means` for any range in which these are longer.
    """
    begin_ms, end_ms = _range(run, None, None)
    return pyramid.mergeable_ms(end_ms - begin_ms, points)


def steps_in_buckets(
    connection: Connection,
    run: Run,
    length: int,
    *,
    from_ms: int | None = None,
    to_ms: int | None = None,
    numbers: tuple[int, int] | None = None,
) -> list[StepMean]:
    """As `step_means`, in buckets of `length` ms; one that is touched by the range is whole. The
    ledger finds steps by their numbers: the first and the last, where they are known, spare it to
    look at all of the run.
    """
    rows = step_rows(connection, run, length, from_ms=from_ms, to_ms=to_ms, numbers=numbers)
    return [StepMean(*row) for row in rows]


def step_rows(
    connection: Connection,
    run: Run,
    length: int,
    *,
    from_ms: int | None = None,
    to_ms: int | None = None,
    numbers: tuple[int, int] | None = None,
) -> Sequence[Sequence[Any]]:
    """The same, each as the fields of a `StepMean` in their order."""
    step = steps_of(connection, run).c
    bucket = (step.time_ms // length).label("bucket")
    # What is not a number is NULL, and what it was is among the extras.
    not_finite = step.loss.is_(None) & step.extra["loss"].as_string().is_not(None)
    columns = {  # in the order of StepMean: by name it would take twice as long
        "first_step": func.min(step.step),
        "step": func.max(step.step),
        "time_ms": func.max(step.time_ms),
        "steps": func.count(),
        "losses": func.count(step.loss),
        "loss": func.avg(step.loss),
        "loss_min": func.min(step.loss),
        "loss_max": func.max(step.loss),
        "not_finite": func.sum(case((not_finite, 1), else_=0)),
        "tokens": cast(func.sum(step.tokens), BigInteger),
        "rates": func.count(step.tokens_per_s),
        "tokens_per_s": func.avg(step.tokens_per_s),
    }
    wanted: list[ColumnElement[bool]] = []
    if numbers is not None:
        wanted.append(step.step.between(*numbers))
    if from_ms is not None:
        wanted.append(step.time_ms >= from_ms // length * length)
    if to_ms is not None:
        wanted.append(step.time_ms < (to_ms // length + 1) * length)
    query = (
        select(*(column.label(name) for name, column in columns.items()))
        .where(*wanted)
        .group_by(bucket)
        .order_by(bucket)
    )
    return connection.execute(query).all()


def _range(run: Run, from_ms: int | None, to_ms: int | None) -> tuple[int, int]:
    """All of the run where no time is given; to its last heartbeat if its end was not seen."""
    begin_ms = run.started_ms if from_ms is None else from_ms
    return begin_ms, run.end_ms if to_ms is None else to_ms


def _firsts_inside(
    connection: Connection, run: Run, from_ms: int | None, to_ms: int | None
) -> list[dict[int, int | None]]:
    """Of each recording the start of its first window of each level that is wholly in the range."""
    recording = models.Recording
    firsts = [
        stored_windows.first_window(
            recording.key,
            level_s,
            from_ms,
            None if to_ms is None else to_ms - level_s * MS_PER_S + 1,
        )
        for level_s in LEVELS_S
    ]
    query = select(*firsts).where(recording.run_key == run.key)
    return [dict(zip(LEVELS_S, row, strict=True)) for row in connection.execute(query)]


def _was_dropped(level_s: int, firsts: Mapping[int, int | None]) -> bool:
    """Whether there is a coarser window none of whose windows of this level is there any more."""
    fine_ms = firsts[level_s]
    return any(
        coarse_ms is not None and (fine_ms is None or fine_ms >= coarse_ms + coarse_s * MS_PER_S)
        for coarse_s, coarse_ms in firsts.items()
        if coarse_s > level_s
    )
