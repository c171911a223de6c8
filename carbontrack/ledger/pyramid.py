"""The pyramid in the ledger: which level to read, and how to make the coarse levels anew."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, delete, select

from carbontrack.ledger import models
from carbontrack.ledger.rows import Run
from carbontrack.record.window import LEVELS_S, Flag, Pyramid, Window
from carbontrack.units import MS_PER_S


def level_for(length_ms: int, points: int) -> int:
    """The finest level, in seconds, that has at most `points` windows in this length of time."""
    for level_s in LEVELS_S:
        if length_ms <= points * level_s * MS_PER_S:
            return level_s
    return LEVELS_S[-1]


def seconds_of(connection: Connection, run: Run, device_key: int) -> Iterator[Window]:
    """The windows of one second of one device, in order."""
    table = models.Window.__table__
    query = (
        select(table)
        .where(
            table.c.run_key == run.key,
            table.c.level == LEVELS_S[0],
            table.c.device_key == device_key,
        )
        .order_by(table.c.start_ms)
    )
    for row in connection.execute(query):
        values = dict(row._mapping)
        for name in ("run_key", "device_key", "power_mean_w"):
            del values[name]
        level_s, flags = values.pop("level"), Flag(values.pop("flags"))
        yield Window(level_s=level_s, flags=flags, **values)
