"""Rows of the ledger as the columns that charts are drawn from. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    # As fine as a line can show: half of what is sent would be digits that nobody sees. Extremes
    # are values that were read, and mostly short.
    for name in ("energy_j", "util_pct"):
        columns[name] = [None if v is None else round(v, 3) for v in columns[name]]
    columns["power_w"] = [
        round(energy_j / energy_s, 3) if energy_j is not None and energy_s else None
        for energy_j, energy_s in zip(
            series.columns["energy_j"], series.columns["energy_s"], strict=True
        )
    ]
    devices: dict[int, dict[str, list[Any]]] = {
        sensor.device_key: {name: [None] * len(times) for name in columns} for sensor in sensors
    }
    for key, begin, end in _stretches(keys, starts, level_ms):
        place = (starts[begin] - first_ms) // level_ms
        for name, values in columns.items():
            devices[key][name][place : place + end - begin] = values[begin:end]
    return {
        "level_s": series.level_s,
        "time_ms": times,
        "devices": [
            {"uuid": sensor.uuid, "kind": sensor.kind, **devices[sensor.device_key]}
            for sensor in sensors
        ],
    }


def _stretches(
    keys: Sequence[int], starts: Sequence[int], level_ms: int
) -> Iterator[tuple[int, int, int]]:
    """(device key, begin, end) of rows in a row that are of one device and without a gap."""
    begin = 0
    for end in range(1, len(keys) + 1):
        if (
            end == len(keys)
            or keys[end] != keys[begin]
            or starts[end] != starts[end - 1] + level_ms
        ):
            yield keys[begin], begin, end
            begin = end


def of_steps(steps: Sequence[StepMean]) -> dict[str, list[Any]]:
    """One column a value; where a point is several steps, `loss` is between its extremes."""
    names = ("step", "time_ms", "loss", "loss_min", "loss_max", "tokens_per_s")
    return {name: [getattr(step, name) for step in steps] for name in names}
