"""What a ledger has of the recordings that batches are of, asked for all of them at once.

Most of a batch has come before: its run, its recording and its sensors are as they were. So what
is here is read with a few queries for hundreds of batches, and only what differs is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from carbontrack.ledger.batch import Batch
from carbontrack.ledger.join import Age, age
from carbontrack.ledger.recorded_rows import Recording, Sensor
from carbontrack.ledger.tables import SENSORS
from carbontrack.ledger.transaction import Transaction

_AT_ONCE = 64  # a fixed number, so that the statement is always the same
_SENSORS = ", ".join(f"sensors.{name}" for name in SENSORS.fields)
_said_of = attrgetter(*SENSORS.fields)


@dataclass(slots=True)
class RecordingHere:
    """One that the ledger has; `age` is that of its newest state."""

    key: int
    run_id: str
    project: str | None
    age: Age
    sensors: dict[str, tuple[int, tuple[Any, ...]]] = field(default_factory=dict)
    """By the UUIDs of their devices: their keys, and what the ledger says of them."""

    def has(self, sensor: Sensor) -> bool:
        """Whether a sensor is here as it is said to be."""
        found = self.sensors.get(sensor.uuid)
        return found is not None and found[1] == said_of(sensor)

    def keys(self) -> dict[str, int]:
        """The keys of its sensors by the UUIDs of their devices."""
        return {uuid: key for uuid, (key, _) in self.sensors.items()}


def said_of(sensor: Sensor) -> tuple[Any, ...]:
    """What a recording says of a device."""
    said: tuple[Any, ...] = _said_of(sensor)
    return said


class Here:
    """Of the batches that are taken in one transaction. What is written meanwhile is noted here."""

    def __init__(self, transaction: Transaction, batches: Iterable[Batch]) -> None:
        self._transaction = transaction
        many = list(batches)
        runs = {batch.run.id for batch in many}
        asked = "select run_id, project from tombstones where run_id"
        self.removed: dict[str, str | None] = {
            row["run_id"]: row["project"] for row in _each(transaction, asked, runs)
        }
        self.runs: dict[str, dict[str, Any]] = {}
        self.look_at_runs(runs)
        self.recordings: dict[str, RecordingHere] = {}
        self.look_at_recordings({batch.recording.id for batch in many})

    def look_at_runs(self, ids: Iterable[str]) -> None:
        """Read runs (again)."""
        asked = (
            "select id, key, started_ms, project, cast(model as text) as model from runs where id"
        )
        self.runs |= {row["id"]: row for row in _each(self._transaction, asked, ids)}

    def look_at_recordings(self, ids: Iterable[str]) -> None:
        """Read recordings, with their sensors."""
        asked = (
            "select recordings.id, recordings.key, heartbeat_ms, ended_ms, runs.id as run_id, "
            "project from recordings join runs on runs.key = run_key where recordings.id"
        )
        found = {row["id"]: row for row in _each(self._transaction, asked, ids)}
        for id, row in found.items():
            self.recordings[id] = RecordingHere(
                row["key"],
                row["run_id"],
                row["project"],
                age(row["ended_ms"], row["heartbeat_ms"]),
            )
        self.look_at_sensors(found)

    def look_at_sensors(self, ids: Iterable[str]) -> None:
        """Read the sensors of recordings (again)."""
        of_key = {self.recordings[id].key: self.recordings[id] for id in ids}
        asked = (
            f"select recording_key, sensors.key, uuid, {_SENSORS} from sensors "
            "join devices on devices.key = device_key where recording_key"
        )
        for row in _each(self._transaction, asked, of_key):
            recording_key, key, uuid, *said = row.values()
            of_key[recording_key].sensors[uuid] = key, tuple(said)

    def devices(self, uuids: Iterable[str]) -> dict[str, int]:
        """The keys of devices."""
        found = _each(self._transaction, "select uuid, key from devices where uuid", uuids)
        return {row["uuid"]: row["key"] for row in found}

    def projects(self, run_id: str, recording: Recording) -> Iterator[str | None]:
        """Those that the ledger has, or had, a run in, and the run of a recording if that is
        another one.
        """
        if (remover := self.removed.get(run_id)) is not None:
            yield remover
        if run_id in self.runs:
            yield self.runs[run_id]["project"]
        found = self.recordings.get(recording.id)
        if found is not None and found.run_id != run_id:
            yield found.project


def _each(transaction: Transaction, asked: str, values: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """The rows of a query that ends with the name of a column, where that is one of the values."""
    every: Sequence[Any] = sorted(set(values))
    names = [f"value_{number}" for number in range(_AT_ONCE)]
    statement = f"{asked} in ({', '.join(f':{name}' for name in names)})"
    for at in range(0, len(every), _AT_ONCE):
        part = every[at : at + _AT_ONCE]
        filled = [*part, *[part[-1]] * (_AT_ONCE - len(part))]
        yield from transaction.ask(statement, dict(zip(names, filled, strict=True)))
