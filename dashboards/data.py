"""From the ledger to data frames: what a figure is drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from carbontrack.account.curve import EnergyCurve
from carbontrack.account.intensity import IntensitySeries
from carbontrack.ledger.rows import Event, Run, Sensor, Series, Usage
from carbontrack.units import MS_PER_S

if TYPE_CHECKING:
    from sqlalchemy import Connection

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RunData:
    """One run as frames.

    `power` has a row per device and window, ordered by device and time: device (its index in
    `sensors`), start (UTC), power_w, power_min_w, power_max_w, energy_j, energy_s; a stretch that
    nothing is known of has no row. `steps` has step, time (UTC), loss, lr, grad_norm, tokens,
    tokens_per_s. `intensity` is the grid's over the run's time, where it was imported.
    """

    run: Run
    sensors: tuple[Sensor, ...]
    level_s: int
    power: pd.DataFrame
    steps: pd.DataFrame
    events: tuple[Event, ...]
    hours: tuple[Usage, ...]
    curve: EnergyCurve
    intensity: IntensitySeries | None = None

    def energy_j(self, times: pd.Series[pd.Timestamp]) -> Floats:
        """Energy of all devices from the start until each time."""
        passed_ms = elapsed_s(self.run, times).to_numpy(dtype=np.float64) * MS_PER_S
        known_ms = np.asarray(self.curve.times_ms, dtype=np.float64) - self.run.started_ms
        found: Floats = np.interp(passed_ms, known_ms, self.curve.energies_j)
        return found


def load(
    connection: Connection,
    run: Run,
    *,
    points: int = 1500,
    intensity: IntensitySeries | None = None,
) -> RunData:
    """Read a run, at the finest level that has at most `points` windows a device."""
    from carbontrack.ledger import read

    sensors = tuple(read.sensors(connection, run))
    series = read.series(connection, run, points=points)
    if not series.columns["start_ms"]:  # fine levels may have been dropped
        series = read.series(connection, run, points=1)
    end_ms = run.started_ms + round(end_s(run) * MS_PER_S)
    return RunData(
        run=run,
        sensors=sensors,
        level_s=series.level_s,
        power=_power(series, sensors),
        steps=_steps(connection, run),
        events=tuple(read.events(connection, run)),
        hours=tuple(read.hours(connection, run)),
        curve=EnergyCurve.of(series, from_ms=run.started_ms, to_ms=end_ms),
        intensity=intensity,
    )


def elapsed_s(run: Run, times: pd.Series[pd.Timestamp]) -> pd.Series[float]:
    """Seconds since the run began."""
    return (times - pd.Timestamp(run.started_ms, unit="ms", tz="UTC")).dt.total_seconds()


def end_s(run: Run) -> float:
    """The run's length in seconds; to the last sign of life if the end was not seen."""
    end_ms = run.ended_ms or run.heartbeat_ms or run.started_ms
    return (end_ms - run.started_ms) / MS_PER_S


def _power(series: Series, sensors: tuple[Sensor, ...]) -> pd.DataFrame:
    power = pd.DataFrame(dict(series.columns))
    number = {sensor.device_key: index for index, sensor in enumerate(sensors)}
    power["device"] = power["device_key"].map(number)
    power["start"] = pd.to_datetime(power["start_ms"], unit="ms", utc=True)
    numbers = ["energy_j", "energy_s", "power_min_w", "power_max_w"]
    power[numbers] = power[numbers].astype(float)  # a column of None alone has no type
    power["power_w"] = power["energy_j"] / power["energy_s"].where(power["energy_s"] > 0)
    return power.sort_values(["device", "start"], ignore_index=True)


def _steps(connection: Connection, run: Run) -> pd.DataFrame:
    from carbontrack.ledger import read

    rows = read.steps(connection, run)
    return pd.DataFrame(
        {
            "step": [row.step for row in rows],
            "time": pd.to_datetime([row.time_ms for row in rows], unit="ms", utc=True),
            **{
                name: pd.Series([getattr(row, name) for row in rows], dtype=float)
                for name in ("loss", "lr", "grad_norm", "tokens", "tokens_per_s")
            },
        }
    )
