"""The short names of a run's devices, the same in commands, figures and on the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from carbontrack.ledger.recorded_rows import Sensor


def device_labels(sensors: Sequence[Sensor]) -> list[str]:
    """`gpu 0`, `gpu 1`, `cpu 0`: kind and number on its host, after the host where there are
    several; in the order of `sensors`.
    """
    several = len({sensor.host for sensor in sensors}) > 1
    seen: Counter[tuple[str, str]] = Counter()
    labels = []
    for sensor in sensors:
        label = f"{sensor.kind} {seen[sensor.host, sensor.kind]}"
        seen[sensor.host, sensor.kind] += 1
        labels.append(f"{sensor.host} {label}" if several else label)
    return labels
