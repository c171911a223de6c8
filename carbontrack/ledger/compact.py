"""Fine windows dropped when they are old, with every total unchanged.

An hour of a recording goes in one transaction, so that a recorder never waits for long, and only
where the hour's own row has all that its seconds or minutes add up to.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from carbontrack.errors import CarbontrackError
from carbontrack.ledger import kept_overlaps
from carbontrack.ledger.contested import SETTLED_MS
from carbontrack.ledger.engine import NoLedger, errors_in_one_line
from carbontrack.ledger.journals import waiting
from carbontrack.ledger.set_clocks import heard_sql
from carbontrack.ledger.settle import TOLERANCE_J, TOLERANCE_S
from carbontrack.ledger.sqlite import is_recorded
from carbontrack.ledger.transaction import WritableLedger, open_ledger
from carbontrack.ledger.url import db_option, redacted_url, sqlite_path
from carbontrack.ledger.window import LEVELS_S
from carbontrack.units import MS_PER_DAY, MS_PER_HOUR, now_ms

_GONE_MS = MS_PER_DAY  # a recorder without a heartbeat for so long does not come back
_WORTH_IT = 0.1  # of a file


@dataclass
class Compacted:
    """What was dropped."""

    windows: dict[int, int] = field(default_factory=dict)  # by level in s, how many
    left_hours: int = 0  # whose seconds or minutes do not add up to them: see verify
    freed_bytes: int = 0  # of a file; what else is free in it is used again


def compact(
    url: str,
    keep_ms: Mapping[int, int],
    *,
    dry_run: bool = False,
    now: int | None = None,
    progress: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> Compacted:
    """Drop the windows of each level in s that are older than so many ms at `now` (ms), in whole
    hours that are over; with `dry_run` only count them. Then give the room in a file back, if it is
    worth it and no recorder writes.

    Raises CarbontrackError if there is no ledger, it cannot be written, or journals wait, whose
    seconds would come too late.
    """
    path = sqlite_path(url)
    if path is not None and not path.exists():
        raise NoLedger(url)
    if count := len(waiting(url)):
        wait = "journal waits" if count == 1 else "journals wait"
        what = f"{count} {wait} for the ledger {redacted_url(url)}; their seconds would be lost."
        raise CarbontrackError(what, hint=f"Run first: carbontrack db recover{db_option(url)}")
    done = Compacted(windows=dict.fromkeys(sorted(keep_ms), 0))
    now = now_ms() if now is None else now
    with errors_in_one_line(url), closing(open_ledger(url)) as ledger:
        with ledger.begin() as transaction:
            asked = f"select key, ended_ms, heartbeat_ms, {heard_sql(transaction)} as heard_ms "
            recordings = list(transaction.ask(f"{asked} from recordings order by key", {}))
        if not dry_run:
            kept_overlaps.keep(ledger, [recording["key"] for recording in recordings])
        # What runs share is decided of all their seconds, or not at all.
        all_final_ms = min((_decided_ms(recording, now) for recording in recordings), default=now)
        for number, recording in enumerate(recordings):
            for level_s, age_ms in keep_ms.items():
                until_ms = min(now - age_ms, _final_ms(recording, now), all_final_ms)
                for hour in drop(ledger, recording["key"], level_s, until_ms, dry_run=dry_run):
                    done.windows[level_s] += hour.windows
                    done.left_hours += hour.is_left
            progress(redacted_url(url), number + 1, len(recordings))
    if path is not None and not dry_run and any(done.windows.values()):
        done.freed_bytes = _shrink(path)
    return done


def _final_ms(recording: Mapping[str, Any], now: int) -> int:
    """Up to when nothing is added to a recording any more."""
    if recording["ended_ms"] is not None or recording["heard_ms"] < now - _GONE_MS:
        return now
    return int(recording["heartbeat_ms"]) - SETTLED_MS


def _decided_ms(recording: Mapping[str, Any], now: int) -> int:
    """Up to when `kept_overlaps.keep` decides what a recording shares with others."""
    goes_on = recording["ended_ms"] is None and recording["heard_ms"] > now - SETTLED_MS
    return int(recording["heartbeat_ms"]) - SETTLED_MS if goes_on else now


@dataclass(frozen=True, slots=True)
class Hour:
    """What was dropped of an hour of a recording."""

    windows: int
    is_left: bool  # for it does not add up


def drop(
    ledger: WritableLedger,
    recording_key: int,
    level_s: int,
    until_ms: int,
    *,
    dry_run: bool = False,
) -> Iterator[Hour]:
    """Drop the windows of a recording's hours that ended by then, hour by hour."""
    of_level = {"key": recording_key, "level": level_s}
    from_ms = 0
    while True:
        with ledger.begin() as transaction:
            asked = {**of_level, "from_ms": from_ms, "to_ms": until_ms}
            (first,) = transaction.ask(_FIRST, asked)
            if first["start_ms"] is None:
                return
            hour_ms = first["start_ms"] // MS_PER_HOUR * MS_PER_HOUR
            from_ms = hour_ms + MS_PER_HOUR
            if from_ms > until_ms:
                return
            of_hour = {**of_level, "from_ms": hour_ms, "to_ms": from_ms}
            sums = list(transaction.ask(_SUMS, {**of_hour, "hour": LEVELS_S[-1]}))
            whole = [row for row in sums if _is_in_hour(row)]
            if whole and not dry_run:
                sensors = [row["sensor_key"] for row in whole]
                transaction.remove_windows(
                    recording_key, [level_s], from_ms=hour_ms, to_ms=from_ms, sensors=sensors
                )
        yield Hour(sum(row["windows"] for row in whole), len(whole) < len(sums))


_FIRST = "select first_window(:key, :level, :from_ms, :to_ms) as start_ms"
_SUMS = (
    "select fine.*, hour.energy_j as hour_j, hour.energy_s as hour_s, hour.samples as hour_samples "
    "from (select sensor_key, count(*) as windows, sum(energy_j) as energy_j, "
    "sum(energy_s) as energy_s, sum(samples) as samples "
    "from windows_between(:level, :from_ms, :to_ms) windows where recording_key = :key "
    "group by sensor_key) fine left join windows hour on hour.recording_key = :key "
    "and hour.level = :hour and hour.start_ms = :from_ms and hour.sensor_key = fine.sensor_key"
)


def _is_in_hour(row: Mapping[str, Any]) -> bool:
    """Whether an hour has all that its windows add up to."""
    if row["hour_s"] is None:
        return False
    difference_j = abs((row["energy_j"] or 0.0) - (row["hour_j"] or 0.0))
    difference_s = abs(row["energy_s"] - row["hour_s"])
    is_same = difference_j <= TOLERANCE_J and difference_s <= TOLERANCE_S
    return is_same and bool(int(row["samples"]) == row["hour_samples"])


def _shrink(path: Path) -> int:
    """Rewrite a file without the room that is free in it, if that is much; gives the bytes saved.

    0 while another process writes, or where the disk has no room for it: what is free is used
    again.
    """
    before = path.stat().st_size
    with suppress(sqlite3.Error), closing(sqlite3.connect(path, timeout=0)) as connection:
        (free,) = connection.execute("pragma freelist_count").fetchone()
        (pages,) = connection.execute("pragma page_count").fetchone()
        if free > _WORTH_IT * pages and not is_recorded(connection):
            connection.execute("vacuum")
            connection.execute("pragma wal_checkpoint(truncate)")
    return max(0, before - path.stat().st_size)
