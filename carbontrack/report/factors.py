"""Factors as tables for people: lists, and one with all of its provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from carbontrack.account.entries import Entry
from carbontrack.report.table import Column, Table
from carbontrack.units import MS_PER_HOUR, MS_PER_S


def entries_table(entries: Sequence[Entry], notes: Sequence[str] = ()) -> Table:
    """One line per factor."""
    licences = dict.fromkeys(f"{e.source}: {e.detail}; {e.licence}" for e in entries)
    few = len(licences) <= 8
    return Table(
        (
            Column("kind", "", tuple(e.kind for e in entries), left=True),
            Column("name", "", tuple(e.name for e in entries), left=True),
            Column("value", "", tuple("–" if e.value is None else f"{e.value:g}" for e in entries)),
            Column("unit", "", tuple(e.unit for e in entries), left=True),
            Column("year", "", tuple(e.year for e in entries)),
            Column("what", "", tuple(_what(e) for e in entries), left=True),
        ),
        has_total=False,
        notes=(*(licences if few else ()), *notes),
    )


def entries_data(entries: Sequence[Entry]) -> dict[str, Any]:
    """The same for programs."""
    return {"factors": [asdict(entry) for entry in entries]}


def imported_entries(
    zones: Sequence[Mapping[str, Any]], prices: Sequence[Mapping[str, Any]]
) -> list[Entry]:
    """What was imported into the ledger, as the same kind of row."""
    found = [
        Entry(
            kind="intensity",
            name=zone["zone"],
            title=f"{zone['intervals']} intervals, {_span(zone['from_ms'], zone['to_ms'])}",
            value=None,
            unit="kg/kWh",
            year="",
            basis=zone["basis"],
            source=zone["source"],
            detail=f"imported, {(zone['to_ms'] - zone['from_ms']) / MS_PER_HOUR:g} h",
            version=zone["version"],
            licence="your own file's",
        )
        for zone in zones
    ]
    found += [
        Entry(
            kind="price",
            name=f"{price['book']}:{price['item']}",
            title=price["source"],
            value=price["price"],
            unit=f"{price['currency']}/{price['unit']}".replace("gpu_hour", "GPU-hour"),
            year=price["as_of"],
            basis="",
            source=price["source"],
            detail="imported",
            version=price["version"],
            licence="your own file's",
        )
        for price in prices
    ]
    return found


def gaps_text(missing: Sequence[tuple[str, int, int]]) -> list[str]:
    """Each gap of an imported series as a sentence."""
    return [
        f"{zone}: {(end_ms - start_ms) / MS_PER_HOUR:g} h missing from {_time(start_ms)}"
        for zone, start_ms, end_ms in missing
    ]


def _span(from_ms: int, to_ms: int) -> str:
    return f"{_time(from_ms)} to {_time(to_ms)}"


def _what(entry: Entry) -> str:
    parts = [entry.title, entry.basis, entry.source if entry.source != entry.title else ""]
    return ", ".join(part for part in parts if part)


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / MS_PER_S, UTC).strftime("%Y-%m-%d %H:%MZ")
