"""Batches of other ledgers taken in: twice, late or in any order, the ledger becomes the same.

What a recording says of itself counts as its newest batch has it; of two windows the better one:
see `join`. The database's keys decide what is the same row.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any

from carbontrack.errors import CarbontrackError
from carbontrack.ledger import backlog, late_overlaps, live_row
from carbontrack.ledger.batch import Batch, Held
from carbontrack.ledger.here import Here, RecordingHere
from carbontrack.ledger.join import age, is_as_good, is_better
from carbontrack.ledger.packed import Stored, stored
from carbontrack.ledger.rows import Live, Tombstone
from carbontrack.ledger.tables import (
    AMENDMENTS,
    CLOCKS,
    DEVICES,
    EVENTS,
    IMPORTS,
    OVERLAPS,
    RECORDINGS,
    RUNS,
    SENSORS,
    STATED,
    STEPS,
    TOMBSTONES,
    WINDOWS,
    plain,
)
from carbontrack.ledger.transaction import Transaction
from carbontrack.ledger.write import (
    UPSERT_STEP,
    finite,
    put_run,
    unite_model,
)
from carbontrack.vocabulary import AmendedField

_SAID = ("heartbeat_ms", "ended_ms", "status", "exit_code", "settings")
_SAY = f"update recordings set {', '.join(f'{name} = :{name}' for name in _SAID)} where id = :id"


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
    """Write tombstones, then batches, each into a project, or into its own. Rows that others write,
    too, at the same time are written in one order, so that nobody waits for each other.

    A run that was removed stays so; its rows are for `remove.sweep`. Raises OtherProject, or the
    database's error.
    """
    for one, project in sent:
        if isinstance(one, Tombstone):
            _take_tombstone(transaction, one, project)
    batches = [
        (one if project is None else _in_project(one, project), project)
        for one, project in sent
        if isinstance(one, Batch)
    ]
    transaction.hold([batch.recording.id for batch, _ in batches])
    here = Here(transaction, (batch for batch, _ in batches))
    wanted = sorted(
        ((batch, project) for batch, project in batches if batch.run.id not in here.removed),
        key=lambda one: (one[0].run.id, one[0].recording.id),
    )
    _begin(transaction, here, [batch for batch, _ in wanted])
    for batch, project in batches:
        if project is not None:
            _check_project(here.projects(batch.run.id, batch.recording), project)
    newest = [_is_newest(transaction, here, batch) for batch, _ in wanted]
    _put_sensors(transaction, here, [batch for batch, _ in wanted], newest)
    together = _Together()
    for (batch, project), is_newest in zip(wanted, newest, strict=True):
        run_key, recording = here.runs[batch.run.id]["key"], here.recordings[batch.recording.id]
        together.add(batch, project, run_key, recording, is_newest)
    together.write(transaction)
    return [_reply(transaction, here, one) for one, _ in sent]


def _reply(transaction: Transaction, here: Here, one: Sent) -> Reply:
    if isinstance(one, Tombstone):
        return Reply()
    if one.run.id in here.removed:
        return Reply(is_removed=True)
    return Reply(held=backlog.held(transaction, one.recording.id) if one.final else None)


def _take_tombstone(transaction: Transaction, tombstone: Tombstone, project: str | None) -> None:
    """It stands for the project from now on, also of a run that has not come yet."""
    if project is not None:
        found = transaction.ask(
            "select project from runs where id = :run union "
            "select project from tombstones where run_id = :run and project is not null",
            {"run": tombstone.run_id},
        )
        _check_project((row["project"] for row in found), project)
        tombstone = replace(tombstone, project=project)
    transaction.write(TOMBSTONES.insert_once, [TOMBSTONES.written(tombstone)])


def _in_project(batch: Batch, project: str) -> Batch:
    return replace(batch, run=replace(batch.run, project=project))


def _begin(transaction: Transaction, here: Here, batches: Sequence[Batch]) -> None:
    """Write the runs and recordings that are not here yet, in an order that all writers have."""
    runs = {batch.run.id: batch.run for batch in reversed(batches)}
    fresh = sorted(runs.keys() - here.runs.keys())
    transaction.write(RUNS.insert_once, [RUNS.written(runs[id]) for id in fresh])
    here.look_at_runs(fresh)
    recordings = {batch.recording.id: batch for batch in reversed(batches)}
    fresh = sorted(recordings.keys() - here.recordings.keys())
    rows = [
        RECORDINGS.written(of.recording, run_key=here.runs[of.run.id]["key"])
        for of in (recordings[id] for id in fresh)
    ]
    transaction.write(RECORDINGS.insert_once, rows)
    here.look_at_recordings(fresh)


def _check_project(others: Iterable[str | None], project: str) -> None:
    """What is here may not be another's: the ids of runs and recordings can be guessed or copied,
    also those of a run that another has removed.
    """
    if any(other != project for other in others):
        raise OtherProject("The run belongs to another project.")


def _is_newest(transaction: Transaction, here: Here, batch: Batch) -> bool:
    """Whether no newer state of the recording has come before; then the run's model is its."""
    run = batch.run
    if run.started_ms < here.runs[run.id]["started_ms"]:
        put_run(transaction, run)
        here.look_at_runs([run.id])
    recording = here.recordings[batch.recording.id]
    said = age(batch.recording.ended_ms, batch.recording.heartbeat_ms)
    if said < recording.age:
        return False
    recording.age = said
    known = json.loads(here.runs[run.id]["model"])
    if any(name not in known or known[name] != value for name, value in plain(run.model).items()):
        unite_model(transaction, here.runs[run.id]["key"], run.model)
        here.look_at_runs([run.id])
    return True


def _put_sensors(
    transaction: Transaction, here: Here, batches: Sequence[Batch], newest: Sequence[bool]
) -> None:
    """Write those that are not here, or as the newest batch says them. A device is of all projects:
    none writes it again; those of a node stay in the order by which people number them.
    """
    changed = [
        (batch.recording.id, sensor, is_newest)
        for batch, is_newest in zip(batches, newest, strict=True)
        for recording in [here.recordings[batch.recording.id]]
        for sensor in batch.sensors
        if not (recording.has(sensor) if is_newest else sensor.uuid in recording.sensors)
    ]
    if not changed:
        return
    first = {
        batch.recording.id: min((one.uuid for one in batch.sensors), default="")
        for batch in batches
    }
    changed.sort(key=lambda one: first[one[0]])
    devices = {sensor.uuid: sensor for _, sensor, _ in changed}
    transaction.write(DEVICES.insert_once, list(map(DEVICES.written, devices.values())))
    key_of = here.devices(devices)
    for statement, of_newest in ((SENSORS.upsert, True), (SENSORS.insert_once, False)):
        rows = [
            SENSORS.written(
                sensor, recording_key=here.recordings[id].key, device_key=key_of[sensor.uuid]
            )
            for id, sensor, is_newest in changed
            if is_newest is of_newest
        ]
        transaction.write(statement, rows)
    here.look_at_sensors({id for id, _, _ in changed})


@dataclass
class _Windows:
    """Those of several batches, as rows of this ledger."""

    rows: list[tuple[Any, ...]] = field(default_factory=list)
    segments: list[Stored] = field(default_factory=list)

    def add(self, batch: Batch, recording: RecordingHere) -> None:
        key, keys = recording.key, recording.keys()
        self.rows += [WINDOWS.in_order(window, key, keys[uuid]) for uuid, window in batch.windows]
        self.segments += [stored(segment, key, keys[uuid]) for uuid, segment in batch.segments]


def _first_sensor(rows: Sequence[Mapping[str, Any]]) -> int:
    return min((row["sensor_key"] for row in rows), default=0)


@dataclass
class _Together:
    """The rows of all batches of a transaction by their statement, written in one go."""

    fresh: _Windows = field(default_factory=_Windows)  # of the newest states of their recordings
    late: _Windows = field(default_factory=_Windows)
    states: list[dict[str, Any]] = field(default_factory=list)  # of recordings
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    live: dict[int, tuple[Sequence[int], Live] | None] = field(default_factory=dict)
    overlaps: list[list[dict[str, Any]]] = field(default_factory=list)  # of each last batch

    def add(
        self,
        batch: Batch,
        project: str | None,
        run_key: int,
        recording: RecordingHere,
        is_newest: bool,
    ) -> None:
        key, keys = recording.key, recording.keys()
        (self.fresh if is_newest else self.late).add(batch, recording)
        if is_newest:
            self._add_state(batch, key, keys)
        self.rows[UPSERT_STEP] += [
            STEPS.written(finite(step), recording_key=key) for step in batch.steps
        ]
        self.rows[EVENTS.insert_once] += [
            EVENTS.written(event, recording_key=key, number=number)
            for number, event in batch.events
        ]
        self.rows[CLOCKS.insert_once] += [
            CLOCKS.written(clock, recording_key=key) for clock in batch.clocks
        ]
        for table, said in ((STATED, batch.stated), (IMPORTS, batch.imports)):
            self.rows[table.insert_once] += [table.written(one, run_key=run_key) for one in said]
        self.rows[AMENDMENTS.insert_once] += [
            AMENDMENTS.written(one)
            for one in batch.amendments
            # The sender may write into its project only.
            if project is None or one.field != AmendedField.PROJECT
        ]

    def write(self, transaction: Transaction) -> None:
        # In an order that all writers have, so that none waits for another that waits for it.
        transaction.write(_SAY, sorted(self.states, key=itemgetter("id")))
        for statement, rows in self.rows.items():
            transaction.write(statement, rows)
        for key, now in self.live.items():
            if now is None:
                live_row.remove(transaction, key)
        live = {key: now for key, now in sorted(self.live.items()) if now is not None}
        live_row.put(transaction, live)
        for decided in sorted(self.overlaps, key=_first_sensor):
            late_overlaps.put_of_sensors(transaction, decided)
        for windows, stays in ((self.fresh, is_as_good), (self.late, is_better)):
            transaction.put_segments(windows.segments, stays)
            transaction.put_better(windows.rows, stays)

    def _add_state(self, batch: Batch, key: int, keys: Mapping[str, int]) -> None:
        """What only the newest batch of a recording says."""
        row = RECORDINGS.written(batch.recording)
        self.states.append({name: row[name] for name in ("id", *_SAID)})
        if batch.recording.ended_ms is not None:
            self.live[key] = None
        elif batch.live is not None:
            self.live[key] = [keys[one.uuid] for one in batch.sensors], batch.live
        self.overlaps.append(  # what its node has decided of the time that others recorded, too
            [OVERLAPS.written(part, sensor_key=keys[uuid]) for uuid, part in batch.overlaps]
        )
