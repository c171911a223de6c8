"""The tables that a recorder writes. Apart from the others, as their rows are."""

from __future__ import annotations

from carbontrack.ledger.recorded_rows import Event, Recording, Run, Sensor, Step
from carbontrack.ledger.table import Table, names_of
from carbontrack.ledger.window import Flag, Window
from carbontrack.vocabulary import RunKind, Status

RUNS = Table(
    "runs",
    Run,
    key=("id",),
    fields=names_of(
        Run,
        without=(
            *("ended_ms", "status", "exit_code", "heartbeat_ms", "heard_ms"),
            *("amended", "clocks", "key"),
        ),
    ),
    json=frozenset({"tags", "command", "facility", "model"}),
    read_as={"kind": RunKind, "command": tuple},
    serial="key",
    booleans=frozenset({"git_dirty"}),
)
RECORDINGS = Table(
    "recordings",
    Recording,
    key=("id",),
    fields=names_of(Recording, without=("key", "heard_ms", "shifts", "set_ms")),
    placed=("run_key",),
    json=frozenset({"settings"}),
    read_as={"status": Status},
    serial="key",
)
_OF_DEVICE = ("uuid", "kind", "name", "mig_parent")
DEVICES = Table("devices", Sensor, key=("uuid",), fields=_OF_DEVICE, serial="key")
SENSORS = Table(
    "sensors",
    Sensor,
    key=("recording_key", "device_key"),
    fields=names_of(Sensor, without=(*_OF_DEVICE, "device_key", "spans_ms")),
    placed=("recording_key", "device_key"),
    serial="key",
)
WINDOWS = Table(
    "windows",
    Window,
    key=("recording_key", "level", "start_ms", "sensor_key"),
    fields=names_of(Window),
    placed=("recording_key", "sensor_key"),
    column_of={"level_s": "level"},
    read_as={"flags": Flag},
    computed=("power_mean_w",),
)
STEPS = Table(
    "steps",
    Step,
    key=("recording_key", "restart", "step"),
    fields=names_of(Step),
    placed=("recording_key",),
    json=frozenset({"extra"}),
)
EVENTS = Table(
    "events",
    Event,
    key=("recording_key", "number"),
    fields=names_of(Event),
    placed=("recording_key", "number"),
    json=frozenset({"data"}),
)
