"""Stretches of time in which several recordings read one board, a device with its MIG instances: as
they are kept, else as the finest windows say that all of them have.

Where they are made of minutes or hours, because seconds were dropped before the recordings met in
one ledger, they are as exact as the recordings are without gaps.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from operator import itemgetter
from typing import Any

from carbontrack.ledger.recorded_rows import Span, end_of
from carbontrack.ledger.sharing import Of, Part, Piece, Stretch, pieces, stretches
from carbontrack.ledger.sql import BOARD_KEY, in_parts, listed
from carbontrack.ledger.window import LEVELS_S
from carbontrack.units import MS_PER_DAY, MS_PER_HOUR, MS_PER_S, S_PER_HOUR, now_ms
from carbontrack.vocabulary import MeterName, RunKind

SETTLED_MS = 600_000
"""After so long, what a recorder writes is final."""
_ROWS_AT_ONCE = 100_000  # windows that are held in memory
_COMPLETE_S = 1e-4  # sums of seconds in another order

Ask = Callable[[str, Mapping[str, Any]], Iterable[Any]]
"""A statement and its values to rows, each a mapping from the names of its columns."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a recording read a device, from and to when, and its place among those that count."""

    key: int
    board_key: int
    of: Of
    uuid: str
    recording_key: int
    run_key: int
    from_ms: int
    to_ms: int
    final_ms: int  # up to when nothing will be added
    place: tuple[bool, int, str, int, str]


Sensors = Mapping[int, Reading]  # by key
Hours = Mapping[int, Mapping[int, Collection[int]]]  # sensors by hour and board


def read_sensors(
    ask: Ask, wanted: str, heard: str = "recordings.heartbeat_ms"
) -> dict[int, Reading]:
    """Those that meet this condition, as far as others can read the same: see
    `overlaps.is_shared`. Only who needs `final_ms` says what `heard` is: `set_clocks.heard_sql`.
    """
    rows = ask(
        f"select sensors.key, sensors.device_key, sensors.share, {BOARD_KEY} as board_key, "
        "devices.uuid, recordings.key as recording_key, "
        "recordings.id, recordings.run_key, recordings.started_ms, recordings.ended_ms, "
        "recordings.heartbeat_ms, runs.kind, runs.id as run_id, "
        f"runs.started_ms as run_started_ms, {heard} as heard_ms "
        "from sensors join devices on devices.key = sensors.device_key "
        "join recordings on recordings.key = sensors.recording_key "
        f"join runs on runs.key = recordings.run_key where sensors.meter <> :meter and {wanted}",
        {"meter": str(MeterName.CPU_MODEL)},
    )
    now = now_ms()
    return {row["key"]: _sensor(row, now) for row in rows}


def _sensor(row: Any, now: int) -> Reading:
    started_ms, heartbeat_ms = row["started_ms"], row["heartbeat_ms"]
    goes_on = row["ended_ms"] is None and row["heard_ms"] > now - SETTLED_MS
    is_watch = row["kind"] == RunKind.WATCH
    return Reading(
        key=row["key"],
        board_key=row["board_key"],
        of=Of(row["device_key"], row["share"]),
        uuid=row["uuid"],
        recording_key=row["recording_key"],
        run_key=row["run_key"],
        from_ms=started_ms,
        to_ms=end_of(started_ms, row["ended_ms"], heartbeat_ms),
        final_ms=heartbeat_ms - SETTLED_MS if goes_on else now + MS_PER_DAY,
        place=(is_watch, row["run_started_ms"], row["run_id"], started_ms, row["id"]),
    )


def board_keys(ask: Ask) -> dict[int, int]:
    """By the key of a MIG instance that of its parent, where the ledger has that, too."""
    rows = ask(
        "select devices.key, parents.key as board_key from devices "
        "join devices parents on parents.uuid = devices.mig_parent",
        {},
    )
    return {row["key"]: row["board_key"] for row in rows}


def with_boards(device_keys: Iterable[int], board_of: Mapping[int, int]) -> list[int]:
    """These devices, and what is of the same boards."""
    boards = {board_of.get(key, key) for key in device_keys}
    return sorted({*boards, *(key for key, board in board_of.items() if board in boards)})


def contested(sensors: Iterable[Reading]) -> dict[int, dict[int, set[int]]]:
    """By hour and board, the sensors that read some of it at the same time as another one."""
    found: dict[int, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    by_board: dict[int, list[Reading]] = defaultdict(list)
    for sensor in sorted(sensors, key=lambda one: one.from_ms):
        going = [one for one in by_board[sensor.board_key] if one.to_ms > sensor.from_ms]
        for other in going:
            if not sensor.of.conflicts(other.of):
                continue
            until_ms = min(other.to_ms, sensor.to_ms)
            for hour_ms in range(_hour_of(sensor.from_ms), until_ms, MS_PER_HOUR):
                found[hour_ms][sensor.board_key] |= {sensor.key, other.key}
        by_board[sensor.board_key] = [*going, sensor]
    return found


def _hour_of(time_ms: int) -> int:
    return time_ms // MS_PER_HOUR * MS_PER_HOUR


def _is_in_some(hour_ms: int, spans: Sequence[Span]) -> bool:
    """Whether some of an hour is in one of these spans, which are in order; one may have no end."""
    before = bisect_left(spans, (hour_ms + MS_PER_HOUR, 0))
    return before > 0 and spans[before - 1][1] > hour_ms


def shared(
    source: Source, sensors: Sensors, spans: Sequence[Span] = (), *, every_ms: int = 0
) -> Iterator[Stretch]:
    """The stretches in which several of these sensors read one board, in the hours of these spans:
    as they are kept, else as the finest windows say that all of them have. Of an hour that spans
    divide, which what is kept knows nothing of, as the seconds say where they are there.

    What is not kept is cut where spans begin and end, and at the multiples of `every_ms`.
    """
    hours: Hours = contested(sensors.values())
    if spans:
        hours = {hour_ms: of for hour_ms, of in hours.items() if _is_in_some(hour_ms, spans)}
    if not hours:
        return
    kept = source.kept(hours)
    of_spans = {
        edge_ms // MS_PER_S * MS_PER_S + more
        for span in spans
        for edge_ms in span
        for more in (0, MS_PER_S)
    }

    def windows_of(hour_ms: int, keys: Collection[int], level_s: int) -> list[tuple[int, Part]]:
        # Only where it is needed: for it all that is kept is looked at.
        return source.windows_of(hour_ms, keys, level_s)

    seconds = LEVELS_S[:1]
    divided = {_hour_of(edge_ms) for span in spans for edge_ms in span if edge_ms % MS_PER_HOUR}
    for hour_ms, boards in sorted(hours.items()):
        every = range(hour_ms, hour_ms + MS_PER_HOUR, every_ms) if every_ms else ()
        cuts = of_spans.union(every)
        left = dict(boards)
        if hour_ms in divided:
            for board_key, found in decided(windows_of, hour_ms, boards, sensors, seconds, cuts):
                del left[board_key]
                yield from found
        for board_key, keys in list(left.items()):
            found_before = kept.get((hour_ms, board_key), [])
            if covers(found_before, keys):
                del left[board_key]
                yield from found_before
        for _, found in decided(windows_of, hour_ms, left, sensors, LEVELS_S, cuts):
            yield from found


def covers(kept: Sequence[Stretch], keys: Collection[int]) -> bool:
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


class Source:
    """What a ledger has of the time that sensors share: read of all of them once, for any choice
    of them.
    """

    def __init__(self, ask: Ask, sensors: Sensors) -> None:
        self._ask = ask
        self._sensors = sensors

    def kept(self, hours: Hours) -> dict[tuple[int, int], list[Stretch]]:
        """What is kept of these hours, by hour and board."""
        found: dict[tuple[int, int], list[Stretch]] = {}
        for hour_ms, boards in hours.items():
            for board_key, keys in boards.items():
                for stretch in self._stretches.get((hour_ms, board_key), ()):
                    if not all(part.key in keys for part in stretch.parts):
                        parts = tuple(part for part in stretch.parts if part.key in keys)
                        stretch = _stretch(stretch.start_ms, parts)
                    if stretch.parts:
                        found.setdefault((hour_ms, board_key), []).append(stretch)
        return found

    @cached_property
    def _stretches(self) -> dict[tuple[int, int], list[Stretch]]:
        """What is kept, by hour and board, in order."""
        by_start: dict[tuple[int, int], list[Part]] = defaultdict(list)
        for start_ms, part in self._kept():
            by_start[start_ms, self._sensors[part.key].board_key].append(part)
        found: dict[tuple[int, int], list[Stretch]] = defaultdict(list)
        for (start_ms, board_key), parts in sorted(by_start.items(), key=itemgetter(0)):
            found[_hour_of(start_ms), board_key].append(_stretch(start_ms, tuple(parts)))
        return found

    @cached_property
    def _hours(self) -> Hours:
        return contested(self._sensors.values())

    def _kept(self) -> Iterator[tuple[int, Part]]:
        """(start in ms, part), in the order of the sensors."""
        keys = {key for of in self._hours.values() for keys in of.values() for key in keys}
        for some in in_parts(sorted(keys)):
            rows = self._ask(
                'select sensor_key, start_ms, energy_j, seconds from "overlaps" '
                f"where sensor_key in ({listed(some)}) "
                "and start_ms >= :from_ms and start_ms < :to_ms order by sensor_key",
                {"from_ms": min(self._hours), "to_ms": max(self._hours) + MS_PER_HOUR},
            )
            for row in rows:
                yield row["start_ms"], Part(row["sensor_key"], row["energy_j"], row["seconds"])

    @cached_property
    def windows_of(self) -> WindowsOf:
        """Windows of an hour of these sensors."""
        kept = self.kept(self._hours)
        left = {
            hour_ms: {
                board_key: keys
                for board_key, keys in boards.items()
                if not covers(kept.get((hour_ms, board_key), ()), keys)
            }
            for hour_ms, boards in self._hours.items()
        }
        return WindowsOf(self._ask, self._sensors, {at: of for at, of in left.items() if of})


def _stretch(start_ms: int, parts: tuple[Part, ...]) -> Stretch:
    """In a stretch of several seconds all have all of it."""
    return Stretch(start_ms, max([1.0, *(part.seconds for part in parts)]), parts)


def decided(
    windows_of: Callable[[int, Collection[int], int], list[tuple[int, Part]]],
    hour_ms: int,
    boards: Mapping[int, Collection[int]],
    sensors: Sensors,
    levels: Sequence[int],
    cuts_ms: Collection[int] = frozenset(),
) -> Iterator[tuple[int, list[Stretch]]]:
    """(board, stretches of the hour) as the windows say: of the first of these levels of which all
    the board's sensors have as much as of hours. Boards without one are left out.
    """
    left = {key: board for board, keys in boards.items() for key in keys}
    whole_s = _covered(windows_of(hour_ms, left, LEVELS_S[-1])) if left else {}
    for level_s in levels:
        if not left:
            return
        windows = windows_of(hour_ms, left, level_s)
        covered_s = _covered(windows)
        lacking = {
            board
            for key, board in left.items()
            if abs(covered_s.get(key, 0.0) - whole_s.get(key, 0.0)) > _COMPLETE_S
        }
        by_board: dict[int, list[tuple[int, Part]]] = {
            board: [] for board in left.values() if board not in lacking
        }
        for start_ms, part in windows:
            if (board := left[part.key]) in by_board:
                by_board[board].append((start_ms, part))
        for board, of_board in by_board.items():
            found = _pieces(of_board, hour_ms, level_s, sensors, cuts_ms)
            yield board, list(stretches(found, level_s, cuts_ms))
        left = {key: board for key, board in left.items() if board in lacking}


def _pieces(
    windows: Iterable[tuple[int, Part]],
    hour_ms: int,
    level_s: int,
    sensors: Sensors,
    cuts_ms: Collection[int],
) -> Iterable[Piece]:
    """The windows of a board in an hour: seconds as they are, longer ones cut."""
    if level_s == LEVELS_S[0]:
        return (Piece(start_ms, level_s, part) for start_ms, part in windows)
    of_hour = list(windows)
    spans = {part.key: sensors[part.key] for _, part in of_hour}
    spans_ms = {key: (sensor.from_ms, sensor.to_ms) for key, sensor in spans.items()}
    cuts = (cut for cut in cuts_ms if hour_ms < cut < hour_ms + MS_PER_HOUR)
    return pieces(of_hour, level_s, spans_ms, cuts)


class WindowsOf:
    """The windows of sensors in an hour: (start in ms, part), by time and sensor. Of a level they
    are asked for from hour to hour, and read of as many of these hours at once as there is room
    for.
    """

    def __init__(self, ask: Ask, sensors: Sensors, hours: Hours) -> None:
        self._ask = ask
        self._sensors = sensors
        self._hours = hours
        self._order = sorted(hours)
        self._held: dict[int, dict[int, list[tuple[int, Part]]]] = {}  # by level and hour

    def __call__(self, hour_ms: int, keys: Collection[int], level_s: int) -> list[tuple[int, Part]]:
        planned = set().union(*self._hours.get(hour_ms, {}).values())
        if not planned >= set(keys):  # of an hour that a span divides
            return self._read(hour_ms, level_s, keys)[hour_ms]
        held = self._held.get(level_s, {})
        if hour_ms not in held:
            held = self._held[level_s] = self._read(hour_ms, level_s)
        return [row for row in held[hour_ms] if row[1].key in keys]

    def _read(
        self, hour_ms: int, level_s: int, alone: Collection[int] = ()
    ) -> dict[int, list[tuple[int, Part]]]:
        """Of some sensors in this hour alone, or of all in this one and those after it."""
        keys = set(alone)
        found: dict[int, list[tuple[int, Part]]] = {hour_ms: []}
        for at_ms in [] if alone else self._order[bisect_left(self._order, hour_ms) :]:
            more = keys.union(*self._hours[at_ms].values())
            hours = 1 + (at_ms - hour_ms) // MS_PER_HOUR
            if at_ms > hour_ms and len(more) * hours * S_PER_HOUR > level_s * _ROWS_AT_ONCE:
                break
            keys, found[at_ms] = more, []
        recordings = {self._sensors[key].recording_key for key in keys}
        rows = self._ask(
            "select start_ms, sensor_key, energy_j, energy_s "
            "from windows_between(:level, :from_ms, :to_ms) windows "
            f"where recording_key in ({listed(sorted(recordings))}) "
            f"and sensor_key in ({listed(sorted(keys))}) order by start_ms, sensor_key",
            {"level": level_s, "from_ms": hour_ms, "to_ms": max(found) + MS_PER_HOUR},
        )
        for row in rows:
            part = Part(row["sensor_key"], row["energy_j"] or 0.0, row["energy_s"])
            if (of_hour := found.get(_hour_of(row["start_ms"]))) is not None:
                of_hour.append((row["start_ms"], part))
        return found


def _covered(windows: Iterable[tuple[int, Part]]) -> dict[int, float]:
    """The time that the windows of each sensor account for, in s."""
    found: dict[int, float] = defaultdict(float)
    for _, part in windows:
        found[part.key] += part.seconds
    return found
