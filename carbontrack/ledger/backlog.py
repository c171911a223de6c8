"""What a ledger has and another one lacks: the local ledger is the queue of what is shipped.

A watermark per recording and target says how far that has come. It moves only when a batch has been
acknowledged, so what is lost on the way is sent again; what comes twice is there once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from carbontrack.ledger import live_row
from carbontrack.ledger.batch import Batch, Held
from carbontrack.ledger.next_rows import NEWEST_FIRST, Rows, read_row
from carbontrack.ledger.outcome import HEARTBEAT_STALE_MS, is_stale
from carbontrack.ledger.recorded_rows import Amendment, Recording, Run
from carbontrack.ledger.rows import ClockOffset, ShippedTombstone, Tombstone, Watermark
from carbontrack.ledger.set_clocks import with_set
from carbontrack.ledger.shipped_seconds import NO_SECONDS, Seconds
from carbontrack.ledger.sqlite import SET_MS
from carbontrack.ledger.tables import (
    AMENDMENTS,
    CLOCKS,
    IMPORTS,
    RECORDINGS,
    RUNS,
    SHIPPED_TOMBSTONES,
    STATED,
    TOMBSTONES,
    WATERMARKS,
    Table,
)
from carbontrack.ledger.transaction import Transaction
from carbontrack.ledger.window import LEVELS_S
from carbontrack.units import MS_PER_HOUR, MS_PER_S

_SECOND, _MINUTE, _HOUR = LEVELS_S
_NEVER_MS = 1 << 62  # as far as which all is shipped of what a target does not want
_MINUTE_MS = _MINUTE * MS_PER_S


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


def of_recorder(
    transaction: Transaction, target: str, recording_id: str, *, now_ms: int
) -> list[str]:
    """The ids of those that the recorder of one ships, its own first: a recording that goes on has
    a recorder that does.
    """
    found = transaction.ask(
        f"select recordings.id from {_LACKED} and (recordings.id = :own or {_STOPPED}) "
        "order by recordings.id = :own desc, recordings.started_ms desc, recordings.key desc",
        {"target": target, "own": recording_id, "stale": now_ms - HEARTBEAT_STALE_MS},
    )
    return [row["id"] for row in found]


def how_many_stopped(transaction: Transaction, target: str, *, now_ms: int) -> int:
    """How many recordings that the target lacks something of have ended or stopped, so that no
    recorder goes on to ship them.
    """
    values = {"target": target, "stale": now_ms - HEARTBEAT_STALE_MS}
    (found,) = transaction.ask(f"select count(*) as n from {_LACKED} and {_STOPPED}", values)
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
    goes_on = not ended and not is_stale(with_set(transaction, recording, now_ms), now_ms=now_ms)
    end_ms = recording.end_ms + MS_PER_HOUR
    open_ms = recording.heartbeat_ms // _MINUTE_MS * _MINUTE_MS  # from here on more may come
    until_ms = open_ms if goes_on else end_ms
    rows = Rows(transaction, key)
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
            amendments=tuple(amendments(transaction, run.id)),
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
    found = transaction.ask(f"{CLOCKS.query} {NEWEST_FIRST} limit 1", {})
    return next((read_row(CLOCKS, row) for row in found), None)


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
    return [read_row(TOMBSTONES, row) for row in found]


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


def amendments(transaction: Transaction, run_id: str) -> Iterator[Amendment]:
    """Those of a run, oldest first."""
    found = transaction.ask(
        f"{AMENDMENTS.query} where run_id = :run order by time_ms, id", {"run": run_id}
    )
    for row in found:
        yield read_row(AMENDMENTS, row)


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
_STOPPED = f"(ended_ms is not null or heartbeat_ms + {SET_MS} < :stale)"


def _recording(transaction: Transaction, id: str) -> tuple[int, Run, Recording] | None:
    found = next(transaction.ask(f"{RECORDINGS.query} where id = :id", {"id": id}), None)
    if found is None:
        return None
    of_run = {"key": found["run_key"]}
    (run,) = transaction.ask(f"{RUNS.query} where key = :key", of_run)
    made = replace(read_row(RUNS, run), key=run["key"])
    return found["key"], made, replace(read_row(RECORDINGS, found), key=found["key"])


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


def _of_run(transaction: Transaction, table: Table[Any], run_key: int) -> Iterator[Any]:
    found = transaction.ask(f"{table.query} where run_key = :run", {"run": run_key})
    for row in found:
        yield read_row(table, row)
