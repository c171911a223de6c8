"""Versions of imported factors that two ledgers have: they must say the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from carbontrack.errors import CarbontrackError
from carbontrack.ledger.tables import INTENSITY, PRICES, Table
from carbontrack.ledger.transaction import Transaction

_SERIES: Mapping[str, tuple[str, str]] = {
    INTENSITY.name: ("zone", "version"),
    PRICES.name: ("book", "version"),
}
_WORTH: Mapping[str, tuple[str, ...]] = {
    INTENSITY.name: ("intensity_kg_per_kwh", "length_ms", "basis"),
    PRICES.name: ("price", "currency", "unit"),
}


def worth_of(table: Table[Any], row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What an estimate takes from a row: not whose file it came from."""
    return tuple(row[name] for name in _WORTH[table.name])


def put_factors(
    transaction: Transaction, table: Table[Any], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Write imported factors, whose versions may be here.

    Raises CarbontrackError where one of the same name has another value.
    """
    series = _SERIES[table.name]
    for which in sorted({tuple(row[name] for name in series) for row in rows}):
        here = _held(transaction, table, dict(zip(series, which, strict=True)))
        for row in rows:
            before = here.get(tuple(row[name] for name in table.key))
            if before and worth_of(table, before) != worth_of(table, row):
                raise _conflict(table, row, before)
    upsert = f"{table.upsert} where excluded.source > {table.name}.source"
    transaction.write(upsert, [table.stored(row) for row in rows])


def _held(
    transaction: Transaction, table: Table[Any], series: Mapping[str, str]
) -> dict[tuple[Any, ...], dict[str, Any]]:
    where = " and ".join(f"{name} = :{name}" for name in series)
    found = transaction.ask(f"{table.query} where {where}", series)
    return {tuple(row[name] for name in table.key): row for row in found}


def _conflict(
    table: Table[Any], row: Mapping[str, Any], here: Mapping[str, Any]
) -> CarbontrackError:
    of, version = (row[name] for name in _SERIES[table.name])
    name = next(name for name in _WORTH[table.name] if row[name] != here[name])
    item = f", {row['key']}" if table is PRICES else ""
    return CarbontrackError(
        f"Version {version} of {of}{item}: {name} is {here[name]} here, {row[name]} there.",
        hint="Import one of them under another --version. Nothing was written.",
    )
