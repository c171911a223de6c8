"""Writing a run: every statement is an upsert, so a batch that is sent twice is there once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Engine, Table, Update, bindparam, func, select, update
from sqlalchemy.dialects import sqlite

from carbontrack.ledger import models, pyramid
from carbontrack.ledger.rows import Event, Node, Run, Sensor, Step
from carbontrack.record.window import Window
from carbontrack.units import MS_PER_HOUR

_runs: Table = models.Run.__table__  # type: ignore[assignment]
_nodes: Table = models.Node.__table__  # type: ignore[assignment]
_devices: Table = models.Device.__table__  # type: ignore[assignment]
_sensors: Table = models.Sensor.__table__  # type: ignore[assignment]
_windows: Table = models.Window.__table__  # type: ignore[assignment]
_steps: Table = models.Step.__table__  # type: ignore[assignment]
_events: Table = models.Event.__table__  # type: ignore[assignment]


_COPIED_ROWS = 5_000


class RunWriter:
    """Writes one run from one node. What fails raises SQLAlchemyError and is not written at all."""

    def __init__(self, engine: Engine, run: Run, node: Node, sensors: Sequence[Sensor]) -> None:
        self._engine = engine
        self._host = node.host
        with engine.begin() as connection:
            self._run_key = _put_run(connection, run)
            _put_node(connection, self._run_key, node)
        self.describe(sensors)

    def describe(self, sensors: Sequence[Sensor]) -> None:
        """Write what the run's devices are and how they are read; again when more is known."""
        with self._engine.begin() as connection:
            self._device_keys = {s.uuid: _put_device(connection, s) for s in sensors}
            rows = [_sensor_row(self._run_key, self._device_keys[s.uuid], s) for s in sensors]
            upsert(connection, _sensors, rows)

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
        with self._engine.begin() as connection:
            rows = [_window_row(key, self._device_keys[uuid], window) for uuid, window in windows]
            upsert(connection, _windows, rows)
            upsert(connection, _steps, list({s.step: _step_row(key, s) for s in steps}.values()))
            _put_events(connection, key, events)
            _put_heartbeat(connection, key, self._host, heartbeat_ms)
            if model:
                known = connection.scalar(select(_runs.c.model).where(_runs.c.key == key))
                card = {**(known or {}), **_plain(model)}
                connection.execute(update(_runs).where(_runs.c.key == key).values(model=card))

    def rebuild(self, windows: Sequence[tuple[str, Window]]) -> None:
        """Make the minutes and hours of these windows anew from the seconds in the ledger.

        For a batch that comes late: its own coarse rows may be older than those that are there.
        """
        hours = {(uuid, w.start_ms - w.start_ms % MS_PER_HOUR) for uuid, w in windows}
        with self._engine.begin() as connection:
            for uuid, hour_ms in sorted(hours):
                run, device = self._run_key, self._device_keys[uuid]
                coarse = pyramid.coarse_anew(connection, run, device, hour_ms)
                upsert(connection, _windows, [_window_row(run, device, w) for w in coarse])

    def close(self) -> None:
        """Leave the ledger: its last user moves what was written ahead into the file itself."""
        self._engine.dispose()

    def copy_from(self, older: RunWriter) -> None:
        """Take over what `older` wrote of this run into its file, which may be unlinked by now."""
        device_keys = {old: self._device_keys[uuid] for uuid, old in older._device_keys.items()}
        with older._engine.connect() as source:
            for table in (_windows, _steps, _events):
                columns = [column for column in table.c if column.computed is None]
                query = select(*columns).where(table.c.run_key == older._run_key)
                found = source.execute(query, execution_options={"yield_per": _COPIED_ROWS})
                for part in found.mappings().partitions():
                    rows = [dict(row, run_key=self._run_key) for row in part]
                    if table is _windows:
                        rows = [
                            row | {"device_key": device_keys[row["device_key"]]} for row in rows
                        ]
                    with self._engine.begin() as connection:
                        upsert(connection, table, rows)
            of_run = select(_runs.c.model).where(_runs.c.key == older._run_key)
            model = source.scalar(of_run)
        with self._engine.begin() as connection:
            ours = update(_runs).where(_runs.c.key == self._run_key)
            connection.execute(ours.values(model=model or {}))

    def finish(self, *, status: str, exit_code: int | None, ended_ms: int) -> None:
        """Write how the run ended."""
        with self._engine.begin() as connection:
            connection.execute(
                update(_runs)
                .where(_runs.c.key == self._run_key)
                .values(status=status, exit_code=exit_code, ended_ms=ended_ms)
            )


def _put_run(connection: Connection, run: Run) -> int:
    row = {
        "id": run.id,
        "name": _plain(run.name),
        "project": _plain(run.project),
        "tags": _plain(run.tags),
        "command": _plain(run.command),
        "cwd": _plain(run.cwd),
        "user": _plain(run.user),
        "git_commit": run.git_commit,
        "git_dirty": run.git_dirty,
        "started_ms": run.started_ms,
        "ended_ms": run.ended_ms,
        "status": run.status,
        "exit_code": run.exit_code,
        "facility": _plain(run.facility),
        "model": _plain(run.model),
    }
    return _insert_once(connection, _runs, row, "id")


def _put_device(connection: Connection, sensor: Sensor) -> int:
    row = {
        "uuid": sensor.uuid,
        "kind": sensor.kind,
        "name": sensor.name,
        "rated_power_w": sensor.rated_power_w,
        "power_limit_w": sensor.power_limit_w,
        "mig_parent": sensor.mig_parent,
    }
    key = _insert_once(connection, _devices, row, "uuid")
    # A limit may have been changed since an earlier run, a driver may have renamed the device.
    connection.execute(update(_devices).where(_devices.c.key == key).values(row))
    return key


def _insert_once(connection: Connection, table: Table, row: dict[str, Any], unique: str) -> int:
    """The key of the row with this unique value, inserted if it is new."""
    statement = _insert(connection.dialect.name, table)
    connection.execute(statement.on_conflict_do_nothing(index_elements=[unique]), [row])
    key = connection.scalar(select(table.c.key).where(table.c[unique] == row[unique]))
    assert key is not None
    return int(key)


def upsert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert, or replace the row of the same primary key."""
    if rows:
        connection.execute(_upsert(connection.dialect.name, table, tuple(rows[0])), list(rows))


@cache  # to build it takes as long as to run it, and a recorder runs it every other second
def _upsert(dialect: str, table: Table, names: Sequence[str]) -> sqlite.Insert:
    keys = [column.name for column in table.primary_key]
    statement = _insert(dialect, table)
    values = {name: statement.excluded[name] for name in names if name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=values)


def _insert(dialect: str, table: Table) -> sqlite.Insert:
    """Both dialects' INSERT … ON CONFLICT, which have one shape and no common type."""
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)  # type: ignore[return-value]
    return sqlite.insert(table)


def _put_node(connection: Connection, run_key: int, node: Node) -> None:
    row = {
        "run_key": run_key,
        "host": node.host,
        "boot_id": node.boot_id,
        "recorder_version": node.recorder_version,
        "settings": _plain(node.settings),
        "heartbeat_ms": node.heartbeat_ms,
        "clock_offset_ms": node.clock_offset_ms,
    }
    statement = _insert(connection.dialect.name, _nodes).on_conflict_do_nothing()
    connection.execute(statement, [row])


def _put_heartbeat(connection: Connection, run_key: int, host: str, heartbeat_ms: int) -> None:
    """A sign of life; one that arrives late does not turn the clock back."""
    connection.execute(_beat(), {"of_run": run_key, "on_host": host, "now_ms": heartbeat_ms})


@cache
def _beat() -> Update:
    now_ms = bindparam("now_ms", type_=_nodes.c.heartbeat_ms.type)
    of_node = (_nodes.c.run_key == bindparam("of_run")) & (_nodes.c.host == bindparam("on_host"))
    older = of_node & (_nodes.c.heartbeat_ms < now_ms)
    return update(_nodes).where(older).values(heartbeat_ms=now_ms)


def _put_events(connection: Connection, run_key: int, events: Sequence[Event]) -> None:
    """Number the events of one millisecond on; an event that is there already is left alone."""
    for event in events:
        told = {
            "host": event.host,
            "device_uuid": event.device_uuid,
            "kind": _plain(event.kind),
            "message": _plain(event.message),
            "data": _plain(event.data),
        }
        then = (_events.c.run_key == run_key) & (_events.c.time_ms == event.time_ms)
        # The database compares: of large numbers in JSON it may give back others than it got.
        same = [_events.c[name].is_not_distinct_from(value) for name, value in told.items()]
        if connection.scalar(select(_events.c.seq).where(then, *same)) is None:
            last = connection.scalar(select(func.max(_events.c.seq)).where(then))
            seq = 0 if last is None else last + 1
            row = {"run_key": run_key, "time_ms": event.time_ms, "seq": seq, **told}
            connection.execute(_events.insert(), [row])


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
        "extra": _plain({**step.extra, **odd}),
    }


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
