"""Observing devices for a moment: what each reads now, and how often its sensor refreshes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from carbontrack.meters.base import DeviceLost, Reading, Source
from carbontrack.meters.deadline import all_within
from carbontrack.units import NS_PER_MS

PERIOD_LOOK_S = 0.8  # eight refreshes of the slowest sensor known, 100 ms
_POLL_S = 0.001
_LEAST_CHANGES = 4  # fewer say nothing about how regular they are
_LEAST_PERIOD_MS = 3.0  # changes as fast as we look: no period to be seen
_ALL_CHANGED = 0.9  # of the looks at it: the same, on a machine that lets us look less often


@dataclass(frozen=True, slots=True)
class Observation:
    """What one device showed. `answers` is False for a device that is lost or hangs."""

    answers: bool
    power_w: float | None = None
    update_period_ms: float | None = None  # as measured, else as its meter knows it


def measured_periods(sources: Sequence[Source]) -> dict[str, float]:
    """How often the sensors refresh whose meter does not know, in ms by device UUID.

    One device of each model is watched for the others, for `PERIOD_LOOK_S`: it is polled a hundred
    times as often as a recording does. What hangs, is lost or hardly changes is left out.
    """
    alike: dict[tuple[str, str], list[Source]] = {}
    for source in sources:
        if source.device.update_period_ms is None:
            alike.setdefault((source.device.name, source.device.field), []).append(source)
    observed = observe([group[0] for group in alike.values()], PERIOD_LOOK_S)
    return {
        source.device.uuid: look.update_period_ms
        for group, look in zip(alike.values(), observed, strict=True)
        if look.update_period_ms is not None
        for source in group
    }


def observe(
    sources: Sequence[Source], seconds: float, patience_s: float = 1.0
) -> list[Observation]:
    """Watch all devices together for some seconds; one that hangs is not waited for any longer."""
    looks = all_within(seconds + patience_s, [partial(_watch, one, seconds) for one in sources])
    return [look if isinstance(look, Observation) else Observation(answers=False) for look in looks]


def _watch(source: Source, seconds: float) -> Observation:
    readings: list[Reading] = []
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            readings.append(source.read())
            time.sleep(_POLL_S)
    except DeviceLost:
        return Observation(answers=False)
    powers_w = [reading.power_w for reading in readings if reading.power_w is not None]
    known_ms = source.device.update_period_ms
    return Observation(
        answers=True,
        power_w=powers_w[-1] * source.device.share if powers_w else None,
        update_period_ms=_period_ms(readings) if known_ms is None else known_ms,
    )


def _values(readings: Sequence[Reading]) -> list[float | None]:
    """What the energy is made of: the counter's values if there are any, else those of power."""
    counted = [reading.energy_j for reading in readings]
    if any(energy_j is not None for energy_j in counted):
        return counted
    return [reading.power_w for reading in readings]


def _period_ms(readings: Sequence[Reading]) -> float | None:
    """The usual time between changes of what the energy is made of; None if it hardly changes, or
    as often as it was polled, which says nothing of the sensor.
    """
    values = [
        # The driver's own timestamp is exact; without it a change is known to the next poll.
        (r.energy_time_ns or r.time_ns, value)
        for r, value in zip(readings, _values(readings), strict=True)
        if value is not None
    ]
    import statistics  # a recorder gets here when the job is under way

    changes_ns = [now_ns for (_, before), (now_ns, now) in pairwise(values) if before != now]
    is_exact = any(reading.energy_time_ns is not None for reading in readings)
    if len(changes_ns) < _LEAST_CHANGES or (
        not is_exact and len(changes_ns) > _ALL_CHANGED * (len(values) - 1)
    ):
        return None
    period_ms = statistics.median(b - a for a, b in pairwise(changes_ns)) / NS_PER_MS
    return period_ms if period_ms >= _LEAST_PERIOD_MS else None
