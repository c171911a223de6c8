"""Imported grid intensity and prices in the ledger; a file goes in whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection, Engine, Table, func, select

from carbontrack.errors import CarbontrackError
from carbontrack.ledger import models
from carbontrack.ledger.write import upsert

# Connection is named here for the layers above, which know no SQL.
__all__ = ["Connection", "intensity", "prices", "put_intensity", "put_prices", "zones"]

_intensity: Table = models.Intensity.__table__  # type: ignore[assignment]
_prices: Table = models.Price.__table__  # type: ignore[assignment]


def put_intensity(engine: Engine, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write intervals in one transaction; the same zone, time and version replaces itself.

    Raises CarbontrackError, and writes nothing, where they would stand in one version of a zone
    beside intervals of another basis, or overlap them.
    """
    with engine.begin() as connection:
        for zone, version in sorted({(row["zone"], row["version"]) for row in rows}):
            added = [row for row in rows if (row["zone"], row["version"]) == (zone, version)]
            _check_one_series(added, _kept(connection, zone, version, added))
        upsert(connection, _intensity, rows)


def _kept(
    connection: Connection, zone: str, version: str, added: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """The intervals of this version that the added ones do not replace."""
    replaced = {row["start_ms"] for row in added}
    held = select(_intensity).where(_intensity.c.zone == zone, _intensity.c.version == version)
    rows = [dict(row._mapping) for row in connection.execute(held)]
    return [row for row in rows if row["start_ms"] not in replaced]


def _check_one_series(
    added: Sequence[Mapping[str, Any]], kept: Sequence[Mapping[str, Any]]
) -> None:
    for row in kept:
        if row["basis"] != added[0]["basis"]:
            raise _clash(added[0], row, f"{row['basis']}, not {added[0]['basis']}")
    for a, b in pairwise(sorted([*added, *kept], key=lambda row: int(row["start_ms"]))):
        if a["start_ms"] + a["length_ms"] > b["start_ms"]:
            raise _clash(added[0], a if a in kept else b, "which overlaps in time")


def _clash(added: Mapping[str, Any], held: Mapping[str, Any], why: str) -> CarbontrackError:
    return CarbontrackError(
        f"version {added['version']} of {added['zone']} has {held['source']} already, {why}.",
        hint="Give another --version. Nothing was imported.",
    )


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
    """The intervals of a zone that touch [from, to), in order: each time in its newest version.

    Only those of the newest version's basis: averages and marginal rates are never mixed.
    """
    c = _intensity.c
    touching = (c.zone == zone) & (c.start_ms < to_ms) & (c.start_ms + c.length_ms > from_ms)
    query = select(_intensity).where(touching).order_by(c.version.desc(), c.start_ms)
    rows = [dict(row._mapping) for row in connection.execute(query)]
    newest: dict[int, Mapping[str, Any]] = {}
    for row in rows:
        if row["basis"] == rows[0]["basis"]:
            newest.setdefault(row["start_ms"], row)
    return [newest[start_ms] for start_ms in sorted(newest)]


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
