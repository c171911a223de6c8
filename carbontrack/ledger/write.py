"""Writing a run: every statement is an upsert, so a batch that is sent twice is there once."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from carbontrack.ledger.rows import Event, Node, Run, Sensor, Step, window_of
from carbontrack.ledger.transaction import Transaction, WritableLedger, insert
from carbontrack.ledger.window import LEVELS_S, Pyramid, Window
from carbontrack.units import MS_PER_HOUR
from carbontrack.vocabulary import Status

# What tells their rows apart.
_KEYS = {
    "runs": ("id",),
    "nodes": ("run_key", "host"),
    "devices": ("uuid",),
    "sensors": ("run_key", "device_key"),
    "windows": ("run_key", "level", "device_key", "start_ms"),
    "steps": ("run_key", "step"),
    "events": ("run_key", "time_ms", "seq"),
}
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
            rows = [_sensor_row(self._run_key, self._device_keys[s.uuid], s) for s in sensors]
            _upsert(transaction, "sensors", rows)

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
            rows = [_window_row(key, self._device_keys[uuid], window) for uuid, window in windows]
            _upsert(transaction, "windows", rows)
            last = {step.step: _step_row(key, step) for step in steps}
            _upsert(transaction, "steps", list(last.values()))
            _put_events(transaction, key, events)
            _put_heartbeat(transaction, key, self._host, heartbeat_ms)
            if model:
                _put_model(transaction, key, {**_model(transaction, key), **_plain(model)})

    def rebuild(self, windows: Sequence[tuple[str, Window]]) -> None:
        """Make the minutes and hours of these windows anew from the seconds in the ledger.

        For a batch that comes late: its own coarse rows may be older than those that are there.
        """
        hours = {(uuid, w.start_ms - w.start_ms % MS_PER_HOUR) for uuid, w in windows}
        with self._ledger.begin() as transaction:
            for uuid, hour_ms in sorted(hours):
                run, device = self._run_key, self._device_keys[uuid]
                coarse = _coarse_anew(transaction, run, device, hour_ms)
                _upsert(transaction, "windows", [_window_row(run, device, w) for w in coarse])

    def close(self) -> None:
        """Leave the ledger."""
        self._ledger.close()

    def copy_from(self, older: RunWriter) -> None:
        """Take over what `older` wrote of this run into its file, which may be unlinked by now."""
        device_keys = {old: self._device_keys[uuid] for uuid, old in older._device_keys.items()}
        of_run = {"run_key": older._run_key}
        with older._ledger.begin() as source:
            for table in ("windows", "steps", "events"):
                found = source.ask(f"select * from {table} where run_key = :run_key", of_run)
                while part := list(islice(found, _COPIED_ROWS)):
                    for row in part:
                        row["run_key"] = self._run_key
                        if table == "windows":
                            del row["power_mean_w"]  # each ledger computes it
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


def _upsert(transaction: Transaction, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert, or replace the row of the same key."""
    if rows:
        transaction.write(insert(table, tuple(rows[0]), _KEYS[table], replace=True), rows)


def _insert_once(transaction: Transaction, table: str, row: Mapping[str, Any]) -> None:
    """Insert the row, unless there is one of the same key."""
    transaction.write(insert(table, tuple(row), _KEYS[table], replace=False), [row])


def _put_run(transaction: Transaction, run: Run) -> int:
    row = {
        "id": run.id,
        "name": _plain(run.name),
        "project": _plain(run.project),
        "tags": _json(run.tags),
        "command": _json(run.command),
        "cwd": _plain(run.cwd),
        "user": _plain(run.user),
        "git_commit": run.git_commit,
        "git_dirty": run.git_dirty,
        "started_ms": run.started_ms,
        "ended_ms": run.ended_ms,
        "status": str(run.status),
        "exit_code": run.exit_code,
        "facility": _json(run.facility),
        "model": _json(run.model),
    }
    _insert_once(transaction, "runs", row)
    (found,) = transaction.ask("select key from runs where id = :id", {"id": run.id})
    return int(found["key"])


def _put_device(transaction: Transaction, sensor: Sensor) -> int:
    row = {
        "uuid": sensor.uuid,
        "kind": sensor.kind,
        "name": sensor.name,
        "rated_power_w": sensor.rated_power_w,
        "power_limit_w": sensor.power_limit_w,
        "mig_parent": sensor.mig_parent,
    }
    _insert_once(transaction, "devices", row)
    # A limit may have been changed since an earlier run, a driver may have renamed the device.
    changed = ", ".join(f"{name} = :{name}" for name in row)
    transaction.write(f"update devices set {changed} where uuid = :uuid", [row])
    (found,) = transaction.ask("select key from devices where uuid = :uuid", {"uuid": sensor.uuid})
    return int(found["key"])


def _put_node(transaction: Transaction, run_key: int, node: Node) -> None:
    row = {
        "run_key": run_key,
        "host": node.host,
        "boot_id": node.boot_id,
        "recorder_version": node.recorder_version,
        "settings": _json(node.settings),
        "heartbeat_ms": node.heartbeat_ms,
        "clock_offset_ms": node.clock_offset_ms,
    }
    _insert_once(transaction, "nodes", row)


def _put_heartbeat(transaction: Transaction, run_key: int, host: str, heartbeat_ms: int) -> None:
    """A sign of life; one that arrives late does not turn the clock back."""
    transaction.write(
        "update nodes set heartbeat_ms = :heartbeat_ms "
        "where run_key = :run_key and host = :host and heartbeat_ms < :heartbeat_ms",
        [{"run_key": run_key, "host": host, "heartbeat_ms": heartbeat_ms}],
    )


def _put_events(transaction: Transaction, run_key: int, events: Sequence[Event]) -> None:
    """Number the events of one millisecond on; an event that is there already is left alone."""
    for event in events:
        told = {
            "host": event.host,
            "device_uuid": event.device_uuid,
            "kind": _plain(event.kind),
            "message": _plain(event.message),
            "data": _json(event.data),
        }
        then = {"run_key": run_key, "time_ms": event.time_ms}
        # The database compares: of large numbers in JSON it may give back others than it got.
        same = " and ".join(f"{name} is :{name}" for name in told)
        of_then = "from events where run_key = :run_key and time_ms = :time_ms"
        if (
            next(transaction.ask(f"select seq {of_then} and {same}", {**then, **told}), None)
            is None
        ):
            (last,) = transaction.ask(f"select max(seq) as seq {of_then}", then)
            seq = 0 if last["seq"] is None else last["seq"] + 1
            _upsert(transaction, "events", [{**then, "seq": seq, **told}])


def _model(transaction: Transaction, run_key: int) -> dict[str, Any]:
    asked = "select cast(model as text) as model from runs where key = :key"
    (found,) = transaction.ask(asked, {"key": run_key})
    model: dict[str, Any] = json.loads(found["model"])
    return model


def _put_model(transaction: Transaction, run_key: int, model: Mapping[str, Any]) -> None:
    row = {"key": run_key, "model": _json(model)}
    transaction.write("update runs set model = :model where key = :key", [row])


def _coarse_anew(
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
        pyramid.add(window_of(row))
    return pyramid.take_changed()


def _sensor_row(run_key: int, device_key: int, sensor: Sensor) -> dict[str, Any]:
    return {
        "run_key": run_key,
        "device_key": device_key,
        "host": sensor.host,
        "meter": sensor.meter,
        "quality": sensor.quality,
        "field": sensor.field,
        "scope": sensor.scope,
        "update_period_ms": sensor.update_period_ms,
        "share": sensor.share,
    }


def _window_row(run_key: int, device_key: int, window: Window) -> dict[str, Any]:
    return {
        "run_key": run_key,
        "level": window.level_s,
        "device_key": device_key,
        "start_ms": window.start_ms,
        "energy_j": window.energy_j,
        "energy_s": window.energy_s,
        "sampled_s": window.sampled_s,
        "samples": window.samples,
        "power_min_w": window.power_min_w,
        "power_max_w": window.power_max_w,
        "vitals": window.vitals,
        "util_pct": window.util_pct,
        "memory_max_bytes": window.memory_max_bytes,
        "temperature_max_c": window.temperature_max_c,
        "sm_clock_mhz": window.sm_clock_mhz,
        "throttle": window.throttle,
        "flags": int(window.flags),
    }


def _step_row(run_key: int, step: Step) -> dict[str, Any]:
    """A loss of NaN is NULL, so that sums stay sums; what it was is kept among the extras."""
    values = {
        "loss": step.loss,
        "lr": step.lr,
        "grad_norm": step.grad_norm,
        "tokens_per_s": step.tokens_per_s,
    }
    odd = {k: str(v) for k, v in values.items() if v is not None and not math.isfinite(v)}
    return {
        "run_key": run_key,
        "step": step.step,
        "time_ms": step.time_ms,
        **{name: None if name in odd else value for name, value in values.items()},
        "tokens": step.tokens,
        "extra": _json({**step.extra, **odd}),
    }


def _json(value: Any) -> str:
    return json.dumps(_plain(value))


def _plain(value: Any) -> Any:
    """What both databases hold: they refuse NaN in JSON, NUL in text and half a character."""
    if isinstance(value, str):
        return value.replace("\0", "\N{SYMBOL FOR NULL}").encode(errors="backslashreplace").decode()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {_plain(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
