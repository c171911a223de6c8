"""Rows of the ledger as the columns that charts are drawn from. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from carbontrack.ledger.rows import Sensor, Series, StepMean
from carbontrack.units import MS_PER_S


def of_windows(series: Series, sensors: Sequence[Sensor]) -> dict[str, Any]:
    """Aligned columns: one time for all devices, None where a device has no window."""
    level_ms = series.level_s * MS_PER_S
    starts = series.columns["start_ms"]
    times = list(range(min(starts), max(starts) + 1, level_ms)) if starts else []
    names = ("energy_j", "power_min_w", "power_max_w", "util_pct", "temperature_max_c")
    devices: dict[int, dict[str, list[Any]]] = {
        sensor.device_key: {name: [None] * len(times) for name in ("power_w", *names)}
        for sensor in sensors
    }
    for index, (key, start_ms) in enumerate(zip(series.columns["device_key"], starts, strict=True)):
        place, device = (start_ms - times[0]) // level_ms, devices[key]
        for name in names:
            device[name][place] = _drawn(series.columns[name][index])
        energy_j, energy_s = series.columns["energy_j"][index], series.columns["energy_s"][index]
        device["power_w"][place] = (
            _drawn(energy_j / energy_s) if energy_j is not None and energy_s else None
        )
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
