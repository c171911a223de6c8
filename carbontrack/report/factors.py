"""Factors as tables for people: lists, and one with all of its provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from carbontrack.factors.browse import Entry, price_unit
from carbontrack.factors.intensity_csv import IntensityFile
from carbontrack.report.numbers import NO_VALUE, counted
from carbontrack.report.table import Column, Table
from carbontrack.units import MS_PER_HOUR, MS_PER_S
from carbontrack.vocabulary import FactorKind


def entries_table(entries: Sequence[Entry], *, versions: bool = False) -> Table:
    """One line per factor; with `versions` the day from which each is known."""
    licences = dict.fromkeys(f"{e.source}: {e.detail}; {e.licence}" for e in entries)
    few = len(licences) <= 8
    return Table(
        (
            Column("kind", "", tuple(e.kind for e in entries), left=True),
            Column("name", "", tuple(e.name for e in entries), left=True),
            Column(
                "value", "", tuple(NO_VALUE if e.value is None else f"{e.value:g}" for e in entries)
            ),
            Column("unit", "", tuple(e.unit for e in entries), left=True),
            Column("year", "", tuple(e.year for e in entries)),
            *([Column("known", "from", tuple(e.known_from for e in entries))] if versions else []),
            Column("what", "", tuple(_what(e) for e in entries), left=True),
        ),
        has_total=False,
        notes=tuple(licences) if few else (),
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
            kind=FactorKind.INTENSITY,
            name=zone["zone"],
            title=_span(zone),
            value=None,
            unit="kg/kWh",
            year="",
            basis=zone["basis"],
            source=zone["source"],
            detail=f"imported, {(zone['to_ms'] - zone['from_ms']) / MS_PER_HOUR:g} h",
            version=zone["version"],
            licence="your own file's",
            known_from=zone["version"],
        )
        for zone in zones
    ]
    found += [
        Entry(
            kind=FactorKind.PRICE,
            name=f"{price['book']}:{price['item']}",
            title=price["source"],
            value=price["price"],
            unit=price_unit(price),
            year=price["as_of"],
            basis="",
            source=price["source"],
            detail="imported",
            version=price["version"],
            licence="your own file's",
            known_from=price["version"],
        )
        for price in prices
    ]
    return found


def imported_text(
    found: IntensityFile, *, own: Sequence[str], replaced: Sequence[str]
) -> list[str]:
    """What an import did, a sentence each: how much, what is missing or bridged, what it replaced.

    `own` are the zones that no packaged table knows, `replaced` the versions whose values changed.
    """
    zones = sorted({interval.zone for interval in found.intervals})
    many = counted(len(found.intervals), "interval")
    text = [f"{many} of {', '.join(zones)} ({found.layout}) imported."]
    if found.estimated:
        text.append(f"{counted(found.estimated, 'estimated row')}, by what the file says of them.")
    if found.repeated:
        text.append(f"{counted(found.repeated, 'row')} with the time of another.")
    text += [f"{zone} is a zone of your own: it is in no packaged table." for zone in own]
    text += [f"Other values of version {version} were replaced." for version in replaced]
    if replaced:
        text.append("To keep both, so that an old estimate can be made again: --version NAME.")
    text += [f"{gap}, bridged" for gap in _gaps(found.bridged)]
    text += _gaps(found.missing)
    if found.missing:
        hint = "" if found.bridged else " To fill gaps between known hours: --bridge."
        text.append(f"A run says which of its hours are missing, and what stands in.{hint}")
    return text


def _gaps(missing: Sequence[tuple[str, int, int]]) -> list[str]:
    return [
        f"{zone}: {(end_ms - start_ms) / MS_PER_HOUR:g} h missing from {_time(start_ms)}"
        for zone, start_ms, end_ms in missing
    ]


def _span(zone: Mapping[str, Any]) -> str:
    many = counted(zone["intervals"], "interval")
    return f"{many}, {_time(zone['from_ms'])} to {_time(zone['to_ms'])}"


def _what(entry: Entry) -> str:
    parts = [entry.title, entry.basis, entry.source if entry.source != entry.title else ""]
    return ", ".join(part for part in parts if part)


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / MS_PER_S, UTC).strftime("%Y-%m-%d %H:%MZ")
