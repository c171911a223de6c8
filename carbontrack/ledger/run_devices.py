"""The devices of runs: of a thousand runs in as many queries as of one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Connection, select

from carbontrack.ledger import models, tables
from carbontrack.ledger.overlaps import is_shared, share_time
from carbontrack.ledger.recorded_rows import AS_STORED, Recording, Run, Sensor, Span
from carbontrack.ledger.rows import Stated
from carbontrack.ledger.set_clocks import with_sets
from carbontrack.ledger.true_time import corrected, recorded_ms
from carbontrack.units import now_ms
from carbontrack.vocabulary import RunKind, Status

Readers = dict[tuple[int, int], list[tuple[Recording, Sensor]]]
"""By run and device, its recordings and how each read the device."""


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
    return by_run(runs, readers_of(connection, recordings_of(connection, runs)))


def recordings_of(connection: Connection, runs: Sequence[Run]) -> dict[int, list[Recording]]:
    """By the key of the run: what recorded it, on each node and in each attempt, ordered by host
    and time.
    """
    recording = models.Recording
    heard = {"heard_ms": models.Live.heard_ms}
    wanted = [heard[name] if name in heard else getattr(recording, name) for name in AS_STORED]
    query = select(recording.run_key, *wanted).outerjoin(models.Live)
    query = query.where(recording.run_key.in_([run.key for run in runs]))
    query = query.order_by(recording.host, recording.started_ms, recording.key)
    found: dict[int, list[Recording]] = {run.key: [] for run in runs}
    clocks = {key: shifts for run in runs for key, shifts in run.clocks.items()}
    for run_key, *values in connection.execute(query).all():
        values[_STATUS] = Status(values[_STATUS])
        one = Recording(*values)
        found[run_key].append(corrected(one, clocks.get(one.key, ())))
    now = now_ms()
    return {key: list(with_sets(connection, of_run, now)) for key, of_run in found.items()}


_STATUS = AS_STORED.index("status")


def by_run(runs: Sequence[Run], readers: Readers) -> dict[int, list[Sensor]]:
    """The same of what read them."""
    of_run = {run.key: run for run in runs}
    found: dict[int, list[Sensor]] = {run.key: [] for run in runs}
    for (run_key, _), of_device in readers.items():
        found[run_key].append(_newest(of_run[run_key], of_device))
    for some in found.values():
        some.sort(key=lambda one: (one.host, one.device_key))
    return found


def repeating(readers: Readers) -> set[int]:
    """The keys of the runs of which two recordings read one device at one time."""
    return {
        run_key
        for (run_key, _), of_device in readers.items()
        if share_time(_recorded_span(by) for by, one in of_device if is_shared(one))
    }


def _recorded_span(by: Recording) -> Span:
    """By the clock of its node, which all have that read a device of it."""
    return recorded_ms(by.shifts, by.started_ms), recorded_ms(by.shifts, by.end_ms)


def readers_of(connection: Connection, recordings: Mapping[int, Sequence[Recording]]) -> Readers:
    """What read the devices of runs, of which these are all recordings by the key of the run."""
    device, sensor, recording = models.Device, models.Sensor, models.Recording
    of = {one.key: (run_key, one) for run_key, found in recordings.items() for one in found}
    query = (
        select(
            sensor.recording_key,
            device.key.label("device_key"),
            *(getattr(device, name) for name in tables.DEVICES.fields),
            *(getattr(sensor, name) for name in tables.SENSORS.fields),
        )
        .join(sensor, sensor.device_key == device.key)
        .join(recording, recording.key == sensor.recording_key)
        .where(recording.run_key.in_(recordings))
    )
    read_by: Readers = defaultdict(list)
    result = connection.execute(query)
    names = list(result.keys())[1:]
    for recording_key, *values in result.all():
        run_key, by = of[recording_key]
        one = Sensor(**dict(zip(names, values, strict=True)))
        read_by[run_key, one.device_key].append((by, one))
    return read_by


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
