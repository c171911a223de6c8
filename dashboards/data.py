"""From the ledger to data frames: what a figure is drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from carbontrack.ledger.rows import Event, Run, Sensor
from carbontrack.units import MS_PER_S

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class RunData:
    """One run as frames.

    `power` has a row per device and window, ordered by device and time: device (its index in
    `sensors`), start (UTC), power_w, power_min_w, power_max_w, energy_j, energy_s; a stretch that
    nothing is known of has no row. `steps` has step, time (UTC), loss, lr, grad_norm, tokens,
    tokens_per_s.
    """

    run: Run
    sensors: tuple[Sensor, ...]
    level_s: int
    power: pd.DataFrame
    steps: pd.DataFrame
    events: tuple[Event, ...]


def load(connection: Connection, run: Run, *, points: int = 1500) -> RunData:
    """Read a run, at the finest level that has at most `points` windows a device."""
    from carbontrack.ledger import read

    sensors = tuple(read.sensors(connection, run))
    series = read.series(connection, run, points=points)
    number = {sensor.device_key: index for index, sensor in enumerate(sensors)}
    power = pd.DataFrame(dict(series.columns))
    power["device"] = power["device_key"].map(number)
    power["start"] = pd.to_datetime(power["start_ms"], unit="ms", utc=True)
    numbers = ["energy_j", "energy_s", "power_min_w", "power_max_w"]
    power[numbers] = power[numbers].astype(float)  # a column of None alone has no type
    power["power_w"] = power["energy_j"] / power["energy_s"].where(power["energy_s"] > 0)
    rows = read.steps(connection, run)
    steps = pd.DataFrame(
        {
            "step": [row.step for row in rows],
            "time": pd.to_datetime([row.time_ms for row in rows], unit="ms", utc=True),
            **{
                name: pd.Series([getattr(row, name) for row in rows], dtype=float)
                for name in ("loss", "lr", "grad_norm", "tokens", "tokens_per_s")
            },
        }
    )
    return RunData(
        run=run,
        sensors=sensors,
        level_s=series.level_s,
        power=power.sort_values(["device", "start"], ignore_index=True),
        steps=steps,
        events=tuple(read.events(connection, run)),
    )


def elapsed_s(run: Run, times: pd.Series[pd.Timestamp]) -> pd.Series[float]:
    """Seconds since the run began."""
    return (times - pd.Timestamp(run.started_ms, unit="ms", tz="UTC")).dt.total_seconds()


def end_s(run: Run) -> float:
    """The run's length in seconds; to the last sign of life if the end was not seen."""
    end_ms = run.ended_ms or run.heartbeat_ms or run.started_ms
    return (end_ms - run.started_ms) / MS_PER_S
