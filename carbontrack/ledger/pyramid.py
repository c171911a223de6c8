"""The pyramid in the ledger: which level to read, and its rows as the windows they were."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import ColumnElement, Connection, select

from carbontrack.ledger import models
from carbontrack.record.window import LEVELS_S, Flag, Pyramid, Window
from carbontrack.units import MS_PER_HOUR, MS_PER_S


def level_for(length_ms: int, points: int) -> int:
    """The finest level, in seconds, that has at most `points` windows in this length of time."""
    for level_s in LEVELS_S:
        if length_ms <= points * level_s * MS_PER_S:
            return level_s
    return LEVELS_S[-1]


def hours_of(connection: Connection, run_key: int) -> Iterator[tuple[int, Window]]:
    """(device key, window of one hour), ordered by device and time."""
    return _windows(connection, run_key, models.Window.level == LEVELS_S[-1])


def coarse_anew(
    connection: Connection, run_key: int, device_key: int, hour_ms: int
) -> list[Window]:
    """The minutes and the hour that the seconds of this hour in the ledger add up to."""
    pyramid = Pyramid()
    seconds = _windows(
        connection,
        run_key,
        models.Window.level == LEVELS_S[0],
        models.Window.device_key == device_key,
        models.Window.start_ms >= hour_ms,
        models.Window.start_ms < hour_ms + MS_PER_HOUR,
    )
    for _, second in seconds:
        pyramid.add(second)
    return pyramid.take_changed()


def _windows(
    connection: Connection, run_key: int, *conditions: ColumnElement[bool]
) -> Iterator[tuple[int, Window]]:
    table = models.Window.__table__
    query = select(table).where(models.Window.run_key == run_key, *conditions)
    order = (models.Window.device_key, models.Window.start_ms)
    for row in connection.execute(query.order_by(*order)):
        values = dict(row._mapping)
        del values["run_key"], values["power_mean_w"]
        device_key, level_s = values.pop("device_key"), values.pop("level")
        flags = Flag(values.pop("flags"))
        yield device_key, Window(level_s=level_s, flags=flags, **values)
