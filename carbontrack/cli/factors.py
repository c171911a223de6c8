"""`carbontrack factors`: which factors there are, where they come from, and importing your own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carbontrack.cli.common import DbOption, FormatOption
from carbontrack.errors import CarbontrackError
from carbontrack.report.numbers import counted
from carbontrack.vocabulary import FactorKind, Format, TableFormat

if TYPE_CHECKING:
    from carbontrack.factors.browse import Entry
    from carbontrack.factors.intensity_csv import IntensityFile

app = typer.Typer(help="Factors: grid intensity, PUE, hardware, prices.", no_args_is_help=True)
import_app = typer.Typer(help="Import a file of factors into the ledger.", no_args_is_help=True)
app.add_typer(import_app, name="import")
fetch_app = typer.Typer(help="Import from a live provider over the network.", no_args_is_help=True)
app.add_typer(fetch_app, name="fetch")

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A CSV file.")]
BridgeOption = Annotated[
    bool, typer.Option("--bridge", help="Fill missing times with the mean of their neighbours.")
]
VersionOption = Annotated[str | None, typer.Option("--version", help="Default: today's date.")]


@app.command("list")
def list_factors(
    kind: Annotated[
        str | None,
        typer.Argument(metavar="[intensity|pue|hardware|price]", help="Only of this kind."),
    ] = None,
    imported: Annotated[
        bool, typer.Option("--imported", help="What was imported into the ledger instead.")
    ] = False,
    db: DbOption = None,
    format: FormatOption = Format.TEXT,
) -> None:
    """List the factors that ship, each zone with its newest year, or those imported."""
    from carbontrack.factors.browse import packaged

    if kind is not None and kind not in tuple(FactorKind):
        raise CarbontrackError(
            f"no kind of factor {kind!r}.", hint=f"Known: {', '.join(FactorKind)}."
        )
    found = _imported(db) if imported else list(packaged())
    _print([entry for entry in found if kind in (None, entry.kind)], format)


@app.command("search")
def search_factors(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="A part of a name, zone or source.")],
    db: DbOption = None,
    format: FormatOption = Format.TEXT,
) -> None:
    """Find factors by a part of their name, place or source; imported ones too."""
    from carbontrack.factors.browse import packaged

    found = [entry for entry in (*packaged(), *_imported(db)) if entry.matches(text)]
    if not found:
        raise CarbontrackError(f"no factor matches {text!r}.", hint="See: carbontrack factors list")
    _print(found, format)


@app.command("show")
def show_factor(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A zone, a provider, a GPU or a price.")
    ],
    db: DbOption = None,
    format: FormatOption = Format.TEXT,
) -> None:
    """Show a factor in all its versions, newest first, with source and licence; a zone by year."""
    from carbontrack.factors import catalog
    from carbontrack.factors.browse import versions_of, years_of

    hardware = catalog.hardware(name)
    names = {name.casefold(), hardware.name.casefold() if hardware else "", _code(name)}
    found = [*years_of(name), *versions_of(names)]
    found += [e for e in _imported(db) if e.name.casefold() in names]
    if not found:
        raise CarbontrackError(
            f"no factor is named {name!r}.", hint=f"Try: carbontrack factors search {name}"
        )
    _print(found, format, versions=True)


@import_app.command("intensity")
def import_intensity(
    file: FileArgument,
    zone: Annotated[
        str | None, typer.Option(help="Zone of all values; else the file's own.")
    ] = None,
    basis: Annotated[
        str | None,
        typer.Option(help="What the values are: 'life-cycle average', 'direct marginal', …"),
    ] = None,
    bridge: BridgeOption = False,
    duplicates: Annotated[
        str | None,
        typer.Option(
            metavar="mean|first|last", help="Which value counts where a time has several."
        ),
    ] = None,
    time_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of times, in another layout.")
    ] = None,
    value_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of intensities.")
    ] = None,
    unit: Annotated[
        str | None, typer.Option(metavar="kg/kWh|g/kWh|lb/MWh", help="Unit of the intensities.")
    ] = None,
    version: VersionOption = None,
    db: DbOption = None,
    format: FormatOption = Format.TEXT,
) -> None:
    """Import grid intensity over time: Electricity Maps, WattTime, GB grid, or a plain table.

    A plain table has the columns time,zone,kg_per_kwh (or g_per_kwh), times with their offset. The
    JSON of an API is read as well; the columns of any other table can be named.

    Example: carbontrack factors import intensity grid.csv --time-column when --value-column
    carbon --unit g/kWh --zone FRA
    """
    from carbontrack.factors import intensity_csv, layouts
    from carbontrack.factors.file_text import read_text

    named = (time_column, value_column, unit)
    layout = None
    if time_column and value_column and unit:
        layout = layouts.named(time_column, value_column, unit)
    elif any(named):
        raise CarbontrackError(
            "the columns of a table are named by three options together.",
            hint="Give --time-column, --value-column and --unit.",
        )
    found = intensity_csv.parse(
        read_text(file),
        file.name,
        version=_version(version),
        zone=zone,
        basis=basis,
        bridge=bridge,
        duplicates=duplicates,
        layout=layout,
    )
    _store(found, db, format)


@fetch_app.command("intensity")
def fetch_intensity(
    zone: Annotated[
        str,
        typer.Argument(metavar="ZONE", help="GB, GB-1 to GB-17 (forecasts); FR, US-CAL-CISO, …"),
    ],
    begin: Annotated[
        str, typer.Option("--from", metavar="DATE|AGE", help="From 2026-01-31 or 7d ago.")
    ],
    until: Annotated[
        str | None, typer.Option("--to", metavar="DATE|AGE", help="Up to then. Default: now.")
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(help="gb or electricitymaps. Default: the setting live_provider."),
    ] = None,
    bridge: BridgeOption = False,
    version: VersionOption = None,
    db: DbOption = None,
    format: FormatOption = Format.TEXT,
) -> None:
    """Fetch grid intensity over time: the GB grid operator (no key), or Electricity Maps.

    Electricity Maps needs a token in ELECTRICITYMAPS_TOKEN, and its data keep its licence. What it
    only estimates is left out.

    Example: carbontrack factors fetch intensity GB --from 7d --provider gb
    """
    from datetime import UTC, datetime
    from urllib.parse import urlsplit

    from carbontrack import config
    from carbontrack.cli import parse
    from carbontrack.factors import intensity_csv
    from carbontrack.factors.providers import PROVIDERS, fetch
    from carbontrack.units import MS_PER_S, now_ms

    settings = config.resolve([config.flags(live_provider=provider), *config.surroundings()])
    chosen = settings.get("live_provider")
    known = ", ".join(PROVIDERS)
    if chosen is None:
        raise CarbontrackError(
            "no provider is chosen, and nothing uses the network unless it is asked to.",
            hint=f"Give --provider, or set live_provider: {known}.",
        )
    if chosen.value not in PROVIDERS:
        raise CarbontrackError(
            f"no provider {chosen.value!r} ({chosen.origin}).", hint=f"Known: {known}."
        )
    asked = PROVIDERS[chosen.value]
    start_ms, end_ms = parse.moment_ms(begin, "--from"), parse.moment_ms(until, "--to")
    start, end = (
        datetime.fromtimestamp((now_ms() if ms is None else ms) / MS_PER_S, UTC)
        for ms in (start_ms, end_ms)
    )
    name = urlsplit(asked.url).hostname or asked.name
    text = fetch(asked, zone, start, end)
    _store(intensity_csv.parse(text, name, version=_version(version), bridge=bridge), db, format)


def _store(found: IntensityFile, db: str | None, format: Format) -> None:
    """Write a parsed series into the ledger and say what was done."""
    from dataclasses import asdict

    from carbontrack.factors import catalog
    from carbontrack.ledger import engine, imported
    from carbontrack.ledger.url import ledger_url
    from carbontrack.report.escape import json_text, visible
    from carbontrack.report.factors import imported_text

    with engine.writing(ledger_url(db)) as writer:
        replaced = imported.put_intensity(writer, [asdict(one) for one in found.intervals])
    zones = sorted({interval.zone for interval in found.intervals})
    own = [zone for zone in zones if catalog.zone_code(zone) is None]
    if format is Format.JSON:
        gaps = [(gap, False) for gap in found.missing] + [(gap, True) for gap in found.bridged]
        answer = {
            "layout": found.layout,
            "zones": zones,
            "own_zones": own,
            "intervals": len(found.intervals),
            "estimated": found.estimated,
            "repeated": found.repeated,
            "replaced": replaced,
            "missing": [
                {"zone": zone, "start_ms": start_ms, "end_ms": end_ms, "bridged": bridged}
                for (zone, start_ms, end_ms), bridged in sorted(gaps)
            ],
        }
        typer.echo(json_text(answer), nl=False)
        return
    lines = imported_text(found, own=own, replaced=replaced)
    typer.echo("\n".join(map(visible, lines)))


@import_app.command("prices")
def import_prices(
    file: FileArgument,
    book: Annotated[
        str | None, typer.Option(help="Name of the catalogue. Default: the file's.")
    ] = None,
    version: VersionOption = None,
    db: DbOption = None,
    format: FormatOption = Format.TEXT,
) -> None:
    """Import a price catalogue in SkyPilot's layout, as USD per GPU-hour."""
    from dataclasses import asdict

    from carbontrack.factors import price_csv
    from carbontrack.factors.file_text import read_text
    from carbontrack.ledger import engine, imported
    from carbontrack.ledger.url import ledger_url
    from carbontrack.report.escape import json_text

    found = price_csv.parse(
        read_text(file), file.name, book=book or file.stem, version=_version(version)
    )
    with engine.writing(ledger_url(db)) as writer:
        replaced = imported.put_prices(writer, [asdict(price) for price in found])
    if format is Format.JSON:
        answer = {"book": found[0].book, "prices": len(found), "replaced": replaced}
        typer.echo(json_text(answer), nl=False)
        return
    many = counted(len(found), "price")
    typer.echo(f"{many} imported. Find one: carbontrack factors search {found[0].book}")
    for one in replaced:
        typer.echo(f"Other prices of version {one} were replaced. To keep both: --version NAME.")


def _print(entries: list[Entry], format: Format, *, versions: bool = False) -> None:
    from carbontrack.report import render
    from carbontrack.report.factors import entries_data, entries_table

    as_table = TableFormat.JSON if format is Format.JSON else TableFormat.TEXT
    render.show_table(entries_table(entries, versions=versions), entries_data(entries), as_table)


def _imported(db: str | None) -> list[Entry]:
    from carbontrack.ledger import engine, imported
    from carbontrack.ledger.url import ledger_url
    from carbontrack.report.factors import imported_entries

    try:
        reader = engine.open_reader(ledger_url(db))
    except engine.NoLedger:
        return []
    with reader.connect() as connection:
        return imported_entries(imported.zones(connection), imported.prices(connection))


def _code(name: str) -> str:
    from carbontrack.factors import catalog

    return (catalog.zone_code(name) or name).casefold()


def _version(given: str | None) -> str:
    from datetime import UTC, datetime

    return given or datetime.now(UTC).date().isoformat()
