"""Devices that were recorded twice at the same time: what a sum must not count again.

Two wrappers on one node both record the GPUs that both their jobs can see, and each is right about
its own run. What was recorded twice is decided second by second, for any choice of runs: the one
that began first counts, and a job before a watch. A GPU has what its MIG instances have. So that it
can still be decided when the seconds are gone, `kept_overlaps.keep` writes down beforehand which
sensors had what of each stretch of time that they share: the rows of `overlaps` with one start and
one board are a stretch.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

from carbontrack.ledger.contested import (
    Ask,
    Reading,
    Sensors,
    Source,
    board_keys,
    read_sensors,
    shared,
    with_boards,
)
from carbontrack.ledger.recorded_rows import Run, Sensor, Shifts, Span, end_of
from carbontrack.ledger.rows import Overlap
from carbontrack.ledger.sharing import (
    Lost,
    Part,
    Stretch,
    devices_at_once,
    divided,
    repeated,
    total,
    unsure,
)
from carbontrack.ledger.sql import in_parts, listed
from carbontrack.ledger.transaction import asking
from carbontrack.ledger.true_time import recorded_spans
from carbontrack.ledger.window import LEVELS_S
from carbontrack.units import MS_PER_HOUR, MS_PER_S
from carbontrack.vocabulary import MeterName

if TYPE_CHECKING:
    from sqlalchemy import Connection

_KEYS_IN_A_QUERY = 500  # more of them, and all sensors are read


def recorded_twice(
    connection: Connection, runs: Sequence[Run], spans_ms: Sequence[Span] = ()
) -> dict[str, list[Overlap]]:
    """By run id: what others among `runs` recorded as well and count, device by device.

    With `spans_ms`, only what was recorded in one of these stretches of time, each from a time up
    to, and without, another; of what is split within a window, its share by time.
    """
    return AmongRuns(connection, runs).recorded_twice(runs, spans_ms)


class AmongRuns:
    """The same of any choice among some runs, of which what is needed is read once."""

    def __init__(self, connection: Connection, runs: Sequence[Run]) -> None:
        self._ask = asking(connection).ask
        self._runs = runs
        self._of_all: dict[tuple[Span, ...], dict[str, list[Overlap]]] = {}
        self._read_by = _READ_BY if connection.dialect.name == "postgresql" else _READ_BY_IN_FILE

    @cached_property
    def _sensors(self) -> Sensors:
        """Of the boards that two of the runs' recordings read at the same time; a fleet's few have
        any.
        """
        keys = {run.key for run in self._runs}
        some = listed(keys) if len(keys) <= _KEYS_IN_A_QUERY else "select key from runs"
        wanted = f"recordings.run_key in ({some})"
        rows = self._ask(self._read_by.format(wanted=wanted), {"meter": str(MeterName.CPU_MODEL)})
        board_of = board_keys(self._ask)
        boards = devices_at_once(
            (row["started_ms"], _end_of(row), {board_of.get(key, key) for key in _keys_of(row)})
            for row in rows
            if row["run_key"] in keys
        )
        sensors: dict[int, Reading] = {}
        for part in in_parts(with_boards(boards, board_of)):
            of_part = f"{wanted} and sensors.device_key in ({listed(part)})"
            sensors |= read_sensors(self._ask, of_part)
        return {key: one for key, one in sensors.items() if one.run_key in keys}

    @cached_property
    def _by_run(self) -> dict[int, list[Reading]]:
        found: dict[int, list[Reading]] = defaultdict(list)
        for one in self._sensors.values():
            found[one.run_key].append(one)
        return found

    @cached_property
    def _source(self) -> Source:
        return Source(self._ask, self._sensors)

    def all(self, spans_ms: Sequence[Span] = ()) -> dict[str, list[Overlap]]:
        """`recorded_twice` of all of them, worked out once for each of the stretches of time."""
        spans = tuple(spans_ms)
        if spans not in self._of_all:
            self._of_all[spans] = self.recorded_twice(self._runs, spans)
        return self._of_all[spans]

    def recorded_twice(
        self, runs: Sequence[Run], spans_ms: Sequence[Span] = ()
    ) -> dict[str, list[Overlap]]:
        """See the function of this name; `runs` are some of these."""
        ids = {run.key: run.id for run in runs}
        if len(ids) < 2:
            return {}
        sensors = {one.key: one for key in ids for one in self._by_run.get(key, ())}
        sums: dict[int, dict[str, Overlap]] = defaultdict(dict)
        by_hour: dict[tuple[int, str], dict[int, float]] = defaultdict(lambda: defaultdict(float))
        for stretch, spans in self._shared(sensors, sorted(spans_ms)):
            share = _inside(stretch, spans) if spans else 1.0
            for one, twice, maybe in _between_runs(stretch, sensors):
                if twice.seconds * share > 0 or maybe.energy_j * share > 0:
                    uuid, of_run = one.uuid, sums[one.run_key]
                    j_by_hour = by_hour[one.run_key, uuid]
                    j_by_hour[stretch.hour_ms] += twice.energy_j * share
                    before = of_run.get(uuid, Overlap(uuid, 0.0, 0.0))
                    of_run[uuid] = Overlap(
                        uuid,
                        before.energy_j + twice.energy_j * share,
                        before.seconds + twice.seconds * share,
                        before.unsure_j + maybe.energy_j * share,
                        max(before.level_s, stretch.level_s),
                        j_by_hour,
                    )
        return {ids[run_key]: list(of_run.values()) for run_key, of_run in sums.items()}

    def _shared(
        self, sensors: Sensors, spans: Sequence[Span]
    ) -> Iterator[tuple[Stretch, Sequence[Span]]]:
        """Stretches, each with the spans by the clock of its node."""
        clocks = {key: shifts for run in self._runs for key, shifts in run.clocks.items()}
        if not clocks or not spans:
            yield from ((stretch, spans) for stretch in shared(self._source, sensors, spans))
            return
        # All that read a board are of its node. One that lasted too short to know its clock, or
        # knows it less well, is taken to have had the same.
        of_board = {
            one.board_key: clocks[one.recording_key]
            for one in sensors.values()
            if one.recording_key in clocks
        }
        alike: dict[Shifts, dict[int, Reading]] = defaultdict(dict)
        for key, one in sensors.items():
            alike[of_board.get(one.board_key, ())][key] = one
        for shifts, some in alike.items():
            by_clock = [part for span in spans for part in recorded_spans(shifts, span)]
            own = sorted(by_clock) if shifts else spans
            yield from ((stretch, own) for stretch in shared(self._source, some, own))


def _end_of(row: Any) -> int:
    return end_of(row["started_ms"], row["ended_ms"], row["heartbeat_ms"])


def _keys_of(row: Any) -> Sequence[int]:
    keys = row["device_keys"]
    found: Sequence[int] = json.loads(keys) if isinstance(keys, str) else keys
    return found


_READ_BY = """
select recordings.run_key, recordings.started_ms, recordings.ended_ms, recordings.heartbeat_ms,
    devices.device_keys
from recordings join recorded_devices devices on devices.recording_key = recordings.key
where (devices.meter <> :meter or not devices.is_alike) and {wanted}"""
_READ_BY_IN_FILE = """
select recordings.run_key, recordings.started_ms, recordings.ended_ms, recordings.heartbeat_ms,
    json_group_array(sensors.device_key) as device_keys
from recordings join sensors on sensors.recording_key = recordings.key
where sensors.meter <> :meter and {wanted} group by recordings.key"""


def repeats_itself(connection: Connection, run_key: int) -> bool:
    """Whether two recordings of a run read one device at one time."""
    by_device: dict[int, list[Span]] = defaultdict(list)
    for one in read_sensors(asking(connection).ask, f"recordings.run_key = {run_key}").values():
        by_device[one.of.device_key].append((one.from_ms, one.to_ms))
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
    found: dict[tuple[int, int], Part] = {}
    for stretch, part in _repeated_in(asking(connection).ask, run_key):
        _add(found, (part.key, stretch.hour_ms), part)
    return found


def within_buckets(
    connection: Connection,
    run_key: int,
    length_ms: int,
    span: Span,
    own: Mapping[int, Mapping[int, Part]],
) -> dict[tuple[int, int], Part]:
    """As `within_run`, by the sensor's key and the start of a bucket: of buckets of a round length
    that begin in a stretch of time. `own` is what each sensor has in those of the hours that this
    touches, by its key and their starts.
    """
    from_ms, to_ms = span
    hours = from_ms // MS_PER_HOUR * MS_PER_HOUR, -(-to_ms // MS_PER_HOUR) * MS_PER_HOUR
    ask = asking(connection).ask
    # Stretches are of whole seconds: these need no cuts.
    every_ms = length_ms if MS_PER_S < length_ms < MS_PER_HOUR else 0
    lost: dict[tuple[int, int], list[Lost]] = defaultdict(list)
    for stretch, part in _repeated_in(ask, run_key, hours, every_ms=every_ms):
        end_ms = stretch.start_ms + round(stretch.length_s * MS_PER_S)
        one = Lost(part.key, stretch.start_ms, end_ms, part.energy_j, part.seconds)
        lost[part.key, stretch.hour_ms].append(one)
    found: dict[tuple[int, int], Part] = {}
    for (key, hour_ms), of_hour in lost.items():
        of_sensor = {
            start_ms: part
            for start_ms, part in own.get(key, {}).items()
            if start_ms < hour_ms + MS_PER_HOUR and start_ms + length_ms > hour_ms
        }
        for start_ms, part in divided(of_hour, of_sensor, length_ms).items():
            if from_ms <= start_ms < to_ms:
                _add(found, (key, start_ms), part)
    return found


def _repeated_in(
    ask: Ask, run_key: int, *spans: Span, every_ms: int = 0
) -> Iterator[tuple[Stretch, Part]]:
    """What sensors of a run have of a stretch that an earlier recording of the run has, too."""
    sensors = read_sensors(ask, f"recordings.run_key = {run_key}")
    for stretch in shared(Source(ask, sensors), sensors, spans, every_ms=every_ms):
        parts = _in_order(stretch, sensors)
        for part in repeated(parts, stretch.length_s, [sensors[one.key].of for one in parts]):
            if part.seconds > 0:
                yield stretch, part


def _add(found: dict[tuple[int, int], Part], at: tuple[int, int], part: Part) -> None:
    found[at] = total(part.key, [found.get(at, Part(part.key, 0.0, 0.0)), part])


def _in_order(stretch: Stretch, sensors: Sensors) -> list[Part]:
    """The parts of these sensors, first those that count."""
    parts = (part for part in stretch.parts if part.key in sensors)
    return sorted(parts, key=lambda part: sensors[part.key].place)


def _between_runs(stretch: Stretch, sensors: Sensors) -> list[tuple[Reading, Part, Part]]:
    """What of each run and device, which a reading of it stands for, a run before it has, too, and
    what one may have besides. What a run has twice itself is not its.
    """
    readings, parts = [], []
    ordered = _in_order(stretch, sensors)
    for _, of_run in groupby(ordered, lambda part: sensors[part.key].run_key):
        own = list(of_run)
        of = [sensors[part.key].of for part in own]
        by_device: dict[int, list[tuple[Part, Part]]] = defaultdict(list)
        for on, part, twice in zip(of, own, repeated(own, stretch.length_s, of), strict=True):
            by_device[on.device_key].append((part, twice))
        for of_device in by_device.values():
            first = of_device[0][0]
            whole, twice = (total(first.key, some) for some in zip(*of_device, strict=True))
            left_j, left_s = whole.energy_j - twice.energy_j, whole.seconds - twice.seconds
            readings.append(sensors[first.key])
            parts.append(Part(first.key, left_j, left_s))
    of = [one.of for one in readings]
    lost = repeated(parts, stretch.length_s, of)
    if stretch.level_s == LEVELS_S[0]:  # a second is short enough
        maybe = [Part(part.key, 0.0, 0.0) for part in lost]
    else:
        maybe = unsure(parts, stretch.length_s, of)
    return list(zip(readings, lost, maybe, strict=True))


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
