"""Windows in a SQLite file: one table of rows, and in SQL what PostgreSQL has functions for."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from carbontrack.ledger.recorded_tables import WINDOWS
from carbontrack.ledger.sql import listed

if TYPE_CHECKING:
    from carbontrack.ledger.joined import Better, Joined, Row

BETWEEN = "(select * from windows where level = {} and start_ms >= {} and start_ms < {})"
"""`windows_between`: those of a level that begin from one time on, and before another."""

FIRST = (
    "(select min(start_ms) from windows where recording_key = {} and level = {} "
    "and start_ms >= {} and start_ms < {})"
)
"""`first_window`: when the first of a recording's windows of a level begins, between two times."""

_FUNCTIONS = {"windows_between": BETWEEN, "first_window": FIRST}
_CALL = re.compile(r"(windows_between|first_window)\(((?::\w+(?:, )?)+)\)")
_start_ms, _sensor = map(itemgetter, map(WINDOWS.columns.index, ("start_ms", "sensor_key")))
_of_level = itemgetter(*map(WINDOWS.columns.index, ("recording_key", "level")))
_HERE = (
    f"{WINDOWS.query} where recording_key = :recording and level = :level "
    "and start_ms between :first and :last"
)


def translated(statement: str) -> str:
    """A statement that may call these functions, as SQLite knows it."""
    return _CALL.sub(lambda call: _FUNCTIONS[call[1]].format(*call[2].split(", ")), statement)


def put_better(file: sqlite3.Connection, rows: Sequence[Row], is_better: Better) -> Joined:
    """See `Transaction.put_better`."""
    from carbontrack.ledger.joined import Joined, best_of, place_of  # a recorder joins nothing

    joined = Joined()
    ordered = sorted(best_of(rows, is_better), key=place_of)
    for (recording, level), group in groupby(ordered, key=_of_level):
        some = list(group)
        range_ = {"first": _start_ms(some[0]), "last": _start_ms(some[-1])}
        sensors = listed(sorted({_sensor(row) for row in some}))
        asked = f"{_HERE} and sensor_key in ({sensors})"
        found = file.execute(asked, {"recording": recording, "level": level, **range_})
        here = {place_of(row): row for row in found}
        for row in some:
            joined.take(row, here.get(place_of(row)), is_better)
    file.executemany(WINDOWS.upsert_in_order, joined.written)
    return joined


def remove(
    file: sqlite3.Connection,
    recording_key: int,
    levels_s: Sequence[int],
    from_ms: int,
    to_ms: int,
    sensors: Sequence[int] | None,
) -> None:
    """See `Transaction.remove_windows`."""
    of_some = "" if sensors is None else f" and sensor_key in ({listed(sensors)})"
    file.executemany(
        "delete from windows where recording_key = :key and level = :level "
        f"and start_ms >= :from_ms and start_ms < :to_ms{of_some}",
        [
            {"key": recording_key, "level": level_s, "from_ms": from_ms, "to_ms": to_ms}
            for level_s in levels_s
        ],
    )
