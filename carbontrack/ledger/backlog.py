"""What a ledger has and another one lacks: the local ledger is the queue of what is shipped.

A watermark per recording and target says how far that has come. It moves only when a batch has been
acknowledged, so what is lost on the way is sent again; what comes twice is there once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from operator import itemgetter
from typing import Any

from carbontrack.ledger import late_minutes, live_row
from carbontrack.ledger.batch import Batch, Held
from carbontrack.ledger.joined import Row
from carbontrack.ledger.outcome import HEARTBEAT_STALE_MS, is_stale
from carbontrack.ledger.packed import Segment, minute_of, pack, segment_of
from carbontrack.ledger.rows import (
    Amendment,
    ClockOffset,
    OverlapPart,
    Recording,
    Run,
    Sensor,
    ShippedTombstone,
    Tombstone,
    Watermark,
)
from carbontrack.ledger.shipped_seconds import NO_SECONDS, Seconds
from carbontrack.ledger.tables import (
    AMENDMENTS,
    CLOCKS,
    EVENTS,
    IMPORTS,
    OVERLAPS,
    RECORDINGS,
    RUNS,
    SHIPPED_TOMBSTONES,
    STATED,
    STEPS,
    TOMBSTONES,
    WATERMARKS,
    WINDOWS,
    Table,
)
from carbontrack.ledger.transaction import Transaction
from carbontrack.ledger.window import LEVELS_S, Window
from carbontrack.units import MS_PER_HOUR, MS_PER_S

_SECOND, _MINUTE, _HOUR = LEVELS_S
_STEPS_AGAIN_MS = 30_000  # a step of another rank may come later with an earlier time
_MOST_ROWS = 5_000  # in a batch, of each kind
_MOST_CLOCKS = 100
_NEWEST_FIRST = "order by time_ms + offset_ms desc"  # a clock that is set may go back
_NEVER_MS = 1 << 62  # as far as which all is shipped of what a target does not want
_MOST_LATE = 200  # minutes of a sensor, each asked for by itself
_MINUTE_MS = _MINUTE * MS_PER_S
_start_ms, _sensor = map(itemgetter, map(WINDOWS.columns.index, ("start_ms", "sensor_key")))


@dataclass(frozen=True, slots=True)
class Part:
    """What comes next of a recording, and its watermark once that is acknowledged."""

    batch: Batch
    before: Watermark | None  # as it is; None before `begin`
    mark: Watermark
    complete: bool  # nothing else waits now


def recordings(transaction: Transaction, target: str, seconds: Seconds = NO_SECONDS) -> list[str]:
    """The ids of those with something that the target lacks, the newest first; and of those of the
    runs all of whose seconds are shipped.
    """
    found = transaction.ask(
        f"select recordings.id from {_LACKED} "
        "order by recordings.started_ms desc, recordings.key desc",
        {"target": target},
    )
    ids = [row["id"] for row in found]
    return list(dict.fromkeys([*ids, *recordings_of(transaction, seconds.runs)]))


def how_many_stopped(transaction: Transaction, target: str, *, now_ms: int) -> int:
    """How many recordings that the target lacks something of have ended or stopped, so that no
    recorder goes on to ship them.
    """
    stopped = "ended_ms is not null or heartbeat_ms < :stale"
    values = {"target": target, "stale": now_ms - HEARTBEAT_STALE_MS}
    (found,) = transaction.ask(f"select count(*) as n from {_LACKED} and ({stopped})", values)
    return int(found["n"])


def arrived(transaction: Transaction, target: str) -> Iterator[dict[str, Any]]:
    """The recordings of which the target has something, and how much: `is_whole` says all, as far
    as it and every other target is concerned.
    """
    lacked = f"sum(case when shipped_ms < {_STATE} then 1 else 0 end)"
    return transaction.ask(
        "select recordings.key, recordings.id, recordings.started_ms, ended_ms, "
        "coalesce(ended_ms, heartbeat_ms) as end_ms, min(seconds_ms) as seconds_ms, "
        f"min(minutes_ms) as minutes_ms, {lacked} = 0 as is_whole "
        "from recordings join watermarks on watermarks.recording_key = recordings.key "
        "group by recordings.key "
        "having sum(case when watermarks.target = :target then 1 else 0 end) > 0",
        {"target": target},
    )


def recordings_of(transaction: Transaction, run_ids: Iterable[str]) -> list[str]:
    """The ids of the recordings of these runs."""
    asked = (
        "select recordings.id from recordings join runs on runs.key = recordings.run_key "
        "where runs.id = :run"
    )
    return [row["id"] for id in run_ids for row in transaction.ask(asked, {"run": id})]


def next_part(
    transaction: Transaction,
    recording_id: str,
    target: str,
    *,
    seconds: Seconds,
    now_ms: int,
) -> Part | None:
    """The next rows of a recording, the coarse ones first; None if it is not in the ledger.

    While it goes on, minutes before its heartbeat are shipped, with their seconds and with the
    hours so far, and once more when they were written into later; before the first minute is over,
    hours alone. Once it has ended or stopped, all there is.
    """
    found = _recording(transaction, recording_id)
    if found is None:
        return None
    key, run, recording = found
    before = _mark(transaction, key, target)
    mark = before or _begun(target)
    ended = recording.ended_ms is not None
    goes_on = not ended and not is_stale(recording, now_ms=now_ms)
    end_ms = recording.end_ms + MS_PER_HOUR
    open_ms = recording.heartbeat_ms // _MINUTE_MS * _MINUTE_MS  # from here on more may come
    until_ms = open_ms if goes_on else end_ms
    rows = _Rows(transaction, key)
    minutes = rows.windows(_MINUTE, mark.minutes_ms, until_ms)
    hours = None
    if minutes.rows or not goes_on or not mark.minutes_ms:
        hours = rows.windows(_HOUR, mark.hours_ms, end_ms)
    first_ms = seconds.first_ms(run.id, now_ms)
    fine = None
    if first_ms is not None:
        fine = rows.seconds(max(first_ms, mark.seconds_ms), until_ms)
    late = rows.late(mark, first_ms)
    steps = rows.steps(mark.steps_ms)
    events = rows.events(mark.events)
    windows = [part for part in (hours, minutes, late, fine) if part is not None]
    complete = not any(part.more for part in (*windows, steps, events))
    last_hour_ms = (recording.end_ms if ended else open_ms) // MS_PER_HOUR * MS_PER_HOUR
    hours_ms = mark.hours_ms
    if hours is not None:
        hours_ms = hours.next if hours.more else max(hours_ms, last_hour_ms)
    sensors = rows.sensors
    now = live_row.of_recording(transaction, recording, list(sensors)) if goes_on else None
    most_ms = end_ms if ended else open_ms
    return Part(
        batch=Batch(
            run=run,
            recording=recording,
            sensors=tuple(sensors.values()),
            live=now,
            windows=tuple(chain.from_iterable(part.rows for part in windows)),
            segments=tuple(chain.from_iterable(part.segments for part in windows)),
            steps=tuple(steps.rows),
            events=tuple(events.rows),
            clocks=tuple(rows.clocks()),
            amendments=tuple(_amendments(transaction, run.id)),
            stated=tuple(_of_run(transaction, STATED, run.key)),
            imports=tuple(_of_run(transaction, IMPORTS, run.key)),
            overlaps=tuple(rows.overlaps()) if complete and ended else (),
            final=complete and ended,
        ),
        before=before,
        mark=replace(
            mark,
            hours_ms=hours_ms,
            minutes_ms=min(minutes.next, most_ms),
            seconds_ms=min(fine.next, most_ms) if fine else mark.seconds_ms,
            steps_ms=steps.next,
            events=events.next,
            late=late.next,
            shipped_ms=_state(transaction, key) if complete and not goes_on else mark.shipped_ms,
        ),
        complete=complete,
    )


def begin(transaction: Transaction, recording_id: str, target: str) -> None:
    """Let there be a watermark of a recording, before anything of it is shipped: from then on what
    is written late is noted.
    """
    for key in _keys_of(transaction, recording_id):
        fresh = WATERMARKS.written(_begun(target), recording_key=key)
        transaction.write(WATERMARKS.insert_once, [fresh])


def set_mark(transaction: Transaction, recording_id: str, part: Part) -> bool:
    """Write down how far a recording has been shipped. Whether that was so: not where its watermark
    has changed or gone since, because there is more to ship, or the recording has.
    """
    for key in _keys_of(transaction, recording_id):
        if part.before and part.before == _mark(transaction, key, part.before.target):
            written = WATERMARKS.written(part.mark, recording_key=key)
            transaction.write(WATERMARKS.upsert, [written])
            return True
    return False


def ship_all_again(transaction: Transaction, target: str) -> None:
    """Forget what was shipped to a target, tombstones too."""
    for table in (WATERMARKS, SHIPPED_TOMBSTONES):
        transaction.write(f"delete from {table.name} where target = :target", [{"target": target}])


def ship_seconds_again(transaction: Transaction, target: str, run_ids: Iterable[str]) -> None:
    """Forget which seconds of these runs were shipped: older ones may have been passed over."""
    transaction.write(
        "update watermarks set seconds_ms = 0 where target = :target and recording_key in "
        "(select recordings.key from recordings join runs on runs.key = recordings.run_key "
        "where runs.id = :run)",
        [{"target": target, "run": id} for id in run_ids],
    )


def put_clock(transaction: Transaction, recording_id: str, clock: ClockOffset) -> None:
    """Write down how far the clock of a recording's node is off."""
    for row in transaction.ask("select key from recordings where id = :id", {"id": recording_id}):
        transaction.write(CLOCKS.upsert, [CLOCKS.written(clock, recording_key=row["key"])])
        return


def last_clock(transaction: Transaction) -> ClockOffset | None:
    """The newest of all."""
    found = transaction.ask(f"{CLOCKS.query} {_NEWEST_FIRST} limit 1", {})
    return next((_read(CLOCKS, row) for row in found), None)


def set_unwanted(transaction: Transaction, recording_id: str, part: Part) -> None:
    """Write down that a target takes nothing more of a recording: its run was removed there."""
    never = replace(part.mark, shipped_ms=_NEVER_MS)
    set_mark(transaction, recording_id, replace(part, mark=never))


def tombstones(transaction: Transaction, target: str) -> list[Tombstone]:
    """Those that the target does not have, the oldest first."""
    found = transaction.ask(
        f"{TOMBSTONES.query} where not exists (select 1 from shipped_tombstones shipped "
        "where shipped.run_id = tombstones.run_id and shipped.target = :target) "
        "order by time_ms, run_id",
        {"target": target},
    )
    return [_read(TOMBSTONES, row) for row in found]


def set_tombstone_shipped(transaction: Transaction, run_id: str, target: str) -> None:
    """Write down that the target has a tombstone."""
    row = SHIPPED_TOMBSTONES.written(ShippedTombstone(run_id, target))
    transaction.write(SHIPPED_TOMBSTONES.insert_once, [row])


def ship_tombstones_again(transaction: Transaction, run_ids: Iterable[str]) -> None:
    """Forget that the tombstones of these runs were shipped."""
    transaction.write(
        "delete from shipped_tombstones where run_id = :id", [{"id": id} for id in run_ids]
    )


def ship_again(transaction: Transaction, recording_ids: Iterable[str]) -> None:
    """Forget what was shipped of these: rows that the target lacks have come into the ledger."""
    transaction.write(
        "delete from watermarks where recording_key in (select key from recordings where id = :id)",
        [{"id": id} for id in recording_ids],
    )


def amended(transaction: Transaction, run_id: str) -> None:
    """Let the recordings of a run be shipped once more, for it was amended."""
    transaction.write(
        "update watermarks set shipped_ms = 0 where recording_key in (select recordings.key "
        "from recordings join runs on runs.key = recordings.run_key where runs.id = :id)",
        [{"id": run_id}],
    )


def decided(transaction: Transaction, sensor_keys: Iterable[int]) -> None:
    """Let the recordings of these sensors be shipped once more: what they share is decided."""
    transaction.write(
        "update watermarks set shipped_ms = 0 where recording_key in "
        "(select recording_key from sensors where key = :key)",
        [{"key": key} for key in sensor_keys],
    )


def held(transaction: Transaction, recording_id: str) -> Held:
    """How many rows of a recording this ledger holds: what two ledgers compare at its end."""
    counts = (
        "(select count(*) from steps where recording_key = recordings.key) as steps, "
        "(select count(*) from events where recording_key = recordings.key) as events, "
        "(select count(*) from windows where recording_key = recordings.key and level = 60) "
        "as minutes, "
        "(select coalesce(sum(energy_j), 0) from windows where recording_key = recordings.key "
        "and level = 3600) as hours_j"
    )
    found = transaction.ask(f"select {counts} from recordings where id = :id", {"id": recording_id})
    row = next(found, None) or {"steps": 0, "events": 0, "minutes": 0, "hours_j": 0.0}
    return Held(row["steps"], row["events"], row["minutes"], round(row["hours_j"] * 1000))


# A number that grows with a recording, also by its end alone.
_STATE = (
    "case when ended_ms is null then heartbeat_ms "
    "when ended_ms > heartbeat_ms then ended_ms + 1 else heartbeat_ms + 1 end"
)


# The recordings with something that a target lacks; a run that was removed only awaits its end.
_LACKED = (
    "recordings left join watermarks on watermarks.recording_key = recordings.key "
    "and watermarks.target = :target "
    f"where (watermarks.shipped_ms is null or watermarks.shipped_ms < {_STATE}) "
    "and recordings.run_key not in "
    "(select key from runs where id in (select run_id from tombstones))"
)


def _recording(transaction: Transaction, id: str) -> tuple[int, Run, Recording] | None:
    found = next(transaction.ask(f"{RECORDINGS.query} where id = :id", {"id": id}), None)
    if found is None:
        return None
    of_run = {"key": found["run_key"]}
    (run,) = transaction.ask(f"{RUNS.query} where key = :key", of_run)
    made = replace(_read(RUNS, run), key=run["key"])
    return found["key"], made, replace(_read(RECORDINGS, found), key=found["key"])


def _state(transaction: Transaction, key: int) -> int:
    asked = f"select {_STATE} as state from recordings where key = :key"
    (found,) = transaction.ask(asked, {"key": key})
    return int(found["state"])


def _keys_of(transaction: Transaction, recording_id: str) -> list[int]:
    """The key of a recording, if it is there."""
    found = transaction.ask("select key from recordings where id = :id", {"id": recording_id})
    return [row["key"] for row in found]


def _mark(transaction: Transaction, recording_key: int, target: str) -> Watermark | None:
    found = transaction.ask(
        "select * from watermarks where recording_key = :key and target = :target",
        {"key": recording_key, "target": target},
    )
    return next(map(WATERMARKS.read, found), None)


def _begun(target: str) -> Watermark:
    return Watermark(target, 0, 0, 0, 0, 0, 0, 0)


def _amendments(transaction: Transaction, run_id: str) -> Iterator[Amendment]:
    found = transaction.ask(
        f"{AMENDMENTS.query} where run_id = :run order by time_ms, id", {"run": run_id}
    )
    for row in found:
        yield _read(AMENDMENTS, row)


def _of_run(transaction: Transaction, table: Table[Any], run_key: int) -> Iterator[Any]:
    found = transaction.ask(f"{table.query} where run_key = :run", {"run": run_key})
    for row in found:
        yield _read(table, row)


@dataclass(frozen=True, slots=True)
class _Found:
    """Some rows, where the next begin, and whether there are more."""

    rows: list[Any]
    next: int
    more: bool
    segments: Sequence[tuple[str, Segment]] = ()


class _Rows:
    """Rows of one recording in their order."""

    def __init__(self, transaction: Transaction, key: int) -> None:
        self._transaction = transaction
        self._key = key
        self.sensors = _sensors(transaction, key)

    def windows(self, level_s: int, from_ms: int, until_ms: int) -> _Found:
        """Of one level, that begin from one time on, and before the other."""
        found = self._windows(level_s, from_ms, until_ms)
        rows = [self._window(row) for row in found]
        more = len(found) == self._most
        if not rows:
            return _Found(rows, from_ms, more)
        last_ms = rows[-1][1].start_ms  # of which not all may be there
        return _Found(rows, last_ms if more else last_ms + level_s * MS_PER_S, more)

    def seconds(self, from_ms: int, until_ms: int) -> _Found:
        """Packed by whole minutes; as rows those that do not fit."""
        found = self._windows(_SECOND, from_ms, until_ms)
        more = len(found) == self._most
        if not found:
            return _Found([], from_ms, more)
        last_ms = _start_ms(found[-1])
        next_ms = last_ms // _MINUTE_MS * _MINUTE_MS if more else last_ms + _SECOND * MS_PER_S
        odd, segments = self._packed([row for row in found if _start_ms(row) < next_ms])
        return _Found(odd, next_ms, more, segments)

    def late(self, mark: Watermark, first_ms: int | None) -> _Found:
        """What was written into minutes since they were shipped: with their hours, and with their
        seconds from `first_ms` on, or without.
        """
        late = late_minutes.since(self._transaction, self._key, mark.late, most=_MOST_LATE)
        shipped_ms = max(mark.minutes_ms, mark.seconds_ms)
        minutes = {(key, one.start_ms) for key, one in late if one.start_ms < shipped_ms}
        hours = {(key, start_ms // MS_PER_HOUR * MS_PER_HOUR) for key, start_ms in minutes}
        rows: list[Any] = []
        fine: list[Row] = []
        for level_s, places in ((_MINUTE, minutes), (_HOUR, hours)):
            for key, start_ms in sorted(places):
                found = self._windows(level_s, start_ms, start_ms + 1, sensor_key=key)
                rows += [self._window(row) for row in found]
        for key, start_ms in sorted(minutes):
            if first_ms is not None and start_ms >= first_ms:
                fine += self._windows(_SECOND, start_ms, start_ms + _MINUTE_MS, sensor_key=key)
        odd, segments = self._packed(fine)
        last = max((one.number for _, one in late), default=mark.late)
        return _Found(rows + odd, last, len(late) == _MOST_LATE, segments)

    @property
    def _most(self) -> int:
        """More than two minutes have, so that there is always a next one."""
        return max(_MOST_ROWS, 2 * _MINUTE * len(self.sensors))

    def _windows(
        self, level_s: int, from_ms: int, until_ms: int, *, sensor_key: int | None = None
    ) -> list[Row]:
        of_sensor = "" if sensor_key is None else "and sensor_key = :sensor "
        found = self._transaction.ask(
            f"select {', '.join(WINDOWS.columns)} "
            "from windows_between(:level, :from_ms, :until_ms) windows "
            f"where recording_key = :key {of_sensor}order by start_ms, sensor_key "
            f"limit {self._most}",
            {
                "key": self._key,
                "level": level_s,
                "from_ms": from_ms,
                "until_ms": until_ms,
                **({} if sensor_key is None else {"sensor": sensor_key}),
            },
        )
        return [tuple(row.values()) for row in found]

    def _window(self, row: Row) -> tuple[str, Window]:
        """With the UUID of its device."""
        return self._uuid(_sensor(row)), WINDOWS.read(dict(zip(WINDOWS.columns, row, strict=True)))

    def _packed(
        self, rows: Sequence[Row]
    ) -> tuple[list[tuple[str, Window]], list[tuple[str, Segment]]]:
        """Seconds by the minute, and those that do not fit."""
        minutes: dict[Any, list[Row]] = defaultdict(list)
        for row in rows:
            minutes[minute_of(row)].append(row)
        odd: list[tuple[str, Window]] = []
        segments: list[tuple[str, Segment]] = []
        for (_, _, sensor), of_minute in minutes.items():
            segment, others = pack(of_minute)
            odd += map(self._window, others)
            if segment is not None:
                segments.append((self._uuid(sensor), segment_of(segment)))
        return odd, segments

    def _uuid(self, sensor_key: int) -> str:
        return self.sensors[sensor_key].uuid

    def steps(self, from_ms: int) -> _Found:
        """Those of a time on; the last of them come again."""
        found = list(
            self._transaction.ask(
                f"{STEPS.query} where recording_key = :key and time_ms >= :from_ms "
                f"order by time_ms limit {_MOST_ROWS}",
                {"key": self._key, "from_ms": from_ms},
            )
        )
        more = len(found) == _MOST_ROWS
        if more and found[-1]["time_ms"] == from_ms:  # so many have the same time
            found = list(
                self._transaction.ask(
                    f"{STEPS.query} where recording_key = :key and time_ms >= :from_ms",
                    {"key": self._key, "from_ms": from_ms},
                )
            )
            more = False
        rows = [_read(STEPS, row) for row in found]
        last_ms = max((row.time_ms for row in rows), default=from_ms)
        return _Found(rows, last_ms if more else max(from_ms, last_ms - _STEPS_AGAIN_MS), more)

    def overlaps(self) -> Iterator[tuple[str, OverlapPart]]:
        """All that is kept of the time that others recorded, too, with the UUID of the device."""
        found = self._transaction.ask(
            f"{OVERLAPS.query} where sensor_key in (select key from sensors where "
            "recording_key = :key) order by sensor_key, start_ms",
            {"key": self._key},
        )
        for row in found:
            yield self.sensors[row["sensor_key"]].uuid, _read(OVERLAPS, row)

    def clocks(self) -> Iterator[ClockOffset]:
        """All that is known of the node's clock, the newest first; there are few."""
        found = self._transaction.ask(
            f"{CLOCKS.query} where recording_key = :key {_NEWEST_FIRST} limit {_MOST_CLOCKS}",
            {"key": self._key},
        )
        for row in found:
            yield _read(CLOCKS, row)

    def events(self, number: int) -> _Found:
        """Those of a number on."""
        found = list(
            self._transaction.ask(
                f"{EVENTS.query} where recording_key = :key and number >= :number "
                f"order by number limit {_MOST_ROWS}",
                {"key": self._key, "number": number},
            )
        )
        rows = [(row["number"], _read(EVENTS, row)) for row in found]
        following = rows[-1][0] + 1 if rows else number
        return _Found(rows, following, len(found) == _MOST_ROWS)


def _sensors(transaction: Transaction, recording_key: int) -> dict[int, Sensor]:
    found = transaction.ask(
        "select sensors.*, devices.uuid, devices.kind, devices.name, devices.mig_parent "
        "from sensors join devices on devices.key = sensors.device_key "
        "where sensors.recording_key = :key order by sensors.key",
        {"key": recording_key},
    )
    names = [name for name in Sensor.__dataclass_fields__ if name not in ("device_key", "spans_ms")]
    return {row["key"]: Sensor(**{name: row[name] for name in names}) for row in found}


def _read(table: Table[Any], columns: Mapping[str, Any]) -> Any:
    """The row of a `Table.query`."""
    return table.read(table.parsed(tuple(columns.values())))
