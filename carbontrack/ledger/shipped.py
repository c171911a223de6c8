"""Batches of other ledgers taken in: twice, late or in any order, the ledger becomes the same.

What a recording says of itself counts as its newest batch has it; a window, as the one with most
samples has it. The database's keys decide what is the same row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from carbontrack.errors import CarbontrackError
from carbontrack.ledger import backlog
from carbontrack.ledger.batch import Batch, Held
from carbontrack.ledger.rows import OverlapPart, Recording, Sensor
from carbontrack.ledger.tables import (
    AMENDMENTS,
    DEVICES,
    EVENTS,
    IMPORTS,
    OVERLAPS,
    RECORDINGS,
    SENSORS,
    STATED,
    STEPS,
    WINDOWS,
    plain,
)
from carbontrack.ledger.transaction import Transaction
from carbontrack.ledger.write import UPSERT_STEP, finite, put_run
from carbontrack.vocabulary import AmendedField

_UPSERT_WINDOW = (
    f"{WINDOWS.upsert} where windows.samples < excluded.samples or "
    "(windows.samples = excluded.samples and windows.energy_s <= excluded.energy_s)"
)
_SAID = ("heartbeat_ms", "ended_ms", "status", "exit_code", "clock_offset_ms", "settings")


class OtherProject(CarbontrackError):
    """The run is in the ledger, in a project that the sender may not write."""


def take(transaction: Transaction, batch: Batch, project: str) -> Held | None:
    """Write a batch into a project; what the ledger then holds of its recording, if it is final.

    A run that was removed stays so. Raises OtherProject, or the database's error.
    """
    id = {"id": batch.run.id}
    if next(transaction.ask("select 1 as one from tombstones where run_id = :id", id), None):
        return None
    _check_project(transaction, batch, project)
    run_key = put_run(transaction, replace(batch.run, project=project))
    key, is_newest = _put_recording(transaction, run_key, batch.recording)
    sensor_keys = _put_sensors(transaction, key, batch.sensors, is_newest=is_newest)
    if is_newest and batch.run.model:
        _unite_model(transaction, run_key, batch.run.model)
    if batch.windows:
        rows = [
            WINDOWS.written(window, recording_key=key, sensor_key=sensor_keys[uuid])
            for uuid, window in batch.windows
        ]
        transaction.write(_UPSERT_WINDOW, rows)
    if batch.steps:
        rows = [STEPS.written(finite(step), recording_key=key) for step in batch.steps]
        transaction.write(UPSERT_STEP, rows)
    if batch.events:
        rows = [EVENTS.written(e, recording_key=key, number=n) for n, e in batch.events]
        transaction.write(EVENTS.insert_once, rows)
    for table, said in ((STATED, batch.stated), (IMPORTS, batch.imports)):
        if said:
            rows = [table.written(one, run_key=run_key) for one in said]
            transaction.write(table.insert_once, rows)
    if is_newest and batch.final:
        _put_overlaps(transaction, sensor_keys, batch.overlaps)
    # A token is of one project: it moves no run into another.
    amendments = [one for one in batch.amendments if one.field != AmendedField.PROJECT]
    if amendments:
        rows = [AMENDMENTS.written(one) for one in amendments]
        transaction.write(AMENDMENTS.insert_once, rows)
    return backlog.held(transaction, batch.recording.id) if batch.final else None


def _check_project(transaction: Transaction, batch: Batch, project: str) -> None:
    """Neither the run nor the recording may be another's: their ids can be guessed or copied."""
    found = transaction.ask(
        "select project from runs where id = :run union all "
        "select runs.project from runs join recordings on recordings.run_key = runs.key "
        "where recordings.id = :recording and runs.id <> :run",
        {"run": batch.run.id, "recording": batch.recording.id},
    )
    others = [row["project"] for row in found]
    if len(others) > 1 or any(other != project for other in others):
        raise OtherProject("The run belongs to another project.")


def _put_recording(
    transaction: Transaction, run_key: int, recording: Recording
) -> tuple[int, bool]:
    """Its key, and whether no newer state of it has come before."""
    row = RECORDINGS.written(recording, run_key=run_key)
    transaction.write(RECORDINGS.insert_once, [row])
    (found,) = transaction.ask(
        "select key, heartbeat_ms, ended_ms from recordings where id = :id", {"id": recording.id}
    )
    is_newest = _age(row) >= _age(found)
    if is_newest:
        said = ", ".join(f"{name} = :{name}" for name in _SAID)
        transaction.write(f"update recordings set {said} where id = :id", [row])
    return int(found["key"]), is_newest


def _age(recording: Mapping[str, Any]) -> tuple[bool, int]:
    return recording["ended_ms"] is not None, recording["heartbeat_ms"]


def _put_sensors(
    transaction: Transaction, recording_key: int, sensors: Sequence[Sensor], *, is_newest: bool
) -> dict[str, int]:
    """The keys by the UUIDs of the devices. A device is of all projects: none writes it again."""
    transaction.write(DEVICES.insert_once, [DEVICES.written(sensor) for sensor in sensors])
    statement = SENSORS.upsert if is_newest else SENSORS.insert_once
    for sensor in sensors:
        (device,) = transaction.ask(
            "select key from devices where uuid = :uuid", {"uuid": plain(sensor.uuid)}
        )
        row = SENSORS.written(sensor, recording_key=recording_key, device_key=device["key"])
        transaction.write(statement, [row])
    found = transaction.ask(
        "select devices.uuid, sensors.key from sensors "
        "join devices on devices.key = sensors.device_key where recording_key = :key",
        {"key": recording_key},
    )
    key_of = {row["uuid"]: row["key"] for row in found}
    return {sensor.uuid: key_of[plain(sensor.uuid)] for sensor in sensors}


def _put_overlaps(
    transaction: Transaction,
    sensor_keys: Mapping[str, int],
    parts: Sequence[tuple[str, OverlapPart]],
) -> None:
    """What its node has decided of the time that others recorded, too, instead of what was."""
    for key in sensor_keys.values():
        transaction.write('delete from "overlaps" where sensor_key = :key', [{"key": key}])
    if parts:
        rows = [OVERLAPS.written(part, sensor_key=sensor_keys[uuid]) for uuid, part in parts]
        transaction.write(OVERLAPS.upsert, rows)


def _unite_model(transaction: Transaction, run_key: int, model: Mapping[str, Any]) -> None:
    (found,) = transaction.ask(
        "select cast(model as text) as model from runs where key = :key", {"key": run_key}
    )
    united = {**json.loads(found["model"]), **plain(model)}
    transaction.write(
        "update runs set model = :model where key = :key",
        [{"key": run_key, "model": json.dumps(united)}],
    )
