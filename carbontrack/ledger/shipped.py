"""Batches of other ledgers taken in: twice, late or in any order, the ledger becomes the same.

What a recording says of itself counts as its newest batch has it; of two windows the better one:
see `join`. The database's keys decide what is the same row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from carbontrack.errors import CarbontrackError
from carbontrack.ledger import backlog, live_row
from carbontrack.ledger.batch import Batch, Held
from carbontrack.ledger.join import is_as_good, is_better
from carbontrack.ledger.packed import Stored, stored
from carbontrack.ledger.rows import OverlapPart, Recording, Sensor, Tombstone
from carbontrack.ledger.tables import (
    AMENDMENTS,
    CLOCKS,
    DEVICES,
    EVENTS,
    IMPORTS,
    OVERLAPS,
    RECORDINGS,
    SENSORS,
    STATED,
    STEPS,
    TOMBSTONES,
    WINDOWS,
)
from carbontrack.ledger.transaction import Transaction
from carbontrack.ledger.write import (
    UPSERT_STEP,
    device_key,
    finite,
    is_removed,
    put_recording,
    put_run,
    sensor_keys,
    unite_model,
)
from carbontrack.vocabulary import AmendedField

_SAID = ("heartbeat_ms", "ended_ms", "status", "exit_code", "settings")


Sent = Batch | Tombstone
"""What a ledger is sent by another."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of it."""

    held: Held | None = None  # what the ledger then holds, of the final batch of a recording
    is_removed: bool = False  # the batch is of a run that was removed here: nothing was taken


class OtherProject(CarbontrackError):
    """The run is, or was, in the ledger, in a project that the sender may not write."""


def take(transaction: Transaction, sent: Sequence[tuple[Sent, str | None]]) -> list[Reply]:
    """Write batches and tombstones in this order, each into a project, or into its own.

    A run that was removed stays so; its rows are for `remove.sweep`. Raises OtherProject, or the
    database's error.
    """
    fresh, late = _Windows(), _Windows()
    removed = set()
    for number, (one, project) in enumerate(sent):
        if isinstance(one, Tombstone):
            _take_tombstone(transaction, one, project)
            continue
        if project is not None:
            _check_project(transaction, one.run.id, project, recording_id=one.recording.id)
        if is_removed(transaction, one.run):
            removed.add(number)
            continue
        key, is_newest, sensors = _take_all_but_windows(transaction, one, project)
        (fresh if is_newest else late).add(one, key, sensors)
    for windows, stays in ((fresh, is_as_good), (late, is_better)):
        transaction.put_segments(windows.segments, stays)
        transaction.put_better(windows.rows, stays)
    return [
        Reply(
            held=backlog.held(transaction, one.recording.id)
            if isinstance(one, Batch) and one.final and number not in removed
            else None,
            is_removed=number in removed,
        )
        for number, (one, _) in enumerate(sent)
    ]


def _take_tombstone(transaction: Transaction, tombstone: Tombstone, project: str | None) -> None:
    """It stands for the project from now on, also of a run that has not come yet."""
    if project is not None:
        _check_project(transaction, tombstone.run_id, project)
        tombstone = replace(tombstone, project=project)
    transaction.write(TOMBSTONES.insert_once, [TOMBSTONES.written(tombstone)])


@dataclass
class _Windows:
    """Those of several batches, as rows of this ledger."""

    rows: list[tuple[Any, ...]] = field(default_factory=list)
    segments: list[Stored] = field(default_factory=list)

    def add(self, batch: Batch, recording_key: int, sensors: Mapping[str, int]) -> None:
        self.rows += [
            WINDOWS.in_order(window, recording_key, sensors[uuid]) for uuid, window in batch.windows
        ]
        self.segments += [
            stored(segment, recording_key, sensors[uuid]) for uuid, segment in batch.segments
        ]


def _take_all_but_windows(
    transaction: Transaction, batch: Batch, project: str | None
) -> tuple[int, bool, dict[str, int]]:
    """The key of the recording, whether no newer state of it has come before, and the keys of its
    sensors by the UUIDs of the devices.
    """
    run = batch.run
    if project is not None:
        run = replace(run, project=project)
    run_key = put_run(transaction, run)
    key, is_newest = _put_recording(transaction, run_key, batch.recording)
    sensors = _put_sensors(transaction, key, batch.sensors, is_newest=is_newest)
    if is_newest and batch.run.model:
        unite_model(transaction, run_key, batch.run.model)
    if is_newest:
        _put_live(transaction, key, batch, sensors)
    steps = [STEPS.written(finite(step), recording_key=key) for step in batch.steps]
    transaction.write(UPSERT_STEP, steps)
    events = [EVENTS.written(e, recording_key=key, number=n) for n, e in batch.events]
    transaction.write(EVENTS.insert_once, events)
    clocks = [CLOCKS.written(clock, recording_key=key) for clock in batch.clocks]
    transaction.write(CLOCKS.insert_once, clocks)
    for table, said in ((STATED, batch.stated), (IMPORTS, batch.imports)):
        rows = [table.written(one, run_key=run_key) for one in said]
        transaction.write(table.insert_once, rows)
    if is_newest and batch.final:
        _put_overlaps(transaction, sensors, batch.overlaps)
    amendments = batch.amendments
    if project is not None:  # the sender may write into this one only
        amendments = tuple(one for one in amendments if one.field != AmendedField.PROJECT)
    transaction.write(AMENDMENTS.insert_once, [AMENDMENTS.written(one) for one in amendments])
    return key, is_newest, sensors


def _check_project(
    transaction: Transaction, run_id: str, project: str, *, recording_id: str | None = None
) -> None:
    """Neither the run nor the recording may be another's: their ids can be guessed or copied. Nor
    one that another has removed.
    """
    found = transaction.ask(
        "select project from runs where id = :run union "
        "select project from tombstones where run_id = :run and project is not null union all "
        "select runs.project from runs join recordings on recordings.run_key = runs.key "
        "where recordings.id = :recording and runs.id <> :run",
        {"run": run_id, "recording": recording_id or ""},
    )
    others = [row["project"] for row in found]
    if len(others) > 1 or any(other != project for other in others):
        raise OtherProject("The run belongs to another project.")


def _put_recording(
    transaction: Transaction, run_key: int, recording: Recording
) -> tuple[int, bool]:
    """Its key, and whether no newer state of it has come before."""
    key = put_recording(transaction, run_key, recording)
    row = RECORDINGS.written(recording, run_key=run_key)
    asked = "select heartbeat_ms, ended_ms from recordings where key = :key"
    (found,) = transaction.ask(asked, {"key": key})
    is_newest = _age(row) >= _age(found)
    if is_newest:
        said = ", ".join(f"{name} = :{name}" for name in _SAID)
        transaction.write(f"update recordings set {said} where id = :id", [row])
    return key, is_newest


def _age(recording: Mapping[str, Any]) -> tuple[bool, int]:
    return recording["ended_ms"] is not None, recording["heartbeat_ms"]


def _put_sensors(
    transaction: Transaction, recording_key: int, sensors: Sequence[Sensor], *, is_newest: bool
) -> dict[str, int]:
    """The keys by the UUIDs of the devices. A device is of all projects: none writes it again."""
    transaction.write(DEVICES.insert_once, [DEVICES.written(sensor) for sensor in sensors])
    statement = SENSORS.upsert if is_newest else SENSORS.insert_once
    devices = {sensor.uuid: device_key(transaction, sensor) for sensor in sensors}
    rows = [
        SENSORS.written(one, recording_key=recording_key, device_key=devices[one.uuid])
        for one in sensors
    ]
    transaction.write(statement, rows)
    key_of = sensor_keys(transaction, recording_key)
    return {uuid: key_of[device] for uuid, device in devices.items()}


def _put_live(transaction: Transaction, key: int, batch: Batch, sensors: Mapping[str, int]) -> None:
    """What is now, until the recording has ended."""
    if batch.live is not None and batch.recording.ended_ms is None:
        live_row.put(transaction, key, [sensors[one.uuid] for one in batch.sensors], batch.live)
    elif batch.recording.ended_ms is not None:
        live_row.remove(transaction, key)


def _put_overlaps(
    transaction: Transaction,
    sensors: Mapping[str, int],
    parts: Sequence[tuple[str, OverlapPart]],
) -> None:
    """What its node has decided of the time that others recorded, too, instead of what was."""
    own = [{"key": key} for key in sensors.values()]
    transaction.write('delete from "overlaps" where sensor_key = :key', own)
    rows = [OVERLAPS.written(part, sensor_key=sensors[uuid]) for uuid, part in parts]
    transaction.write(OVERLAPS.upsert, rows)
