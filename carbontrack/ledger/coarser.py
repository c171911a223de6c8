"""Where a level has no windows any more, and which coarser ones stand in for them.

Old seconds and minutes are dropped, and some recordings never had them: an import, say. It differs
by device and hour, as `compact` drops whole hours of a sensor, and ledgers that were merged kept
different ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass

from sqlalchemy import Connection, literal, select

from carbontrack.ledger import models, stored_windows
from carbontrack.ledger.recorded_rows import Run, Span, end_of
from carbontrack.ledger.rows import Coarser
from carbontrack.ledger.sharing import LATE_S
from carbontrack.ledger.window import LEVELS_S
from carbontrack.units import MS_PER_HOUR, MS_PER_S

_HOUR_S = LEVELS_S[-1]
Place = tuple[int, int]
"""A sensor's key, and the start of an hour in ms."""


@dataclass(frozen=True, slots=True)
class Reader:
    """A sensor of a run: whose it is, and from and to when its recording lasted."""

    device_key: int
    recording_key: int
    span_ms: Span


def readers_of(connection: Connection, run_key: int) -> dict[int, Reader]:
    """The sensors of a run, by their keys."""
    sensor, recording = models.Sensor, models.Recording
    times = recording.started_ms, recording.ended_ms, recording.heartbeat_ms
    query = select(sensor.key, sensor.device_key, recording.key, *times)
    query = query.join(recording, recording.key == sensor.recording_key)
    query = query.where(recording.run_key == run_key).order_by(sensor.device_key, sensor.key)
    return {
        key: Reader(device_key, recording_key, (started_ms, end_of(started_ms, ended_ms, heard_ms)))
        for key, device_key, recording_key, started_ms, ended_ms, heard_ms in connection.execute(
            query
        )
    }


def by_clock(run: Run, readers: dict[int, Reader]) -> tuple[dict[int, Reader], dict[int, Reader]]:
    """The sensors of recordings whose clocks were right, and those of the others."""
    if not run.clocks:
        return readers, {}
    off = {key: one for key, one in readers.items() if one.recording_key in run.clocks}
    return {key: one for key, one in readers.items() if key not in off}, off


def recordings_of(readers: Mapping[int, Reader]) -> list[int]:
    """The keys of the recordings that sensors belong to."""
    return sorted({reader.recording_key for reader in readers.values()})


def hour_of(time_ms: int) -> int:
    """The start of the hour that a time is in."""
    return time_ms // MS_PER_HOUR * MS_PER_HOUR


def whole_hours(span_ms: Span) -> Span:
    """A span, and what else is in its first and last hour."""
    return hour_of(span_ms[0]), hour_of(span_ms[1] - 1) + MS_PER_HOUR


def standing_in(
    connection: Connection,
    readers: Mapping[int, Reader],
    level_s: int,
    span_ms: Span,
    found: Set[Place],
) -> dict[int, set[Place]]:
    """The hours of sensors in a stretch of time that have no windows of a level, by the finest
    coarser level that they have. `found` are those of which the stretch has some.
    """
    if level_s == _HOUR_S or not readers:
        return {}
    from_ms, to_ms = span_ms
    hours_ms = hour_of(from_ms), hour_of(to_ms - 1) + MS_PER_HOUR
    recordings = {reader.recording_key for reader in readers.values()}
    lacking = {
        (key, hour_ms)
        for key, hour_ms in _places(connection, recordings, _HOUR_S, hours_ms) - found
        if key in readers and _touches(readers[key].span_ms, hour_ms, span_ms)
    }
    # The rest of the hours at the two ends was not looked at.
    for rest_ms in ((hours_ms[0], from_ms), (to_ms, hours_ms[1])):
        at_end = {place for place in lacking if hour_of(rest_ms[0]) == place[1]}
        if rest_ms[0] < rest_ms[1] and at_end:
            lacking -= _present(connection, readers, level_s, rest_ms, at_end)
    left: dict[int, set[Place]] = {}
    for coarser_s in (level for level in LEVELS_S if level > level_s):
        if not lacking:
            break
        has = lacking
        if coarser_s != _HOUR_S:
            has = lacking & _places(connection, recordings, coarser_s, hours_ms)
        if has:
            left[coarser_s] = has
        lacking = lacking - has
    return left


def _touches(of_reader_ms: Span, hour_ms: int, span_ms: Span) -> bool:
    """Whether a recording lasted in a stretch of an hour, for which its first and last second are
    whole.
    """
    first_ms = of_reader_ms[0] // MS_PER_S * MS_PER_S
    last_ms = -(-of_reader_ms[1] // MS_PER_S) * MS_PER_S
    from_ms, to_ms = _common((first_ms, max(last_ms, first_ms + MS_PER_S)), hour_ms, span_ms)
    return from_ms < to_ms


def _places(
    connection: Connection, recordings: Collection[int], level_s: int, span_ms: Span
) -> set[Place]:
    """The hours of sensors with windows of a level that begin in a stretch of time."""
    window = stored_windows.windows_between(level_s, *span_ms)
    hour_ms = window.start_ms // MS_PER_HOUR * MS_PER_HOUR
    query = select(window.sensor_key, hour_ms).where(window.recording_key.in_(sorted(recordings)))
    return {(key, start_ms) for key, start_ms in connection.execute(query.distinct())}


def _present(
    connection: Connection,
    readers: Mapping[int, Reader],
    level_s: int,
    span_ms: Span,
    places: Collection[Place],
) -> set[Place]:
    """Those of these places that have a window of a level in a stretch of time, which is within
    their hour. A recording that has none at all is asked once, whatever its number of sensors.
    """
    window = stored_windows.windows_between(level_s, *span_ms)
    by_recording: dict[int, list[Place]] = defaultdict(list)
    for place in places:
        by_recording[readers[place[0]].recording_key].append(place)
    present = set()
    for recording_key, of_recording in by_recording.items():
        first = stored_windows.first_window(literal(recording_key), level_s, *span_ms)
        if connection.scalar(select(first)) is None:
            continue
        for place in of_recording:
            query = select(window.start_ms).where(
                window.recording_key == recording_key, window.sensor_key == place[0]
            )
            if connection.scalar(query.limit(1)) is not None:
                present.add(place)
    return present


def time_of(reader: Reader, start_ms: int, level_s: int, covered_s: float) -> Span:
    """The time that a coarse window stands for. It does not say when in it a sensor was read, but
    that was while its recording lasted: what it covers is spread evenly over this.
    """
    end_ms = start_ms + level_s * MS_PER_S
    begin_ms, until_ms = max(start_ms, reader.span_ms[0]), min(end_ms, reader.span_ms[1])
    if until_ms <= begin_ms or (until_ms - begin_ms) / MS_PER_S < covered_s - LATE_S:
        return start_ms, end_ms
    return begin_ms, until_ms


def stretches(
    left: Mapping[int, Collection[Place]], readers: Mapping[int, Reader], span_ms: Span
) -> tuple[Coarser, ...]:
    """When coarser windows stand in for those of any sensor: in order, within a stretch of time."""
    found: list[Coarser] = []
    for level_s, places in left.items():
        times_ms = (_common(readers[key].span_ms, hour_ms, span_ms) for key, hour_ms in places)
        for from_ms, to_ms in sorted(one for one in times_ms if one[0] < one[1]):
            if found and found[-1].level_s == level_s and found[-1].to_ms >= from_ms:
                before = found.pop()
                from_ms, to_ms = before.from_ms, max(before.to_ms, to_ms)
            found.append(Coarser(from_ms, to_ms, level_s))
    return tuple(sorted(found, key=lambda one: (one.from_ms, one.level_s)))


def _common(of_reader_ms: Span, hour_ms: int, span_ms: Span) -> Span:
    """The time of an hour that is in both of two others."""
    hour_end_ms = hour_ms + MS_PER_HOUR
    return max(of_reader_ms[0], hour_ms, span_ms[0]), min(of_reader_ms[1], hour_end_ms, span_ms[1])
