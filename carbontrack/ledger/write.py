"""Writing a run: every statement is an upsert, so a batch that is sent twice is there once."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from carbontrack.ledger.rows import Event, Node, Run, Sensor, Step
from carbontrack.ledger.tables import (
    DEVICES,
    EVENTS,
    NODES,
    RUNS,
    SENSORS,
    STEPS,
    WINDOWS,
    Table,
    plain,
)
from carbontrack.ledger.transaction import Transaction, WritableLedger
from carbontrack.ledger.window import LEVELS_S, Pyramid, Window
from carbontrack.units import MS_PER_HOUR
from carbontrack.vocabulary import Status

_COPIED_ROWS = 5_000


class RunWriter:
    """Writes one run from one node. What fails raises the database's error, or SQLAlchemy's, and is
    not written at all.
    """

    def __init__(
        self, ledger: WritableLedger, run: Run, node: Node, sensors: Sequence[Sensor]
    ) -> None:
        self._ledger = ledger
        self._host = node.host
        with ledger.begin() as transaction:
            self._run_key = _put_run(transaction, run)
            _put_node(transaction, self._run_key, node)
        self.describe(sensors)

    def describe(self, sensors: Sequence[Sensor]) -> None:
        """Write what the run's devices are and how they are read; again when more is known."""
        with self._ledger.begin() as transaction:
            self._device_keys = {s.uuid: _put_device(transaction, s) for s in sensors}
            keys = self._device_keys
            rows = [
                SENSORS.written(s, run_key=self._run_key, device_key=keys[s.uuid]) for s in sensors
            ]
            _upsert(transaction, SENSORS, rows)

    def commit(
        self,
        *,
        windows: Sequence[tuple[str, Window]] = (),
        steps: Sequence[Step] = (),
        events: Sequence[Event] = (),
        heartbeat_ms: int,
        model: Mapping[str, Any] | None = None,
    ) -> None:
        """Write a batch in one transaction. `windows` are (device UUID, window) of any level."""
        key = self._run_key
        with self._ledger.begin() as transaction:
            _upsert(transaction, WINDOWS, [self._window_row(uuid, w) for uuid, w in windows])
            last = {step.step: STEPS.written(_numbers(step), run_key=key) for step in steps}
            _upsert(transaction, STEPS, list(last.values()))
            _put_events(transaction, key, events)
            _put_heartbeat(transaction, key, self._host, heartbeat_ms)
            if model:
                _put_model(transaction, key, {**_model(transaction, key), **plain(model)})

    def rebuild(self, windows: Sequence[tuple[str, Window]]) -> None:
        """Compute the minutes and hours of these windows again from the seconds in the ledger.

        For a batch that comes late: its own coarse rows may be older than those that are there.
        """
        hours = {(uuid, w.start_ms - w.start_ms % MS_PER_HOUR) for uuid, w in windows}
        with self._ledger.begin() as transaction:
            for uuid, hour_ms in sorted(hours):
                run, device = self._run_key, self._device_keys[uuid]
                coarse = _coarse_of_hour(transaction, run, device, hour_ms)
                _upsert(transaction, WINDOWS, [self._window_row(uuid, w) for w in coarse])

    def _window_row(self, uuid: str, window: Window) -> dict[str, Any]:
        return WINDOWS.written(window, run_key=self._run_key, device_key=self._device_keys[uuid])

    def drop_finer(self, level_s: int) -> None:
        """Remove the run's windows that are shorter than these, as `db compact` would."""
        with self._ledger.begin() as transaction:
            transaction.write(
                "delete from windows where run_key = :run_key and level < :level",
                [{"run_key": self._run_key, "level": level_s}],
            )

    def close(self) -> None:
        """Leave the ledger."""
        self._ledger.close()

    def copy_from(self, older: RunWriter) -> None:
        """Take over what `older` wrote of this run into its file, which may be unlinked by now."""
        device_keys = {old: self._device_keys[uuid] for uuid, old in older._device_keys.items()}
        of_run = {"run_key": older._run_key}
        with older._ledger.begin() as source:
            for table in (WINDOWS, STEPS, EVENTS):
                columns = ", ".join(table.columns)
                asked = f"select {columns} from {table.name} where run_key = :run_key"
                found = source.ask(asked, of_run)
                while part := list(islice(found, _COPIED_ROWS)):
                    for row in part:
                        row["run_key"] = self._run_key
                        if "device_key" in row:
                            row["device_key"] = device_keys[row["device_key"]]
                    with self._ledger.begin() as transaction:
                        _upsert(transaction, table, part)
            model = _model(source, older._run_key)
        with self._ledger.begin() as transaction:
            _put_model(transaction, self._run_key, model)

    def finish(self, *, status: Status, exit_code: int | None, ended_ms: int) -> None:
        """Write how the run ended."""
        ended = {
            "key": self._run_key,
            "status": str(status),
            "exit_code": exit_code,
            "ended_ms": ended_ms,
        }
        with self._ledger.begin() as transaction:
            transaction.write(
                "update runs set status = :status, exit_code = :exit_code, ended_ms = :ended_ms "
                "where key = :key",
                [ended],
            )


def _upsert(transaction: Transaction, table: Table[Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert, or replace the row of the same key."""
    if rows:
        transaction.write(table.upsert, rows)


def _insert_once(transaction: Transaction, table: Table[Any], row: Mapping[str, Any]) -> None:
    """Insert the row, unless there is one of the same key."""
    transaction.write(table.insert_once, [row])


def _put_run(transaction: Transaction, run: Run) -> int:
    _insert_once(transaction, RUNS, RUNS.written(run))
    (found,) = transaction.ask("select key from runs where id = :id", {"id": run.id})
    return int(found["key"])


def _put_device(transaction: Transaction, sensor: Sensor) -> int:
    row = DEVICES.written(sensor)
    _insert_once(transaction, DEVICES, row)
    # A limit may have been changed since an earlier run, a driver may have renamed the device.
    changed = ", ".join(f"{name} = :{name}" for name in row)
    transaction.write(f"update devices set {changed} where uuid = :uuid", [row])
    (found,) = transaction.ask("select key from devices where uuid = :uuid", {"uuid": row["uuid"]})
    return int(found["key"])


def _put_node(transaction: Transaction, run_key: int, node: Node) -> None:
    _insert_once(transaction, NODES, NODES.written(node, run_key=run_key))


def _put_heartbeat(transaction: Transaction, run_key: int, host: str, heartbeat_ms: int) -> None:
    """A heartbeat; one that arrives late does not turn the clock back."""
    transaction.write(
        "update nodes set heartbeat_ms = :heartbeat_ms "
        "where run_key = :run_key and host = :host and heartbeat_ms < :heartbeat_ms",
        [{"run_key": run_key, "host": host, "heartbeat_ms": heartbeat_ms}],
    )


def _put_events(transaction: Transaction, run_key: int, events: Sequence[Event]) -> None:
    """Number the events of one millisecond on; an event that is there already is left alone."""
    # The database compares: of large numbers in JSON it may give back others than it got.
    same = " and ".join(f"{name} is :{name}" for name in EVENTS.fields if name != "time_ms")
    of_then = "from events where run_key = :run_key and time_ms = :time_ms"
    for event in events:
        row = EVENTS.written(event, run_key=run_key)
        if next(transaction.ask(f"select seq {of_then} and {same}", row), None) is None:
            (last,) = transaction.ask(f"select max(seq) as seq {of_then}", row)
            seq = 0 if last["seq"] is None else last["seq"] + 1
            _upsert(transaction, EVENTS, [{**row, "seq": seq}])


def _model(transaction: Transaction, run_key: int) -> dict[str, Any]:
    asked = "select cast(model as text) as model from runs where key = :key"
    (found,) = transaction.ask(asked, {"key": run_key})
    model: dict[str, Any] = json.loads(found["model"])
    return model


def _put_model(transaction: Transaction, run_key: int, model: Mapping[str, Any]) -> None:
    row = {"key": run_key, "model": json.dumps(plain(model))}
    transaction.write("update runs set model = :model where key = :key", [row])


def _coarse_of_hour(
    transaction: Transaction, run_key: int, device_key: int, hour_ms: int
) -> list[Window]:
    """The minutes and the hour that the seconds of this hour in the ledger add up to."""
    pyramid = Pyramid()
    of_hour = {
        "run_key": run_key,
        "level": LEVELS_S[0],
        "device_key": device_key,
        "from_ms": hour_ms,
        "to_ms": hour_ms + MS_PER_HOUR,
    }
    seconds = transaction.ask(
        "select * from windows where run_key = :run_key and level = :level "
        "and device_key = :device_key and start_ms >= :from_ms and start_ms < :to_ms "
        "order by start_ms",
        of_hour,
    )
    for row in seconds:
        pyramid.add(WINDOWS.read(row))
    return pyramid.take_changed()


def _numbers(step: Step) -> Step:
    """A loss of NaN is NULL, so that sums stay sums; what it was is among the extras."""
    values = {name: getattr(step, name) for name in ("loss", "lr", "grad_norm", "tokens_per_s")}
    odd = {name for name, v in values.items() if v is not None and not math.isfinite(v)}
    if not odd:
        return step
    extra = {**step.extra, **{name: str(values[name]) for name in odd}}
    unknown: dict[str, Any] = dict.fromkeys(odd)
    return replace(step, **unknown, extra=extra)
