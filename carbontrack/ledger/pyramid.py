"""The pyramid in the ledger: what to read of it, and its rows as the windows they were."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from sqlalchemy import Connection, Select, select

from carbontrack.ledger import models, overlaps
from carbontrack.ledger.sharing import Part
from carbontrack.ledger.tables import WINDOWS
from carbontrack.ledger.window import LEVELS_S, Window, merge
from carbontrack.units import MS_PER_HOUR, MS_PER_S

# Each from 1 s on is made of whole windows of some level.
_ROUND_MS = (
    *(1, 2, 5, 10, 20, 50, 100, 200, 500),
    *(MS_PER_S * s for s in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800)),
    *(MS_PER_HOUR * h for h in (1, 2, 6, 12)),
)
_MS_PER_DAY = 24 * MS_PER_HOUR


def bucket_ms(length_ms: int, points: int, *, least_ms: int = 1) -> int:
    """The shortest round length in ms of which at most `points` touch a range this long, wherever
    it begins; whole days where there is no other.
    """
    between = max(1, points - 1)  # one more is touched than fits
    fits = (b for b in _ROUND_MS if b >= least_ms and length_ms <= between * b)
    return next(fits, -(-length_ms // (between * _MS_PER_DAY)) * _MS_PER_DAY)


def mergeable_ms(length_ms: int, points: int) -> int:
    """About as `bucket_ms`, or shorter: of such buckets all longer round ones can be made."""
    longest = bucket_ms(length_ms, points)
    return max(b for b in _ROUND_MS if b <= longest and all(c % b == 0 for c in _ROUND_MS if c > b))


def level_for(bucket_s: int) -> int:
    """The coarsest level, in seconds, whose windows add up to buckets of this length."""
    return max(level_s for level_s in LEVELS_S if bucket_s % level_s == 0)


def hours_of(
    connection: Connection, run_key: int, recordings: Sequence[int] | None = None
) -> Iterator[tuple[int, Window]]:
    """(device key, window of one hour), ordered by device and time: of all recordings together, or
    of those with these keys. What an earlier recording of the run has, too, is left out.
    """
    window, sensor = models.Window, models.Sensor
    keys = recordings_of(run_key) if recordings is None else recordings
    query = (
        select(sensor.device_key, sensor.key.label("of_sensor"), window.__table__)
        .join(sensor, sensor.key == window.sensor_key)
        .where(window.recording_key.in_(keys), window.level == LEVELS_S[-1])
        .order_by(sensor.device_key, window.start_ms)
    )
    rows = [
        (row["device_key"], row["of_sensor"], WINDOWS.read(row))
        for row in connection.execute(query).mappings()
    ]
    places = [(device_key, window.start_ms) for device_key, _, window in rows]
    has_several = recordings is not None or len(set(places)) < len(places)
    twice = overlaps.within_run(connection, run_key) if has_several else {}
    for (device_key, start_ms), found in groupby(rows, lambda row: (row[0], row[2].start_ms)):
        parts = [_without(window, twice.get((key, start_ms))) for _, key, window in found]
        yield (
            device_key,
            parts[0] if len(parts) == 1 else merge(parts, start_ms=start_ms, level_s=LEVELS_S[-1]),
        )


def _without(window: Window, twice: Part | None) -> Window:
    if twice is None or window.energy_j is None:
        return window
    left = max(0.0, 1.0 - twice.seconds / window.energy_s)
    return replace(
        window,
        energy_j=max(0.0, window.energy_j - twice.energy_j),
        energy_s=window.energy_s * left,
        sampled_s=window.sampled_s * left,
    )


def recordings_of(run_key: int) -> Select[int]:
    """The keys of a run's recordings."""
    return select(models.Recording.key).where(models.Recording.run_key == run_key)
