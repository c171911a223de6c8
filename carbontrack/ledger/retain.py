"""Old partitions of a server's ledger dropped, with every total unchanged.

A file is compacted instead: see `compact`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.exc import OperationalError

from carbontrack.errors import CarbontrackError
from carbontrack.ledger import KEEP, kept_overlaps
from carbontrack.ledger.contested import SETTLED_MS
from carbontrack.ledger.engine import errors_in_one_line
from carbontrack.ledger.kept import Keep, first_kept_ms
from carbontrack.ledger.settle import settle
from carbontrack.ledger.transaction import WritableLedger, open_ledger
from carbontrack.ledger.url import db_option, redacted_url, sqlite_path
from carbontrack.ledger.window import LEVELS_S
from carbontrack.units import MS_PER_HOUR, MS_PER_S, now_ms

_SECOND, _MINUTE, _HOUR = LEVELS_S
_TABLES = {_SECOND: ("seconds", "odd_seconds"), _MINUTE: ("minutes",)}
_DAY_FORMATS = {_SECOND: "seconds_%Y%m%d", _MINUTE: "minutes_%Y%m"}
_ROWS_AT_ONCE = 10_000
_MARKS_AT_ONCE = 10_000  # a second's work, for which a late hour would wait
_TRIES = 120  # until a partition is not in use
_PAUSE_S = 0.5
_LOCK_NOT_AVAILABLE = "55P03"


@dataclass(frozen=True, slots=True)
class Dropped:
    """A partition that is gone, or would be: its name, and how large it was."""

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _Partition:
    """Windows of a level that begin between two times."""

    name: str
    size_bytes: int
    level_s: int
    from_ms: int
    to_ms: int


def retain(
    url: str,
    keep: Keep,
    *,
    dry_run: bool = False,
    progress: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> list[Dropped]:
    """Drop the partitions of the ledger on a server that are older than what is kept, by its clock;
    with `dry_run` only name them.

    Raises CarbontrackError if the ledger is a file, cannot be written, or is used for too long.
    """
    if sqlite_path(url) is not None:
        raise CarbontrackError(
            f"{redacted_url(url)} is a file, which has no partitions.",
            hint=f"Use: carbontrack db compact --keep {KEEP}{db_option(url)}",
        )
    with errors_in_one_line(url), closing(open_ledger(url)) as ledger:
        old = _old(ledger, keep)
        found = []
        for number, partition in enumerate(old):
            progress(partition.name, number, len(old))
            if not dry_run:
                _drop(ledger, partition)
            found.append(Dropped(partition.name, partition.size_bytes))
        if not dry_run:
            _drop_odd(ledger, keep)
            roll_hours(ledger)
    return found


def drop_old(ledger: WritableLedger, keep: Keep) -> Iterator[Dropped]:
    """Drop the partitions of a server's ledger that are older than what is kept, one by one.

    Raises the database's error, CarbontrackError where others use a partition for too long.
    """
    for partition in _old(ledger, keep):
        _drop(ledger, partition)
        yield Dropped(partition.name, partition.size_bytes)
    _drop_odd(ledger, keep)


def roll_hours(ledger: WritableLedger) -> None:
    """Add up again what has changed of the hours that are over, and of their days, so that it is
    read at once; what is not rolled is as exact: see `migrations.server_run_days`.

    Raises the database's error.
    """
    rolled = {"before_ms": now_ms() - MS_PER_HOUR - SETTLED_MS, "most": _MARKS_AT_ONCE}
    asked = "select roll_hours(:before_ms, :most) as hours"
    while True:
        with ledger.begin() as transaction:
            (row,) = transaction.ask(asked, rolled)
        if not row["hours"]:
            return


def _old(ledger: WritableLedger, keep: Keep) -> list[_Partition]:
    """Those that are older, the oldest first, and of one time the seconds first."""
    found: list[_Partition] = []
    with ledger.begin() as transaction:
        (clock,) = transaction.ask(_NOW, {})
        for level_s, (table, *_) in _TABLES.items():
            first_ms = first_kept_ms(keep, level_s, clock["now_ms"])
            for row in transaction.ask(_PARTITIONS, {"wanted": table}):
                partition = _read(row["name"], row["size_bytes"], level_s)
                if first_ms is not None and partition and partition.to_ms <= first_ms:
                    found.append(partition)
    return sorted(found, key=lambda one: (one.level_s, one.from_ms))


def _read(name: str, size_bytes: int, level_s: int) -> _Partition | None:
    """A partition by its name; None where it is not one of `make_partitions`."""
    try:
        begins = datetime.strptime(name, _DAY_FORMATS[level_s]).replace(tzinfo=UTC)
    except ValueError:
        return None
    if level_s == _SECOND:
        following = begins + timedelta(days=1)
    else:
        following = (begins + timedelta(days=31)).replace(day=1)
    times = (round(at.timestamp()) * MS_PER_S for at in (begins, following))
    return _Partition(name, size_bytes, level_s, *times)


def _drop(ledger: WritableLedger, partition: _Partition) -> None:
    _prepare(ledger, partition.level_s, partition.from_ms, partition.to_ms)
    for _ in range(_TRIES):
        try:
            with ledger.begin() as transaction:
                next(transaction.ask("select drop_partition(:name)", {"name": partition.name}))
            return
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                raise
        time.sleep(_PAUSE_S)
    raise CarbontrackError(
        f"The partition {partition.name} is in use.", hint="It goes the next time."
    )


def _prepare(ledger: WritableLedger, level_s: int, from_ms: int, to_ms: int) -> None:
    """Write down what is asked of windows when they are gone: the hours that are missing (a node
    sends them first, but nothing else says so), and what recordings share.
    """
    span = {"from_ms": from_ms, "to_ms": to_ms}
    for table in _TABLES[level_s]:
        with ledger.begin() as transaction:
            lacking = list(transaction.ask(_LACKING.format(table=table), span))
        for row in lacking:
            with ledger.begin() as transaction:
                settle(transaction, row["recording_key"], row["sensor_key"], row["hour_ms"])
    if level_s == _SECOND:
        kept_overlaps.keep_between(ledger, from_ms, to_ms)


def _drop_odd(ledger: WritableLedger, keep: Keep) -> None:
    """Delete the seconds that are in no partition, some at a time."""
    with ledger.begin() as transaction:
        (odd,) = transaction.ask(_OLDEST_ODD, {})
    first_ms = first_kept_ms(keep, _SECOND, odd["now_ms"])
    if first_ms is None or odd["start_ms"] is None or odd["start_ms"] >= first_ms:
        return
    _prepare(ledger, _SECOND, odd["start_ms"] // MS_PER_HOUR * MS_PER_HOUR, first_ms)
    more = True
    while more:
        with ledger.begin() as transaction:
            (gone,) = transaction.ask(_DELETE_ODD, {"first_ms": first_ms, "most": _ROWS_AT_ONCE})
            more = gone["rows"] == _ROWS_AT_ONCE


_NOW = "select (extract(epoch from now()) * 1000)::bigint as now_ms"
_OLDEST_ODD = f"{_NOW}, (select min(start_ms) from odd_seconds) as start_ms"
_PARTITIONS = (
    "select relname as name, pg_total_relation_size(pg_class.oid) as size_bytes "
    "from pg_inherits join pg_class on pg_class.oid = inhrelid "
    "where inhparent = to_regclass(:wanted)"
)
_LACKING = (
    "select distinct recording_key, sensor_key, hour_ms from "
    f"(select recording_key, sensor_key, start_ms / {MS_PER_HOUR} * {MS_PER_HOUR} as hour_ms "
    "from {table} where start_ms >= :from_ms and start_ms < :to_ms) fine "
    "where not exists (select from hours where hours.recording_key = fine.recording_key "
    "and hours.start_ms = fine.hour_ms and hours.sensor_key = fine.sensor_key)"
)
_DELETE_ODD = (
    "with gone as (delete from odd_seconds where ctid = any(array(select ctid from odd_seconds "
    "where start_ms < :first_ms limit :most)) returning 1) select count(*) as rows from gone"
)
