"""Devices that were recorded twice at the same time: what a sum must not count again.

Two wrappers on one node both record the GPUs that both their jobs can see, and each is right about
its own run. What was recorded twice is decided second by second, for any choice of runs: the one
that began first counts, and a job before a watch. So that it can still be decided when the seconds
are gone, `keep` writes down beforehand which sensors had what of each stretch of time that they
share: the rows of `overlaps` with one start and one device are a stretch.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

from carbontrack.ledger import backlog
from carbontrack.ledger.rows import Overlap, OverlapPart, Run, Sensor, Span, end_of
from carbontrack.ledger.sharing import Part, Stretch, repeated, stretches
from carbontrack.ledger.tables import OVERLAPS
from carbontrack.ledger.transaction import Transaction, WritableLedger
from carbontrack.ledger.window import LEVELS_S
from carbontrack.units import MS_PER_HOUR, MS_PER_S, now_ms
from carbontrack.vocabulary import MeterName, RunKind

if TYPE_CHECKING:
    from sqlalchemy import Connection

_KEYS_IN_A_QUERY = 500  # more of them, and all sensors are read
_COMPLETE_S = 1e-4  # sums of seconds in another order
SETTLED_MS = 600_000
"""After so long, what a recorder writes is final."""
_DAY_MS = 24 * MS_PER_HOUR

Ask = Callable[[str, Mapping[str, Any]], Iterable[Any]]
"""A statement and its values to rows, each a mapping from the names of its columns."""


@dataclass(frozen=True, slots=True)
class _Sensor:
    """How a recording read a device, from and to when, and its place among those that count."""

    key: int
    device_key: int
    uuid: str
    recording_key: int
    run_key: int
    from_ms: int
    to_ms: int
    final_ms: int  # up to when nothing will be added
    place: tuple[bool, int, str, int, str]


_Sensors = Mapping[int, _Sensor]  # by key
_Hours = Mapping[int, Mapping[int, Collection[int]]]  # sensors by hour and device


def recorded_twice(
    connection: Connection, runs: Sequence[Run], spans_ms: Sequence[Span] = ()
) -> dict[str, list[Overlap]]:
    """By run id: what others among `runs` recorded as well and count, device by device.

    With `spans_ms`, only what was recorded in one of these stretches of time, each from a time up
    to, and without, another; of what is split within a window, its share by time.
    """
    ids = {run.key: run.id for run in runs}
    if len(ids) < 2:
        return {}
    ask = _asking(connection)
    wanted = _listed(ids) if len(ids) <= _KEYS_IN_A_QUERY else "select key from runs"
    sensors = _sensors(ask, f"recordings.run_key in ({wanted})")
    sensors = {key: one for key, one in sensors.items() if one.run_key in ids}
    sums: dict[int, dict[str, tuple[float, float]]] = defaultdict(dict)
    spans = sorted(spans_ms)
    for stretch in _shared(ask, sensors, spans):
        share = _inside(stretch, spans) if spans else 1.0
        uuid = sensors[stretch.parts[0].key].uuid
        for part in _between_runs(stretch, sensors):
            if part.seconds * share > 0:
                energy_j, seconds = sums[part.key].get(uuid, (0.0, 0.0))
                both = energy_j + part.energy_j * share, seconds + part.seconds * share
                sums[part.key][uuid] = both
    return {
        ids[run_key]: [Overlap(uuid, *both) for uuid, both in of_run.items()]
        for run_key, of_run in sums.items()
    }


def repeats_itself(connection: Connection, run_key: int) -> bool:
    """Whether two recordings of a run read one device at one time."""
    by_device: dict[int, list[Span]] = defaultdict(list)
    for one in _sensors(_asking(connection), f"recordings.run_key = {run_key}").values():
        by_device[one.device_key].append((one.from_ms, one.to_ms))
    return any(map(share_time, by_device.values()))


def share_time(spans: Iterable[Span]) -> bool:
    """Whether two of these have some time in common."""
    return any(before[1] > after[0] for before, after in pairwise(sorted(spans)))


def is_shared(sensor: Sensor) -> bool:
    """Whether what it reads may be read by others. The CPU model reads the processes of its job
    alone, which no other job has.
    """
    return sensor.meter != MeterName.CPU_MODEL


def within_run(connection: Connection, run_key: int) -> dict[tuple[int, int], Part]:
    """What a sensor of a run has that an earlier recording of the same run has, too: by the
    sensor's key and the hour.
    """
    ask = _asking(connection)
    sensors = _sensors(ask, f"recordings.run_key = {run_key}")
    found: dict[tuple[int, int], Part] = {}
    for stretch in _shared(ask, sensors):
        for part in repeated(_in_order(stretch, sensors), stretch.length_s):
            if part.seconds > 0:
                at = part.key, stretch.hour_ms
                before = found.get(at, Part(part.key, 0.0, 0.0))
                found[at] = _sum(part.key, [before, part])
    return found


def keep(ledger: WritableLedger, recordings: Sequence[int]) -> None:
    """Write what can be decided of the seconds of these recordings, by key, and of all that had
    their devices at the same time: before the seconds go, or when a recording has ended.

    An hour is a transaction. What is kept stays, unless another sensor has come since and all have
    their seconds. Left out is an hour to which a running recorder may still add: it is over, and a
    few minutes more, when it is kept.
    """
    if not recordings:
        return
    with ledger.begin() as transaction:
        of_these = f"select device_key from sensors where recording_key in ({_listed(recordings)})"
        sensors = _sensors(transaction.ask, f"sensors.device_key in ({of_these})")
        own = [one for one in sensors.values() if one.recording_key in set(recordings)]
        # One that was not over when the last recording ended may be now.
        first_ms = min((one.from_ms for one in own), default=0) - _DAY_MS
        hours = _contested(sensors.values())
        kept = _kept(transaction.ask, sensors, hours)
    for hour_ms, devices in sorted(hours.items()):
        wanted = {
            device_key: keys
            for device_key, keys in devices.items()
            if hour_ms + MS_PER_HOUR > first_ms
            and all(sensors[key].final_ms >= hour_ms + MS_PER_HOUR for key in keys)
            and not _covers(kept.get((hour_ms, device_key), ()), keys)
        }
        if not wanted:
            continue
        with ledger.begin() as transaction:
            seconds = LEVELS_S[:1]
            for device_key, found in _decided(transaction.ask, hour_ms, wanted, sensors, seconds):
                keys = wanted[device_key]
                for key in keys:
                    forget(transaction, key, hour_ms)
                # A part of nothing at the start of the hour says that its sensor was looked at.
                rows = {(key, hour_ms): OverlapPart(hour_ms, 0.0, 0.0) for key in keys}
                for stretch in found:
                    start_ms = stretch.start_ms
                    for part in stretch.parts:
                        row = OverlapPart(start_ms, part.energy_j, part.seconds)
                        rows[part.key, start_ms] = row
                transaction.write(
                    OVERLAPS.upsert,
                    [OVERLAPS.written(row, sensor_key=key) for (key, _), row in rows.items()],
                )
                backlog.decided(transaction, keys)


def forget(transaction: Transaction, sensor_key: int, hour_ms: int) -> None:
    """Remove what is kept of an hour of a sensor: it is to be decided again."""
    transaction.write(
        'delete from "overlaps" where sensor_key = :sensor_key '
        "and start_ms >= :from_ms and start_ms < :to_ms",
        [{"sensor_key": sensor_key, "from_ms": hour_ms, "to_ms": hour_ms + MS_PER_HOUR}],
    )


def _asking(connection: Connection) -> Ask:
    from sqlalchemy import text

    return lambda statement, values: connection.execute(text(statement), values).mappings()


def _listed(keys: Iterable[int]) -> str:
    return ", ".join(str(int(key)) for key in keys)


def _sensors(ask: Ask, wanted: str) -> dict[int, _Sensor]:
    """Those that meet this condition, as far as others can read the same: see `is_shared`."""
    rows = ask(
        "select sensors.key, sensors.device_key, devices.uuid, recordings.key as recording_key, "
        "recordings.id, recordings.run_key, recordings.started_ms, recordings.ended_ms, "
        "recordings.heartbeat_ms, runs.kind, runs.id as run_id, runs.started_ms as run_started_ms "
        "from sensors join devices on devices.key = sensors.device_key "
        "join recordings on recordings.key = sensors.recording_key "
        f"join runs on runs.key = recordings.run_key where sensors.meter <> :meter and {wanted}",
        {"meter": str(MeterName.CPU_MODEL)},
    )
    now = now_ms()
    return {row["key"]: _sensor(row, now) for row in rows}


def _sensor(row: Any, now: int) -> _Sensor:
    started_ms, heartbeat_ms = row["started_ms"], row["heartbeat_ms"]
    goes_on = row["ended_ms"] is None and heartbeat_ms > now - SETTLED_MS
    is_watch = row["kind"] == RunKind.WATCH
    return _Sensor(
        key=row["key"],
        device_key=row["device_key"],
        uuid=row["uuid"],
        recording_key=row["recording_key"],
        run_key=row["run_key"],
        from_ms=started_ms,
        to_ms=end_of(started_ms, row["ended_ms"], heartbeat_ms),
        final_ms=heartbeat_ms - SETTLED_MS if goes_on else now + _DAY_MS,
        place=(is_watch, row["run_started_ms"], row["run_id"], started_ms, row["id"]),
    )


def _contested(sensors: Iterable[_Sensor]) -> dict[int, dict[int, set[int]]]:
    """By hour and device, the sensors that read it at the same time as another one."""
    found: dict[int, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    by_device: dict[int, list[_Sensor]] = defaultdict(list)
    for sensor in sorted(sensors, key=lambda one: one.from_ms):
        going = [one for one in by_device[sensor.device_key] if one.to_ms > sensor.from_ms]
        for other in going:
            until_ms = min(other.to_ms, sensor.to_ms)
            for hour_ms in range(_hour_of(sensor.from_ms), until_ms, MS_PER_HOUR):
                found[hour_ms][sensor.device_key] |= {sensor.key, other.key}
        by_device[sensor.device_key] = [*going, sensor]
    return found


def _hour_of(time_ms: int) -> int:
    return time_ms // MS_PER_HOUR * MS_PER_HOUR


def _is_in_some(hour_ms: int, spans: Sequence[Span]) -> bool:
    """Whether some of an hour is in one of these spans, which are in order; one may have no end."""
    before = bisect_left(spans, (hour_ms + MS_PER_HOUR, 0))
    return before > 0 and spans[before - 1][1] > hour_ms


def _shared(ask: Ask, sensors: _Sensors, spans: Sequence[Span] = ()) -> Iterator[Stretch]:
    """The stretches in which several of these sensors read one device: as they are kept, else as
    the finest windows say that all of them have. Of an hour that spans divide, which what is kept
    knows nothing of, as the seconds say where they are there.
    """
    hours: _Hours = _contested(sensors.values())
    if spans:
        hours = {hour_ms: of for hour_ms, of in hours.items() if _is_in_some(hour_ms, spans)}
    if not hours:
        return
    kept = _kept(ask, sensors, hours)
    cuts = {
        edge_ms // MS_PER_S * MS_PER_S + more
        for span in spans
        for edge_ms in span
        for more in (0, MS_PER_S)
    }
    seconds = LEVELS_S[:1]
    divided = {_hour_of(edge_ms) for span in spans for edge_ms in span if edge_ms % MS_PER_HOUR}
    for hour_ms, devices in sorted(hours.items()):
        left = dict(devices)
        if hour_ms in divided:
            for device_key, found in _decided(ask, hour_ms, devices, sensors, seconds, cuts):
                del left[device_key]
                yield from found
        for device_key in [key for key in left if (hour_ms, key) in kept]:
            keys = left.pop(device_key)
            before = kept[hour_ms, device_key]
            if not _covers(before, keys):
                again = _decided(ask, hour_ms, {device_key: keys}, sensors, seconds)
                before = next((found for _, found in again), before)
            yield from before
        for _, found in _decided(ask, hour_ms, left, sensors, LEVELS_S, cuts):
            yield from found


def _covers(kept: Sequence[Stretch], keys: Collection[int]) -> bool:
    """Whether what is kept of an hour was decided with all of these sensors, and at once: two
    ledgers that were merged may each have decided with some of them.
    """
    had = [part for stretch in kept for part in stretch.parts]
    if not {part.key for part in had} >= set(keys):
        return False
    spans = [
        (one.start_ms, one.start_ms + one.length_s * MS_PER_S)
        for one in kept
        if any(part.seconds for part in one.parts)
    ]
    whole = (
        part.seconds in (0.0, one.length_s)
        for one in kept
        if one.length_s > 1.0
        for part in one.parts
    )
    return all(end <= start for (_, end), (start, _) in pairwise(spans)) and all(whole)


def _kept(ask: Ask, sensors: _Sensors, hours: _Hours) -> dict[tuple[int, int], list[Stretch]]:
    """What is kept of these hours, by hour and device."""
    keys = {key for devices in hours.values() for keys in devices.values() for key in keys}
    if not keys:
        return {}
    rows = ask(
        'select sensor_key, start_ms, energy_j, seconds from "overlaps" '
        f"where sensor_key in ({_listed(sorted(keys))}) "
        "and start_ms >= :from_ms and start_ms < :to_ms order by start_ms, sensor_key",
        {"from_ms": min(hours), "to_ms": max(hours) + MS_PER_HOUR},
    )
    by_start: dict[tuple[int, int], list[Part]] = defaultdict(list)
    for row in rows:
        part = Part(row["sensor_key"], row["energy_j"], row["seconds"])
        by_start[row["start_ms"], sensors[part.key].device_key].append(part)
    found: dict[tuple[int, int], list[Stretch]] = defaultdict(list)
    for (start_ms, device_key), parts in by_start.items():
        # In a stretch of several seconds all have all of it.
        length_s = max([1.0, *(part.seconds for part in parts)])
        stretch = Stretch(start_ms, length_s, tuple(parts))
        found[stretch.hour_ms, device_key].append(stretch)
    return found


def _decided(
    ask: Ask,
    hour_ms: int,
    devices: Mapping[int, Collection[int]],
    sensors: _Sensors,
    levels: Sequence[int],
    cuts_ms: Collection[int] = frozenset(),
) -> Iterator[tuple[int, list[Stretch]]]:
    """(device, stretches of the hour) as the windows say: of the first of these levels of which all
    the device's sensors have as much as of hours. Devices without one are left out.
    """
    left = {key: device for device, keys in devices.items() for key in keys}
    whole_s = _covered(_windows(ask, hour_ms, left, sensors, LEVELS_S[-1])) if left else {}
    for level_s in levels:
        if not left:
            return
        windows = _windows(ask, hour_ms, left, sensors, level_s)
        covered_s = _covered(windows)
        lacking = {
            device
            for key, device in left.items()
            if abs(covered_s.get(key, 0.0) - whole_s.get(key, 0.0)) > _COMPLETE_S
        }
        by_device: dict[int, list[tuple[int, Part]]] = {
            device: [] for device in left.values() if device not in lacking
        }
        for start_ms, part in windows:
            if (device := left[part.key]) in by_device:
                by_device[device].append((start_ms, part))
        for device, of_device in by_device.items():
            yield device, list(stretches(of_device, level_s, cuts_ms))
        left = {key: device for key, device in left.items() if device in lacking}


def _windows(
    ask: Ask, hour_ms: int, keys: Collection[int], sensors: _Sensors, level_s: int
) -> list[tuple[int, Part]]:
    """The windows of these sensors in an hour: (start in ms, part), by time and sensor."""
    recordings = {sensors[key].recording_key for key in keys}
    rows = ask(
        "select start_ms, sensor_key, energy_j, energy_s from windows "
        f"where recording_key in ({_listed(sorted(recordings))}) and level = :level "
        "and start_ms >= :from_ms and start_ms < :to_ms "
        f"and sensor_key in ({_listed(sorted(keys))}) order by start_ms, sensor_key",
        {"level": level_s, "from_ms": hour_ms, "to_ms": hour_ms + MS_PER_HOUR},
    )
    return [
        (row["start_ms"], Part(row["sensor_key"], row["energy_j"] or 0.0, row["energy_s"]))
        for row in rows
    ]


def _covered(windows: Iterable[tuple[int, Part]]) -> dict[int, float]:
    """The time that the windows of each sensor account for, in s."""
    found: dict[int, float] = defaultdict(float)
    for _, part in windows:
        found[part.key] += part.seconds
    return found


def _in_order(stretch: Stretch, sensors: _Sensors) -> list[Part]:
    """The parts of these sensors, first those that count."""
    parts = (part for part in stretch.parts if part.key in sensors)
    return sorted(parts, key=lambda part: sensors[part.key].place)


def _between_runs(stretch: Stretch, sensors: _Sensors) -> list[Part]:
    """What of each run, by its key, one before it has, too. What it has twice itself is not its."""
    runs = []
    ordered = _in_order(stretch, sensors)
    for run_key, found in groupby(ordered, lambda part: sensors[part.key].run_key):
        parts = list(found)
        twice = _sum(run_key, repeated(parts, stretch.length_s))
        whole = _sum(run_key, parts)
        runs.append(Part(run_key, whole.energy_j - twice.energy_j, whole.seconds - twice.seconds))
    return repeated(runs, stretch.length_s)


def _sum(key: int, parts: Sequence[Part]) -> Part:
    return Part(key, sum(one.energy_j for one in parts), sum(one.seconds for one in parts))


def _inside(stretch: Stretch, spans: Sequence[Span]) -> float:
    """The share of a stretch that is in one of these spans, which are in order."""
    begin_ms, end_ms = stretch.start_ms, stretch.start_ms + stretch.length_s * MS_PER_S
    first = max(0, bisect_right(spans, (begin_ms, begin_ms)) - 1)
    inside_ms = 0.0
    for from_ms, to_ms in spans[first:]:
        if from_ms >= end_ms:
            break
        inside_ms += max(0.0, min(to_ms, end_ms) - max(from_ms, begin_ms))
    return inside_ms / (end_ms - begin_ms)
