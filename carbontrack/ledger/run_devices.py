"""The devices of runs and what each used: of a thousand runs in as many queries as of one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from sqlalchemy import ColumnElement, Connection, select

from carbontrack.ledger import models, tables
from carbontrack.ledger.rows import Recording, Run, Sensor, Stated, Usage, usage_of
from carbontrack.ledger.window import LEVELS_S, merge
from carbontrack.vocabulary import RunKind

_AT_ONCE = 500  # runs whose keys one statement holds
_ROWS_HELD = 1000  # a run of months has 100,000 hours of devices


@dataclass(frozen=True, slots=True)
class Used:
    """A run's devices, and what each used over the whole of it."""

    run: Run
    sensors: list[Sensor]
    totals: list[Usage]
    stated: list[Stated]  # of one that was entered by hand


def used_by(connection: Connection, runs: Sequence[Run]) -> Iterator[Used]:
    """Of each run, in the order of the runs; the totals are those of `read.totals`."""
    for at in range(0, len(runs), _AT_ONCE):
        some = runs[at : at + _AT_ONCE]
        sensors, totals = sensors_of(connection, some), _totals_of(connection, some)
        stated = stated_of(connection, some)
        for run in some:
            yield Used(run, sensors[run.key], totals[run.key], stated[run.key])


def stated_of(connection: Connection, runs: Sequence[Run]) -> dict[int, list[Stated]]:
    """By the key of the run: what was entered by hand, by the name of the device."""
    found: dict[int, list[Stated]] = {run.key: [] for run in runs}
    entered = [run.key for run in runs if run.kind is RunKind.STATED]
    if entered:
        row = models.Stated
        query = select(row.__table__).where(row.run_key.in_(entered)).order_by(row.device_name)
        for values in connection.execute(query).mappings():
            found[values["run_key"]].append(tables.STATED.read(values))
    return found


def sensors_of(connection: Connection, runs: Sequence[Run]) -> dict[int, list[Sensor]]:
    """By the key of the run: its devices and how it read them, each once, as its newest recording
    did, ordered by host.
    """
    device, sensor, recording = models.Device, models.Sensor, models.Recording
    wanted = recording.run_key.in_([run.key for run in runs])
    of = {one.key: (run_key, one) for run_key, one in _recordings(connection, wanted)}
    query = (
        select(
            sensor.recording_key,
            device.key.label("device_key"),
            *(getattr(device, name) for name in tables.DEVICES.fields),
            *(getattr(sensor, name) for name in tables.SENSORS.fields),
        )
        .join(sensor, sensor.device_key == device.key)
        .join(recording, recording.key == sensor.recording_key)
        .where(wanted)
    )
    read_by: dict[tuple[int, int], list[tuple[Recording, Sensor]]] = defaultdict(list)
    for row in connection.execute(query).mappings():
        values = dict(row)
        run_key, by = of[values.pop("recording_key")]
        read_by[run_key, values["device_key"]].append((by, Sensor(**values)))
    of_run = {run.key: run for run in runs}
    found: dict[int, list[Sensor]] = {run.key: [] for run in runs}
    for (run_key, _), readers in read_by.items():
        found[run_key].append(_newest(of_run[run_key], readers))
    for some in found.values():
        some.sort(key=lambda one: (one.host, one.device_key))
    return found


def _recordings(
    connection: Connection, wanted: ColumnElement[bool]
) -> Iterator[tuple[int, Recording]]:
    for row in connection.execute(select(models.Recording.__table__).where(wanted)).mappings():
        yield row["run_key"], replace(tables.RECORDINGS.read(row), key=row["key"])


def _newest(run: Run, readers: Sequence[tuple[Recording, Sensor]]) -> Sensor:
    """A device by its newest recording, and when all of them recorded it."""
    _, sensor = max(readers, key=lambda one: (one[0].restart, one[0].started_ms, one[0].key))
    spans: list[tuple[int, int]] = []
    for start_ms, end_ms in sorted((one.started_ms, one.end_ms) for one, _ in readers):
        if spans and start_ms <= spans[-1][1]:
            start_ms, end_ms = spans[-1][0], max(end_ms, spans.pop()[1])
        spans.append((start_ms, end_ms))
    all_along = [(run.started_ms, run.end_ms)]
    return replace(sensor, spans_ms=() if spans == all_along else tuple(spans))


def _totals_of(connection: Connection, runs: Sequence[Run]) -> dict[int, list[Usage]]:
    """By the key of the run: what each of its devices used over the whole of it."""
    window, sensor, recording = models.Window, models.Sensor, models.Recording
    wanted = recording.run_key.in_([run.key for run in runs])
    query = (
        select(recording.run_key, sensor.device_key, window.__table__)
        .join(sensor, sensor.key == window.sensor_key)
        .join(recording, recording.key == window.recording_key)
        .where(
            wanted,
            window.recording_key.in_(select(recording.key).where(wanted)),
            window.level == LEVELS_S[-1],
        )
        .order_by(recording.run_key, sensor.device_key, window.start_ms)
    )
    found: dict[int, list[Usage]] = {run.key: [] for run in runs}
    rows = connection.execute(query, execution_options={"yield_per": _ROWS_HELD}).mappings()
    for (run_key, device_key), hours in groupby(
        rows, lambda row: (row["run_key"], row["device_key"])
    ):
        parts = [tables.WINDOWS.read(row) for row in hours]
        whole = merge(parts, start_ms=parts[0].start_ms, level_s=LEVELS_S[-1])
        found[run_key].append(usage_of(device_key, whole))
    return found
