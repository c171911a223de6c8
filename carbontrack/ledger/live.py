"""What is now in all of a ledger: the newest values of each device that is recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, select

from carbontrack.ledger import live_row, models
from carbontrack.ledger.find import PRESENT, name_of, project_of
from carbontrack.ledger.outcome import heard_of, status_of
from carbontrack.ledger.recorded_rows import Recording
from carbontrack.ledger.rows import Live
from carbontrack.ledger.set_clocks import with_set
from carbontrack.ledger.sql import in_parts
from carbontrack.ledger.tables import LIVE, RECORDINGS
from carbontrack.ledger.transaction import asking
from carbontrack.units import MS_PER_DAY, now_ms
from carbontrack.vocabulary import Status

FORGOTTEN_MS = MS_PER_DAY
"""After so long without a word from it a device is not shown as silent any more."""


@dataclass(frozen=True, slots=True)
class LiveDevice:
    """A device that is recorded now, or was until its node fell silent."""

    run_id: str
    run_name: str
    project: str | None
    recording_id: str
    host: str
    uuid: str
    name: str
    kind: str  # a `DeviceKind`, or another package's
    index: int  # among the devices of its kind that its recording reads
    power_w: float | None  # None if it was not read in the last seconds
    energy_j: float | None  # since the recording's start
    util_pct: float | None
    heard_ms: int  # when this ledger heard of it last
    status: Status  # running, or interrupted where it should have been heard of since


def newest(connection: Connection) -> list[LiveDevice]:
    """All devices of recordings that go on, or whose node fell silent less than a day ago, ordered
    by host, run and index.
    """
    now = now_ms()
    found = list(_shipped(connection, now))
    if connection.dialect.name == "sqlite":
        found += _written_here(connection, now)
    devices = _devices(connection, [one.recording.key for one in found])
    shown = [one for now_of in found for one in _of_recording(now_of, devices, now)]
    return sorted(shown, key=lambda one: (one.host, one.run_id, one.recording_id, one.index))


@dataclass(frozen=True, slots=True)
class _Now:
    """What is now of a recording, by the keys of its sensors."""

    recording: Recording
    run_id: str
    run_name: str
    project: str | None
    sensor_keys: Sequence[int]
    live: Live


_Device = tuple[int, str, str, str]  # the key of its sensor, UUID, name, kind


def _shipped(connection: Connection, now_ms: int) -> Iterator[_Now]:
    """Those that nodes ship here."""
    row = models.Live
    query = (
        _recordings(connection, row.__table__).join(row).where(row.heard_ms > now_ms - FORGOTTEN_MS)
    )
    for found in connection.execute(query).mappings():
        recording = replace(_read(found), heard_ms=found["heard_ms"])
        yield _now(found, recording, found["sensor_keys"], LIVE.read(found))


def _written_here(connection: Connection, now_ms: int) -> Iterator[_Now]:
    """Those that recorders of this machine write into this file: its newest seconds say it."""
    recording = models.Recording
    query = _recordings(connection).where(
        recording.ended_ms.is_(None),
        recording.key.not_in(select(models.Live.recording_key)),
        recording.heartbeat_ms > now_ms - FORGOTTEN_MS,
    )
    for found in connection.execute(query).mappings().all():
        of = with_set(asking(connection), _read(found), now_ms)
        keys = [key for key, *_ in _devices(connection, [of.key])[of.key]]
        yield _now(found, of, keys, live_row.of_recording(asking(connection), of, keys))


def _recordings(connection: Connection, *more: Any) -> Select[Any]:
    run = models.Run
    said = (run.id.label("run_id"), name_of(connection).label("run_name"))
    its_project = project_of(connection).label("project")
    query = select(models.Recording.__table__, *said, its_project, *more)
    return query.join(run, run.key == models.Recording.run_key).where(PRESENT)


def _read(found: RowMapping) -> Recording:
    return replace(RECORDINGS.read(found), key=found["key"])


def _now(found: RowMapping, recording: Recording, keys: Sequence[int], live: Live) -> _Now:
    said = (found["run_id"], found["run_name"], found["project"])
    return _Now(recording, *said, keys, live)


def _devices(connection: Connection, recording_keys: Sequence[int]) -> dict[int, list[_Device]]:
    """By the key of the recording, in the order of its sensors."""
    found: dict[int, list[_Device]] = {key: [] for key in recording_keys}
    device, sensor = models.Device, models.Sensor
    query = select(sensor.recording_key, sensor.key, device.uuid, device.name, device.kind)
    query = query.join(device, device.key == sensor.device_key).order_by(sensor.key)
    for keys in in_parts(recording_keys):
        some = query.where(sensor.recording_key.in_(keys))
        for recording_key, key, uuid, name, kind in connection.execute(some):
            found[recording_key].append((key, uuid, name, kind))
    return found


def _of_recording(
    found: _Now, devices: Mapping[int, Sequence[_Device]], now_ms: int
) -> Iterator[LiveDevice]:
    live, recording = found.live, found.recording
    values = zip(live.power_w, live.energy_j, live.util_pct, strict=True)
    value_of = dict(zip(found.sensor_keys, values, strict=True))
    status = status_of(recording, now_ms=now_ms)
    index = Counter[str]()
    for key, uuid, name, kind in devices[recording.key]:
        power_w, energy_j, util_pct = value_of.get(key, (None, None, None))
        yield LiveDevice(
            run_id=found.run_id,
            run_name=found.run_name,
            project=found.project,
            recording_id=recording.id,
            host=recording.host,
            uuid=uuid,
            name=name,
            kind=kind,
            index=index[kind],
            power_w=power_w,
            energy_j=energy_j,
            util_pct=util_pct,
            heard_ms=heard_of(recording),
            status=status,
        )
        index[kind] += 1
