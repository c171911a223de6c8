"""The devices of a run added up by kind, name and how they were read. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from math import fsum

from carbontrack.ledger.recorded_rows import (
    Alike,
    Devices,
    Run,
    Sensor,
    Span,
    Usage,
    longest_pause_ms,
)
from carbontrack.vocabulary import DeviceKind

_KINDS = tuple(DeviceKind)


def devices_of(
    run: Run, sensors: Sequence[Sensor], usages: Sequence[Usage], spans_ms: Sequence[Span] = ()
) -> Devices:
    """Of a run, or of those stretches of its time; `usages` add up to it."""
    groups: dict[tuple[object, ...], list[Sensor]] = {}
    for sensor in sensors:
        groups.setdefault(_alike(sensor), []).append(sensor)
    used: dict[int, list[Usage]] = {}
    for usage in usages:
        used.setdefault(usage.device_key, []).append(usage)
    alike = [
        _together(run, of, [u for s in of for u in used.get(s.device_key, ())], spans_ms)
        for of in groups.values()
    ]
    of_node: dict[str, set[Span]] = defaultdict(set)
    for sensor in sensors:
        of_node[sensor.host].update(sensor.recorded_in(run, spans_ms))
    return Devices.of(alike, of_node, _pause_ms(sensors))


def primary_of(devices: Devices) -> list[Alike]:
    """Those of the first kind that the run has: GPUs, else CPUs, else memory."""
    kind = next((one.kind for one in devices.alike if one.kind in _KINDS), None)
    return [one for one in devices.alike if one.kind == kind]


def _alike(sensor: Sensor) -> tuple[object, ...]:
    return (
        *(sensor.kind, sensor.name, sensor.rated_power_w, sensor.share),
        *(sensor.meter, sensor.quality, sensor.scope),
    )


def _together(
    run: Run, sensors: Sequence[Sensor], usages: Sequence[Usage], spans_ms: Sequence[Span]
) -> Alike:
    one = sensors[0]
    known = [usage for usage in usages if usage.energy_j is not None]
    return Alike(
        kind=one.kind,
        name=one.name,
        rated_power_w=one.rated_power_w,
        share=one.share,
        meter=one.meter,
        quality=one.quality,
        scope=one.scope,
        uuids=frozenset(sensor.uuid for sensor in sensors),
        recorded_s=fsum(sensor.recorded_s(run, spans_ms) for sensor in sensors),
        energy_j=fsum(usage.energy_j or 0.0 for usage in known) if known else None,
        energy_s=fsum(usage.energy_s for usage in known),
        sampled_s=fsum(usage.sampled_s for usage in usages),
    )


def _pause_ms(sensors: Sequence[Sensor]) -> int:
    """The longest time in which none was recorded; 0 where one was recorded all along."""
    if not all(sensor.spans_ms for sensor in sensors):
        return 0
    return longest_pause_ms(span for sensor in sensors for span in sensor.spans_ms)
