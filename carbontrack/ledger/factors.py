"""Imported grid intensity and prices in the ledger; a file goes in whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Table, func, select

from carbontrack.ledger import models
from carbontrack.ledger.write import upsert

# Connection is named here for the layers above, which know no SQL.
__all__ = ["Connection", "intensity", "prices", "put_intensity", "put_prices", "zones"]

_intensity: Table = models.Intensity.__table__  # type: ignore[assignment]
_prices: Table = models.Price.__table__  # type: ignore[assignment]


def put_intensity(engine: Engine, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write intervals in one transaction; the same zone, time and version replaces itself."""
    with engine.begin() as connection:
        upsert(connection, _intensity, rows)


def put_prices(engine: Engine, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write prices in one transaction; the same book, item and version replaces itself."""
    with engine.begin() as connection:
        upsert(
            connection,
            _prices,
            [{"key" if k == "item" else k: v for k, v in r.items()} for r in rows],
        )


def intensity(
    connection: Connection, zone: str, *, from_ms: int, to_ms: int
) -> list[Mapping[str, Any]]:
    """The intervals of a zone that touch [from, to), in order, of the newest version there."""
    touching = (
        (_intensity.c.zone == zone)
        & (_intensity.c.start_ms < to_ms)
        & (_intensity.c.start_ms + _intensity.c.length_ms > from_ms)
    )
    newest = connection.scalar(select(func.max(_intensity.c.version)).where(touching))
    if newest is None:
        return []
    query = (
        select(_intensity)
        .where(touching & (_intensity.c.version == newest))
        .order_by(_intensity.c.start_ms)
    )
    return [dict(row._mapping) for row in connection.execute(query)]


def zones(connection: Connection) -> list[Mapping[str, Any]]:
    """What was imported: zone, version, basis, source, first and last time, how many intervals."""
    c = _intensity.c
    query = (
        select(
            c.zone,
            c.version,
            c.basis,
            c.source,
            func.min(c.start_ms).label("from_ms"),
            func.max(c.start_ms + c.length_ms).label("to_ms"),
            func.count().label("intervals"),
        )
        .group_by(c.zone, c.version, c.basis, c.source)
        .order_by(c.zone, c.version)
    )
    return [dict(row._mapping) for row in connection.execute(query)]


def prices(connection: Connection, *, contains: str = "") -> list[Mapping[str, Any]]:
    """Imported prices, the newest version of each, whose book, item or source has this text."""
    c = _prices.c
    newest = select(c.book, c.key, func.max(c.version).label("version")).group_by(c.book, c.key)
    found = newest.subquery()
    query = (
        select(
            c.book, c.key.label("item"), c.version, c.unit, c.price, c.currency, c.as_of, c.source
        )
        .join(
            found,
            (c.book == found.c.book) & (c.key == found.c.key) & (c.version == found.c.version),
        )
        .where(
            func.lower(c.book + " " + c.key + " " + c.source).contains(
                contains.lower(), autoescape=True
            )
        )
        .order_by(c.book, c.key)
    )
    return [dict(row._mapping) for row in connection.execute(query)]
