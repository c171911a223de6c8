"""Writing a run: every statement is an upsert, so a batch that is sent twice is there once.

What only imports, journals and the tidying of an hour need is imported there: a short job does not
wait for it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from carbontrack.errors import CarbontrackError
from carbontrack.ledger import late_minutes
from carbontrack.ledger.recorded_rows import Event, Recording, Run, Sensor, Step
from carbontrack.ledger.recorded_tables import (
    DEVICES,
    EVENTS,
    RECORDINGS,
    RUNS,
    SENSORS,
    STEPS,
    WINDOWS,
)
from carbontrack.ledger.sql import BOARD_KEY
from carbontrack.ledger.table import plain
from carbontrack.ledger.transaction import Transaction, WritableLedger
from carbontrack.ledger.window import LEVELS_S, Window
from carbontrack.units import MS_PER_DAY, MS_PER_HOUR, MS_PER_S
from carbontrack.vocabulary import Status

if TYPE_CHECKING:
    from carbontrack.ledger.rows import Import, Stated

_COPIED_ROWS = 5_000
_MINUTE_MS = LEVELS_S[1] * MS_PER_S
# Of a step that several ranks log, the lowest rank's counts.
UPSERT_STEP = (
    f"{STEPS.upsert} where excluded.rank is null or steps.rank is null "
    "or excluded.rank <= steps.rank"
)


class RunRemoved(CarbontrackError):
    """The run was removed from this ledger, and nothing of it comes back."""


class RunWriter:
    """Writes one recording of a run. What fails raises the database's error, or SQLAlchemy's, and
    is not written at all; RunRemoved if the run was removed, before or meanwhile.
    """

    def __init__(
        self, ledger: WritableLedger, run: Run, recording: Recording, sensors: Sequence[Sensor]
    ) -> None:
        self._ledger = ledger
        self._run = run
        self._recording = recording
        with ledger.begin() as transaction:
            _refuse_removed(transaction, run)
            self._run_key = put_run(transaction, run)
            self._key = put_recording(transaction, self._run_key, recording)
        self.describe(sensors)

    @property
    def key(self) -> int:
        """The recording's, inside this ledger."""
        return self._key

    def describe(self, sensors: Sequence[Sensor]) -> None:
        """Write what the devices are and how they are read; again when more is known."""
        with self._ledger.begin() as transaction:
            device_keys = {s.uuid: _put_device(transaction, s) for s in sensors}
            rows = [
                SENSORS.written(s, recording_key=self._key, device_key=device_keys[s.uuid])
                for s in sensors
            ]
            transaction.write(SENSORS.upsert, rows)
            key_of = sensor_keys(transaction, self._key)
        self._sensor_keys = {uuid: key_of[device] for uuid, device in device_keys.items()}

    def commit(
        self,
        *,
        windows: Sequence[tuple[str, Window]] = (),
        steps: Sequence[Step] = (),
        events: Sequence[tuple[int, Event]] = (),
        heartbeat_ms: int,
        model: Mapping[str, Any] | None = None,
    ) -> None:
        """Write a batch in one transaction. `windows` are (device UUID, window) of any level,
        `events` have the numbers that they always have in this recording.
        """
        key = self._key
        with self._ledger.begin() as transaction:
            self._refuse_another(transaction)
            late_minutes.note(transaction, key, self._late(transaction, windows))
            transaction.put(WINDOWS, [self._window_row(uuid, w) for uuid, w in windows])
            rows = [STEPS.written(finite(step), recording_key=key) for step in steps]
            transaction.write(UPSERT_STEP, rows)
            numbered = [EVENTS.written(e, recording_key=key, number=n) for n, e in events]
            transaction.write(EVENTS.upsert, numbered)
            _put_heartbeat(transaction, key, heartbeat_ms)
            if model:
                unite_model(transaction, self._run_key, model)

    def _late(
        self, transaction: Transaction, windows: Sequence[tuple[str, Window]]
    ) -> set[tuple[int, int]]:
        """The minutes before the recording's heartbeat in which there are seconds of these, by the
        sensor: the coarser windows have changed with them.
        """
        asked = "select heartbeat_ms from recordings where key = :key"
        (found,) = transaction.ask(asked, {"key": self._key})
        open_ms = found["heartbeat_ms"] // _MINUTE_MS * _MINUTE_MS
        return {
            (self._sensor_keys[uuid], window.start_ms // _MINUTE_MS * _MINUTE_MS)
            for uuid, window in windows
            if window.start_ms < open_ms and window.level_s == LEVELS_S[0]
        }

    def _refuse_another(self, transaction: Transaction) -> None:
        """Our key may be another recording's by now: SQLite gives those of deleted rows again."""
        _refuse_removed(transaction, self._run)
        asked = "select id from recordings where key = :key"
        found = next(transaction.ask(asked, {"key": self._key}), None)
        if found is None or found["id"] != self._recording.id:
            raise RunRemoved(f"Recording {self._recording.id} is not in the ledger any more.")

    def state(self, rows: Sequence[Stated]) -> None:
        """Write what was entered by hand of the run."""
        from carbontrack.ledger.tables import STATED

        with self._ledger.begin() as transaction:
            written = [STATED.written(row, run_key=self._run_key) for row in rows]
            transaction.write(STATED.upsert, written)

    def imported(self, source: Import) -> None:
        """Write which file the run was made of."""
        from carbontrack.ledger.tables import IMPORTS

        with self._ledger.begin() as transaction:
            transaction.write(IMPORTS.upsert, [IMPORTS.written(source, run_key=self._run_key)])

    def add_late(self, seconds: Sequence[tuple[str, Window]]) -> None:
        """Write seconds that come after newer ones, perhaps again, and compute their minutes and
        hours. Of an hour whose seconds were dropped, all of them or none are taken.
        """
        from carbontrack.ledger import backlog, kept_overlaps
        from carbontrack.ledger.join import is_better
        from carbontrack.ledger.settle import has_windows, settle

        hours: dict[tuple[str, int], None] = {
            (uuid, w.start_ms - w.start_ms % MS_PER_HOUR): None for uuid, w in seconds
        }
        keys = [(self._key, self._sensor_keys[uuid], hour_ms) for uuid, hour_ms in hours]
        with self._ledger.begin() as transaction:
            partly = [has_windows(transaction, *hour, LEVELS_S[0]) for hour in keys]
            rows = [self._window_row(uuid, window) for uuid, window in seconds]
            transaction.put_better(rows, is_better)
            for hour, more_may_come in zip(keys, partly, strict=True):
                settle(transaction, *hour, more_may_come=more_may_come)
                kept_overlaps.forget(transaction, *hour[1:])  # it was decided without them
            backlog.ship_again(transaction, [self._recording.id])

    def keep_overlaps(self) -> None:
        """Write which of the recording's time others recorded, too, as far as it is over."""
        from carbontrack.ledger import kept_overlaps

        kept_overlaps.keep(self._ledger, [self._key])

    def shares_devices(self) -> bool:
        """Once it has ended: whether another recording had one of its boards at the same time, or,
        with an end that was not seen, in the day before.
        """
        asked = (
            "select others.key from recordings ours, recordings others "
            "join sensors on sensors.recording_key = others.key "
            "join devices on devices.key = sensors.device_key "
            "where ours.key = :key and others.key <> ours.key "
            "and others.started_ms <= ours.ended_ms "
            "and (others.ended_ms >= ours.started_ms "
            "or others.ended_ms is null and others.heartbeat_ms >= ours.started_ms - :day_ms) "
            f"and {BOARD_KEY} in (select {BOARD_KEY} from devices where key in "
            "(select device_key from sensors where recording_key = :key)) limit 1"
        )
        values = {"key": self._key, "day_ms": MS_PER_DAY}
        with self._ledger.reading() as transaction:
            return next(transaction.ask(asked, values), None) is not None

    def _window_row(self, uuid: str, window: Window) -> tuple[Any, ...]:
        return WINDOWS.in_order(window, self._key, self._sensor_keys[uuid])

    def drop_finer(self, level_s: int) -> None:
        """Remove the recording's windows that are shorter than these, as `db compact` would."""
        with self._ledger.begin() as transaction:
            finer = [level for level in LEVELS_S if level < level_s]
            transaction.remove_windows(self._key, finer)

    def close(self) -> None:
        """Leave the ledger."""
        self._ledger.close()

    def copy_from(self, older: RunWriter) -> None:
        """Take over what `older` wrote of this recording into its file, which may be unlinked by
        now.
        """
        sensor_keys = {old: self._sensor_keys[uuid] for uuid, old in older._sensor_keys.items()}
        recorded = {"key": older._key}
        with older._ledger.begin() as source:
            for table in (WINDOWS, STEPS, EVENTS):
                columns = ", ".join(table.columns)
                asked = f"select {columns} from {table.name} where recording_key = :key"
                found = source.ask(asked, recorded)
                while part := list(islice(found, _COPIED_ROWS)):
                    for row in part:
                        row["recording_key"] = self._key
                        if "sensor_key" in row:
                            row["sensor_key"] = sensor_keys[row["sensor_key"]]
                    with self._ledger.begin() as transaction:
                        if table is WINDOWS:
                            transaction.put(table, [tuple(row.values()) for row in part])
                        else:
                            transaction.write(table.upsert, part)
            model = _model(source, older._run_key)
        with self._ledger.begin() as transaction:
            _put_model(transaction, self._run_key, model)

    def finish(self, *, status: Status, exit_code: int | None, ended_ms: int) -> None:
        """Write how the recording ended."""
        ended = {
            "key": self._key,
            "status": str(status),
            "exit_code": exit_code,
            "ended_ms": ended_ms,
        }
        with self._ledger.begin() as transaction:
            transaction.write(
                "update recordings set status = :status, exit_code = :exit_code, "
                "ended_ms = :ended_ms where key = :key",
                [ended],
            )


def is_removed(transaction: Transaction, run: Run) -> bool:
    """Whether a run was removed from this ledger."""
    asked = "select time_ms from tombstones where run_id = :id"
    return next(transaction.ask(asked, {"id": run.id}), None) is not None


def _refuse_removed(transaction: Transaction, run: Run) -> None:
    if is_removed(transaction, run):
        raise RunRemoved(f"Run {run.name} ({run.id}) was removed from this ledger.")


def put_run(transaction: Transaction, run: Run) -> int:
    """The first of a run's recordings to start says what the run is, whichever is written first."""
    row = RUNS.written(run)
    earlier = transaction.ask("select key, started_ms from runs where id = :id", {"id": run.id})
    found = next(earlier, None)
    if found is None:
        transaction.write(RUNS.insert_once, [row])
    elif run.started_ms < found["started_ms"]:
        said = (name for name in row if name not in ("id", "model"))
        changed = ", ".join(f'"{name}" = :{name}' for name in said)
        transaction.write(f"update runs set {changed} where id = :id", [row])
    (found,) = transaction.ask("select key from runs where id = :id", {"id": run.id})
    return int(found["key"])


def put_recording(transaction: Transaction, run_key: int, recording: Recording) -> int:
    """The key of a recording, which is written if it is not there."""
    row = RECORDINGS.written(recording, run_key=run_key)
    transaction.write(RECORDINGS.insert_once, [row])
    (found,) = transaction.ask("select key from recordings where id = :id", {"id": recording.id})
    return int(found["key"])


def _put_device(transaction: Transaction, sensor: Sensor) -> int:
    row = DEVICES.written(sensor)
    transaction.write(DEVICES.insert_once, [row])
    changed = ", ".join(f"{name} = :{name}" for name in row)  # a driver may have renamed it
    transaction.write(f"update devices set {changed} where uuid = :uuid", [row])
    return device_key(transaction, sensor)


def device_key(transaction: Transaction, sensor: Sensor) -> int:
    """The key of a device that is there."""
    uuid = {"uuid": plain(sensor.uuid)}
    (found,) = transaction.ask("select key from devices where uuid = :uuid", uuid)
    return int(found["key"])


def sensor_keys(transaction: Transaction, recording_key: int) -> dict[int, int]:
    """By the key of the device, those of a recording's sensors."""
    asked = "select device_key, key from sensors where recording_key = :key"
    found = transaction.ask(asked, {"key": recording_key})
    return {row["device_key"]: row["key"] for row in found}


def _put_heartbeat(transaction: Transaction, key: int, heartbeat_ms: int) -> None:
    """A heartbeat; one that arrives late does not turn the clock back."""
    transaction.write(
        "update recordings set heartbeat_ms = :heartbeat_ms "
        "where key = :key and heartbeat_ms < :heartbeat_ms",
        [{"key": key, "heartbeat_ms": heartbeat_ms}],
    )


def unite_model(transaction: Transaction, run_key: int, model: Mapping[str, Any]) -> None:
    """Add to a run's model card, or replace in it."""
    _put_model(transaction, run_key, {**_model(transaction, run_key), **plain(model)})


def _model(transaction: Transaction, run_key: int) -> dict[str, Any]:
    asked = "select cast(model as text) as model from runs where key = :key"
    (found,) = transaction.ask(asked, {"key": run_key})
    model: dict[str, Any] = json.loads(found["model"])
    return model


def _put_model(transaction: Transaction, run_key: int, model: Mapping[str, Any]) -> None:
    row = {"key": run_key, "model": json.dumps(plain(model))}
    transaction.write("update runs set model = :model where key = :key", [row])


def finite(step: Step) -> Step:
    """A loss of NaN is NULL, so that sums stay sums; what it was is among the extras."""
    values = {name: getattr(step, name) for name in ("loss", "lr", "grad_norm", "tokens_per_s")}
    odd = {name for name, v in values.items() if v is not None and not math.isfinite(v)}
    if not odd:
        return step
    extra = {**step.extra, **{name: str(values[name]) for name in odd}}
    unknown: dict[str, Any] = dict.fromkeys(odd)
    return replace(step, **unknown, extra=extra)
