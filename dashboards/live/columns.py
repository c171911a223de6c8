"""Rows of the ledger as charts and the list of runs need them: columns, and an order. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from carbontrack.ledger.recorded_rows import Run, Sensor
from carbontrack.ledger.rows import Series, StepMean
from carbontrack.report.devices import device_labels
from carbontrack.units import MS_PER_S
from dashboards.recorded import mean_of, recorded_in, sum_of

SORT_FIELDS: Mapping[str, str] = {
    "started": "started",
    "name": "name",
    "status": "status",
    "duration": "duration_s",
    "energy": "energy_kwh",
    "co2e": "tco2e",
    "money": "cost",
    "loss": "final_loss",
}
"""What `sort=` may name, and the key of a run's line that it means."""
_SHOWN = ("energy_j", "power_min_w", "power_max_w", "util_pct", "temperature_max_c")
_OF_MANY = ("power_w", "util_pct", "temperature_max_c")
MANY_DEVICES = 16
"""More lines than these are unreadable: devices are then shown as a map and as their range."""


def of_windows(run: Run, series: Series, sensors: Sequence[Sensor]) -> dict[str, Any]:
    """Aligned columns: one time for all devices, NaN where a device has no window or no value; of
    many devices only what a map shows. Total and mean are of those that were recorded then.
    """
    level_ms = series.level_s * MS_PER_S
    starts_ms = np.array(series.columns["start_ms"], dtype=np.int64)
    keys = np.array(series.columns["device_key"], dtype=np.int64)
    first_ms = int(starts_ms.min()) if len(starts_ms) else 0
    places = (starts_ms - first_ms) // level_ms
    count = int(places.max()) + 1 if len(places) else 0
    columns = {name: np.array(series.columns[name], dtype=float) for name in _SHOWN}
    energy_s = np.array(series.columns["energy_s"], dtype=float)
    # As fine as a line can show: more digits would double what is sent, and not be seen.
    columns["power_w"] = np.round(columns["energy_j"] / np.where(energy_s > 0, energy_s, np.nan), 3)
    for name in ("energy_j", "util_pct"):
        columns[name] = np.round(columns[name], 3)
    order = np.array([sensor.device_key for sensor in sensors], dtype=np.int64)
    rows = np.argsort(order)[np.searchsorted(np.sort(order), keys)]
    shown = _OF_MANY if len(sensors) > MANY_DEVICES else columns
    aligned = {name: np.full((len(sensors), count), np.nan) for name in shown}
    for name, matrix in aligned.items():
        matrix[rows, places] = columns[name]
    devices = [
        {
            "uuid": sensor.uuid,
            "kind": sensor.kind,
            "label": label,
            **{name: matrix[index] for name, matrix in aligned.items()},
        }
        for index, (label, sensor) in enumerate(zip(device_labels(sensors), sensors, strict=True))
    ]
    times_ms = np.arange(count, dtype=np.int64) * level_ms + first_ms
    recorded = recorded_in(run, sensors, times_ms, series.level_s)
    return {
        "level_s": series.level_s,
        "coarser": [asdict(one) for one in series.coarser],
        "time_ms": times_ms,
        "total": {"power_w": np.round(sum_of(aligned["power_w"], recorded), 3)},
        "mean": {n: np.round(mean_of(aligned[n], recorded), 3) for n in _OF_MANY},
        "devices": devices,
    }


def of_steps(steps: Sequence[StepMean]) -> dict[str, list[Any]]:
    """One column a value; where a point is several steps, `loss` is between its extremes."""
    names = ("step", "time_ms", "loss", "loss_min", "loss_max", "tokens_per_s")
    return {name: [getattr(step, name) for step in steps] for name in names}


def ordered(
    items: Sequence[Mapping[str, Any]], sort: str, *, down: bool
) -> list[Mapping[str, Any]]:
    """By one of SORT_FIELDS; what is not known comes last, whichever way."""
    key = SORT_FIELDS[sort]
    known = [item for item in items if item[key] is not None]
    unknown = [item for item in items if item[key] is None]
    return sorted(known, key=lambda item: item[key], reverse=down) + unknown
