"""Imported grid intensity and prices in the ledger; a file goes in whole or not at all."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Table, exists, func, select, text, true

from carbontrack.errors import CarbontrackError
from carbontrack.ledger import models, tables
from carbontrack.ledger.factor_versions import worth_of

# Connection is named here for the layers above, which know no SQL.
__all__ = [
    "Connection",
    "Intensities",
    "has_intensity",
    "intensities",
    "prices",
    "put_intensity",
    "put_prices",
    "zones",
]

_intensity: Table = models.Intensity.__table__  # type: ignore[assignment]
_prices: Table = models.Price.__table__  # type: ignore[assignment]


def put_intensity(engine: Engine, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Write intervals in one transaction; the same zone, time and version replaces itself.

    Returns the versions, as "VERSION of ZONE", in which another value stood before. Raises
    CarbontrackError, and writes nothing, where they would stand in one version of a zone
    beside intervals of another basis, or overlap them.
    """
    changed = []
    with engine.begin() as connection:
        for zone, version in sorted({(row["zone"], row["version"]) for row in rows}):
            added = {
                row["start_ms"]: row
                for row in rows
                if (row["zone"], row["version"]) == (zone, version)
            }
            held = _held(connection, zone, version)
            _check_one_series(
                list(added.values()), [row for row in held if row["start_ms"] not in added]
            )
            worth = partial(worth_of, tables.INTENSITY)
            same = (worth(row) == worth(added.get(row["start_ms"], row)) for row in held)
            if not all(same):
                changed.append(f"{version} of {zone}")
        _put(connection, tables.INTENSITY, rows)
    return changed


def _put(
    connection: Connection, table: tables.Table[Any], rows: Sequence[Mapping[str, Any]]
) -> None:
    if rows:
        written = [table.written(table.of_fields(row)) for row in rows]
        connection.execute(text(table.upsert), written)


def _held(connection: Connection, zone: str, version: str) -> list[Mapping[str, Any]]:
    held = select(_intensity).where(_intensity.c.zone == zone, _intensity.c.version == version)
    return [dict(row._mapping) for row in connection.execute(held)]


def _check_one_series(
    added: Sequence[Mapping[str, Any]], held: Sequence[Mapping[str, Any]]
) -> None:
    for row in held:
        if row["basis"] != added[0]["basis"]:
            raise _clash(added[0], row, f"{row['basis']}, not {added[0]['basis']}")
    for a, b in pairwise(sorted([*added, *held], key=lambda row: int(row["start_ms"]))):
        if a["start_ms"] + a["length_ms"] > b["start_ms"]:
            raise _clash(added[0], a if a in held else b, "which overlaps in time")


def _clash(added: Mapping[str, Any], held: Mapping[str, Any], why: str) -> CarbontrackError:
    return CarbontrackError(
        f"version {added['version']} of {added['zone']} has {held['source']} already, {why}.",
        hint="Give another --version. Nothing was imported.",
    )


def put_prices(engine: Engine, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Write prices in one transaction; the same book, item and version replaces itself.

    Returns the versions, as "VERSION of BOOK", in which another price stood before.
    """
    changed = []
    with engine.begin() as connection:
        for book, version in sorted({(row["book"], row["version"]) for row in rows}):
            query = select(_prices.c.key, _prices.c.price, _prices.c.currency)
            held = query.where(_prices.c.book == book, _prices.c.version == version)
            before = {key: (price, currency) for key, price, currency in connection.execute(held)}
            added = {row["item"]: (row["price"], row["currency"]) for row in rows}
            if any(before[item] != added[item] for item in before.keys() & added.keys()):
                changed.append(f"{version} of {book}")
        _put(connection, tables.PRICES, rows)
    return changed


def intensities(
    connection: Connection, zone: str, *, from_ms: int, to_ms: int, as_of: str | None = None
) -> Intensities:
    """The intervals of a zone that touch [from, to) in all their versions; with `as_of`
    (YYYY-MM-DD) only versions up to that day.
    """
    c = _intensity.c
    touching = (c.zone == zone) & (c.start_ms < to_ms) & (c.start_ms + c.length_ms > from_ms)
    query = select(_intensity).where(touching, _known_by(c.version, as_of))
    rows = [dict(row._mapping) for row in connection.execute(query.order_by(c.start_ms))]
    return Intensities(rows, max((row["length_ms"] for row in rows), default=0))


@dataclass(frozen=True, slots=True)
class Intensities:
    """Intervals of a zone, ordered by their start."""

    rows: Sequence[Mapping[str, Any]]
    longest_ms: int

    def between(self, from_ms: int, to_ms: int) -> list[Mapping[str, Any]]:
        """What touches [from, to), in order and without an overlap: each moment in its newest
        version, whatever the lengths of its intervals, so of an older one perhaps a part. Only
        those of the newest version's basis: averages and marginal rates are never mixed.
        """
        first = bisect_right(self.rows, from_ms - self.longest_ms, key=_start_ms)
        after = bisect_left(self.rows, to_ms, key=_start_ms)
        found = [row for row in self.rows[first:after] if _end_ms(row) > from_ms]
        if not found:
            return []
        basis = max(found, key=lambda row: (row["version"], -row["start_ms"]))["basis"]
        newest: list[Mapping[str, Any]] = []
        for row in sorted(found, key=itemgetter("version"), reverse=True):
            if row["basis"] != basis:
                continue
            if not newest or _end_ms(newest[-1]) <= row["start_ms"]:
                newest.append(row)  # as all of the newest version
                continue
            for part in _uncovered(row, newest):
                insort(newest, part, key=_start_ms)
        return [part for part in newest if part["start_ms"] < to_ms and _end_ms(part) > from_ms]


def _uncovered(
    row: Mapping[str, Any], others: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """The parts of an interval in which none of the others is, which are in order and apart."""
    begin_ms, end_ms = row["start_ms"], _end_ms(row)
    first = max(0, bisect_right(others, begin_ms, key=_start_ms) - 1)
    after = bisect_left(others, end_ms, key=_start_ms)
    parts: list[Mapping[str, Any]] = []
    for other in others[first:after]:
        if begin_ms < other["start_ms"]:
            parts.append(_cut(row, begin_ms, other["start_ms"]))
        begin_ms = max(begin_ms, _end_ms(other))
    if begin_ms < end_ms:
        parts.append(_cut(row, begin_ms, end_ms))
    return parts


def _cut(row: Mapping[str, Any], begin_ms: int, end_ms: int) -> Mapping[str, Any]:
    return {**row, "start_ms": begin_ms, "length_ms": end_ms - begin_ms}


def _start_ms(row: Mapping[str, Any]) -> int:
    start_ms: int = row["start_ms"]
    return start_ms


def _end_ms(row: Mapping[str, Any]) -> int:
    end_ms: int = row["start_ms"] + row["length_ms"]
    return end_ms


def has_intensity(connection: Connection, zone: str) -> bool:
    """Whether intervals of a zone were imported, of whatever time."""
    return bool(connection.scalar(select(exists().where(_intensity.c.zone == zone))))


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


def prices(
    connection: Connection, *, contains: str = "", as_of: str | None = None
) -> list[Mapping[str, Any]]:
    """Imported prices, the newest version of each, whose book, item or source has this text.

    With `as_of` (YYYY-MM-DD) only versions up to that day.
    """
    c = _prices.c
    newest = select(c.book, c.key, func.max(c.version).label("version"))
    found = newest.where(_known_by(c.version, as_of)).group_by(c.book, c.key).subquery()
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


def _known_by(version: ColumnElement[str], as_of: str | None) -> ColumnElement[bool]:
    """Whether a version begins with a day up to `as_of`: 2026-01-31.2 is one of 2026-01-31."""
    return true() if as_of is None else func.substr(version, 1, 10) <= as_of
