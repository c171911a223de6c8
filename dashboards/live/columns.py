"""Rows of the ledger as the columns that charts are drawn from. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from carbontrack.ledger.rows import Sensor, Series, StepMean
from carbontrack.units import MS_PER_S


def of_windows(series: Series, sensors: Sequence[Sensor]) -> dict[str, Any]:
    """Aligned columns: one time for all devices, None where a device has no window."""
    level_ms = series.level_s * MS_PER_S
    starts, keys = series.columns["start_ms"], series.columns["device_key"]
    first_ms = min(starts, default=0)
    times = list(range(first_ms, max(starts) + 1, level_ms)) if starts else []
    names = ("energy_j", "power_min_w", "power_max_w", "util_pct", "temperature_max_c")
    columns = {name: series.columns[name] for name in names}
    for name in ("energy_j", "util_pct"):  # extremes are values that were read, and short mostly
        columns[name] = [_drawn(value) for value in columns[name]]
    columns["power_w"] = [
        _drawn(energy_j / energy_s) if energy_j is not None and energy_s else None
        for energy_j, energy_s in zip(
            series.columns["energy_j"], series.columns["energy_s"], strict=True
        )
    ]
    devices: dict[int, dict[str, list[Any]]] = {
        sensor.device_key: {name: [None] * len(times) for name in columns} for sensor in sensors
    }
    places = [(start_ms - first_ms) // level_ms for start_ms in starts]
    for name, values in columns.items():
        lines = {key: device[name] for key, device in devices.items()}
        for key, place, value in zip(keys, places, values, strict=True):
            lines[key][place] = value
    return {
        "level_s": series.level_s,
        "time_ms": times,
        "devices": [
            {"uuid": sensor.uuid, "kind": sensor.kind, **devices[sensor.device_key]}
            for sensor in sensors
        ],
    }


def _drawn(value: float | None) -> float | None:
    """As fine as a line can show: half of what is sent would be digits that nobody sees."""
    return None if value is None else round(value, 3)


def of_steps(steps: Sequence[StepMean]) -> dict[str, list[Any]]:
    """One column a value; where a point is several steps, `loss` is between its extremes."""
    names = ("step", "time_ms", "loss", "loss_min", "loss_max", "tokens_per_s")
    return {name: [getattr(step, name) for step in steps] for name in names}
