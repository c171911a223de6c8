"""A run as data frames: what a figure is drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from carbontrack import config
from carbontrack.account import over_time
from carbontrack.account.curve import EnergyCurve
from carbontrack.account.over_time import SpentCurve
from carbontrack.account.result import Estimate
from carbontrack.ledger.recorded_rows import Event, Run, Sensor
from carbontrack.ledger.rows import Coarser
from carbontrack.query import price, project
from carbontrack.query.phases import Phases, phases_of
from carbontrack.units import G_PER_KG, KG_PER_T, MS_PER_S
from carbontrack.vocabulary import EventKind, Method

if TYPE_CHECKING:
    from carbontrack.ledger.imported import Connection

WH_PER_KWH = 1000.0
_PHASE_ROWS = 200_000  # windows that are read in less than a second


@dataclass(frozen=True)  # without slots, for what is computed once
class RunData:
    """One run as frames, with its estimate.

    `power` has a row per device and window, ordered by device and time: device (its index in
    `sensors`), start (UTC), power_w, power_min_w, power_max_w, energy_j, energy_s; a stretch that
    nothing is known of has no row. `steps` has a row per step, or per several of them in a row
    where there are more than a picture can show: step, time (UTC, of the last), steps (how many),
    loss (mean), loss_min, loss_max, not_finite (how many losses are not numbers), tokens (sum),
    tokens_per_s; NaN where none was logged, or none that is finite.
    """

    run: Run
    sensors: tuple[Sensor, ...]
    level_s: int
    power: pd.DataFrame
    steps: pd.DataFrame
    events: tuple[Event, ...]
    kwh_by_hour: Mapping[int, float]  # of all devices, where known
    curve: EnergyCurve
    estimate: Estimate
    phases: Phases = field(default_factory=Phases)
    coarser: tuple[Coarser, ...] = ()  # when `power` is longer windows, spread over their time

    @property
    def facility_factor(self) -> float:
        """Facility energy ÷ energy of the devices: PUE, and what is modelled of the node; 1 without
        factors.
        """
        return over_time.facility_factor(self.estimate)

    @property
    def has_power(self) -> bool:
        return bool(self.power["power_w"].notna().any())

    @property
    def has_losses(self) -> bool:
        return bool(self.steps["loss"].notna().any())

    @cached_property
    def spent(self) -> SpentCurve:
        """What the run has spent until each moment."""
        return SpentCurve.of(self.run, self.estimate, self.kwh_by_hour, self.curve)

    @property
    def losses(self) -> pd.DataFrame:
        """The rows of `steps` with a loss; NaN where it is not a number."""
        return self.steps[self.steps["loss"].notna() | (self.steps["not_finite"] > 0)]


def open_run(reference: str = "last", *, db: str | None = None, **factors: Any) -> RunData:
    """A run by id, prefix, name or `last`, for a notebook. `factors` are the options of `plot`:
    pue, intensity, zone, …

    Raises CarbontrackError where `carbontrack plot` would.
    """
    from carbontrack.ledger import engine, read
    from carbontrack.ledger.url import ledger_url

    with engine.open_reader(ledger_url(db)).connect() as connection:
        return load(connection, read.resolve_run(connection, reference), config.flags(**factors))


def load(connection: Connection, run: Run, flags: config.Layer, *, points: int = 1500) -> RunData:
    """Read a run with at most `points` windows a device, and as many points of its steps."""
    from carbontrack.ledger import read
    from carbontrack.ledger.held import Held

    held = Held(connection, [run])
    record = price.summed_record_of(held, run)
    (estimate,) = price.estimates_of(held, record, flags, [Method.MEASURED])
    sensors = tuple(record.sensors)
    level_s, power, coarser = _power(connection, run, sensors, points)
    return RunData(
        run=run,
        sensors=sensors,
        level_s=level_s,
        power=power,
        steps=_steps(connection, run, points),
        events=tuple(read.events(connection, run)),
        kwh_by_hour=dict(record.by_hour() if record.by_hour else {}),
        curve=project.curve(connection, run),
        estimate=estimate,
        phases=phases_of(held, run, most_rows=_PHASE_ROWS),
        coarser=coarser,
    )


def _power(
    connection: Connection, run: Run, sensors: tuple[Sensor, ...], points: int
) -> tuple[int, pd.DataFrame, tuple[Coarser, ...]]:
    from carbontrack.ledger import read

    series = read.series(connection, run, points=points)
    number = {sensor.device_key: index for index, sensor in enumerate(sensors)}
    power = pd.DataFrame(dict(series.columns))
    power["device"] = power["device_key"].map(number)
    power["start"] = pd.to_datetime(power["start_ms"], unit="ms", utc=True)
    numbers = ["energy_j", "energy_s", "power_min_w", "power_max_w"]
    power[numbers] = power[numbers].astype(float)  # a column of None alone has no type
    power["power_w"] = power["energy_j"] / power["energy_s"].where(power["energy_s"] > 0)
    power = power.sort_values(["device", "start"], ignore_index=True)
    return series.level_s, power, series.coarser


def _steps(connection: Connection, run: Run, points: int) -> pd.DataFrame:
    from carbontrack.ledger import read

    rows = read.step_means(connection, run, points=points)
    numbers = ("loss", "loss_min", "loss_max", "tokens", "tokens_per_s")
    return pd.DataFrame(
        {
            "step": [row.step for row in rows],
            "time": pd.to_datetime([row.time_ms for row in rows], unit="ms", utc=True),
            "steps": [row.steps for row in rows],
            "not_finite": [row.not_finite for row in rows],
            **{n: pd.Series([getattr(row, n) for row in rows], dtype=float) for n in numbers},
        }
    )


def elapsed_s(run: Run, times: pd.Series[pd.Timestamp]) -> pd.Series[float]:
    """Seconds since the run began."""
    return (times - pd.Timestamp(run.started_ms, unit="ms", tz="UTC")).dt.total_seconds()


def energies_j(data: RunData, times: pd.Series[pd.Timestamp]) -> np.ndarray[Any, Any]:
    """Energy in J of all devices from the run's start until each time."""
    at_ms = data.run.started_ms + elapsed_s(data.run, times).to_numpy() * MS_PER_S
    return np.interp(at_ms, data.curve.times_ms, data.curve.energies_j)


def facility_wh(data: RunData, times: pd.Series[pd.Timestamp]) -> np.ndarray[Any, Any]:
    """Facility energy in Wh from the run's start until each time; NaN where the estimate has
    none.
    """
    return _spent(data, times, "facility_kwh") * WH_PER_KWH


def emissions_g(data: RunData, times: pd.Series[pd.Timestamp]) -> np.ndarray[Any, Any]:
    """CO2e in g from the run's start until each time; NaN where the estimate has none."""
    return _spent(data, times, "tco2e") * KG_PER_T * G_PER_KG


def costs(data: RunData, times: pd.Series[pd.Timestamp]) -> np.ndarray[Any, Any]:
    """Money from the run's start until each time; NaN where the estimate has no cost."""
    return _spent(data, times, "cost")


def _spent(data: RunData, times: pd.Series[pd.Timestamp], column: str) -> np.ndarray[Any, Any]:
    at_ms = data.run.started_ms + elapsed_s(data.run, times).to_numpy() * MS_PER_S
    return np.array(data.spent.at(at_ms.tolist())[column], dtype=float)


def intensity_varies(data: RunData) -> bool:
    """Whether the estimate takes an intensity of each hour."""
    factors = data.estimate.factors
    return factors is not None and factors.hourly is not None


def intensity_of_hour(data: RunData, start_ms: int) -> float | None:
    """kgCO2e/kWh of an hour, as the estimate took it."""
    return over_time.intensity_of_hour(data.estimate, start_ms)


def held_out(data: RunData) -> list[tuple[int, float]]:
    """(time in ms, loss) of each evaluation that has one; the ledger keeps finite ones only."""
    found = [(e.time_ms, e.data.get("loss")) for e in data.events if e.kind == EventKind.EVAL]
    return [(t, float(v)) for t, v in found if isinstance(v, (int, float))]
