"""Devices that several runs recorded at the same time: what a total must not count again.

Two wrappers on one node both record the GPUs that both their jobs can see, and each is right about
its own run. The run that began first keeps what both recorded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, and_, exists, func, or_, select, true
from sqlalchemy.orm import aliased

from carbontrack.ledger import models
from carbontrack.ledger.pyramid import recordings_of
from carbontrack.ledger.rows import Overlap, Run
from carbontrack.ledger.window import LEVELS_S

_MOST_SPANS = 400


def recorded_twice(
    connection: Connection, runs: Sequence[Run], spans_ms: Sequence[tuple[int, int]] = ()
) -> dict[str, list[Overlap]]:
    """By run id: what earlier runs among `runs` recorded as well, device by device.

    To the second; where the seconds were dropped, to the minute or the hour. With `spans_ms`, only
    what was recorded in one of these stretches of time, each from a time up to, and without,
    another.
    """
    by_key = {run.key: run for run in runs if run.key is not None}
    found = {}
    for run_key, earlier in _overlapping(connection, by_key).items():
        sums: dict[str, tuple[float, float]] = {}
        for some in _batches(spans_ms):
            for uuid, energy_j, energy_s in _common(connection, run_key, earlier, some):
                before_j, before_s = sums.get(uuid, (0.0, 0.0))
                sums[uuid] = before_j + float(energy_j or 0.0), before_s + float(energy_s)
        if sums:
            found[by_key[run_key].id] = [Overlap(uuid, *both) for uuid, both in sums.items()]
    return found


def _batches(spans_ms: Sequence[tuple[int, int]]) -> list[Sequence[tuple[int, int]]]:
    """As many as a statement takes; SQLite's are at most 1000 deep."""
    starts = range(0, len(spans_ms), _MOST_SPANS)
    return [spans_ms[start : start + _MOST_SPANS] for start in starts] or [()]


def _overlapping(connection: Connection, runs: Mapping[int, Run]) -> dict[int, list[int]]:
    """Keys of runs, with those of earlier ones that had a device of it while it went on."""
    if len(runs) < 2:
        return {}
    sensor, recording = models.Sensor, models.Recording
    query = select(recording.run_key, sensor.device_key).distinct()
    query = query.join(sensor, sensor.recording_key == recording.key)
    users: dict[int, list[int]] = defaultdict(list)
    for run_key, device_key in connection.execute(query):
        if run_key in runs:
            users[device_key].append(run_key)
    found: dict[int, dict[int, None]] = defaultdict(dict)
    for sharing in users.values():
        going: list[int] = []
        for key in sorted(sharing, key=lambda key: (runs[key].started_ms, key)):
            going = [other for other in going if runs[other].end_ms > runs[key].started_ms]
            found[key].update(dict.fromkeys(going))
            going.append(key)
    return {key: list(earlier) for key, earlier in found.items() if earlier}


def _common(
    connection: Connection,
    run_key: int,
    earlier: Sequence[int],
    spans_ms: Sequence[tuple[int, int]],
) -> Sequence[tuple[str, float | None, float]]:
    """Energy and seconds of the run's windows that an earlier run has too."""
    window, sensor, device = models.Window, models.Sensor, models.Device
    other, its_sensor, recording = aliased(window), aliased(sensor), models.Recording
    also = exists().where(
        other.recording_key.in_(select(recording.key).where(recording.run_key.in_(earlier))),
        other.level == window.level,
        other.start_ms == window.start_ms,
        its_sensor.key == other.sensor_key,
        its_sensor.device_key == sensor.device_key,
    )
    spans = (and_(window.start_ms >= first, window.start_ms < after) for first, after in spans_ms)
    within = or_(*spans) if spans_ms else true()
    for level_s in LEVELS_S:
        of_run = window.recording_key.in_(recordings_of(run_key)) & (window.level == level_s)
        if connection.scalar(select(exists().where(of_run))):
            query = (
                select(device.uuid, func.sum(window.energy_j), func.sum(window.energy_s))
                .join(sensor, sensor.key == window.sensor_key)
                .join(device, device.key == sensor.device_key)
                .where(of_run, also, within)
                .group_by(device.uuid)
            )
            return [(u, e, s) for u, e, s in connection.execute(query)]
    return []
