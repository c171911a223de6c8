"""`carbontrack db`: look after the ledger itself."""

from __future__ import annotations

from typing import Annotated

import typer

from carbontrack.cli.common import DbOption, FormatOption, counted, print_json
from carbontrack.vocabulary import Format

app = typer.Typer(
    help="Look after the ledger: where it is, its schema, what is to be recovered.",
    no_args_is_help=True,
)


DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


@app.command()
def path(db: DbOption = None) -> None:
    """Print which ledger is used."""
    from carbontrack.ledger.url import ledger_url, redacted_url

    typer.echo(redacted_url(ledger_url(db)))


@app.command()
def status(db: DbOption = None, format: FormatOption = Format.TEXT) -> None:
    """Say what the ledger is and holds, and whether its schema is this program's.

    Example: carbontrack db status --db postgresql://ada@db.lab/carbontrack
    """
    from dataclasses import asdict

    from carbontrack.ledger.status import status_of
    from carbontrack.ledger.url import ledger_url

    found = status_of(ledger_url(db))
    if format is Format.JSON:
        print_json(asdict(found))
        return
    typer.echo(f"ledger    {found.ledger} ({found.dialect})")
    if found.revision is None:
        typer.echo("schema    none yet; the first run creates it")
    elif found.revision == found.head:
        typer.echo(f"schema    {found.revision}, up to date")
    else:
        typer.echo(
            f"schema    {found.revision}; 'carbontrack db upgrade' brings it to {found.head}"
        )
    if found.revision is not None:
        typer.echo(f"holds     {counted(found.runs, 'run')}, {counted(found.windows, 'window')}")
        typer.echo(f"size      {found.size_bytes:,} bytes")
    if found.journals:
        typer.echo(f"journals  {found.journals:,}; 'carbontrack db recover' brings them in")


@app.command()
def upgrade(db: DbOption = None) -> None:
    """Bring an older ledger to this program's schema; a SQLite file is backed up beside itself.

    Example: carbontrack db upgrade --db postgresql://ada@db.lab/carbontrack
    """
    from carbontrack.ledger import engine
    from carbontrack.ledger.url import ledger_url

    before = engine.upgrade(ledger_url(db))
    if before == engine.HEAD:
        typer.echo(f"The ledger already has schema {engine.HEAD}.")
    else:
        typer.echo(f"The ledger has schema {engine.HEAD} now; it had {before or 'none'}.")


@app.command()
def recover(db: DbOption = None) -> None:
    """Take measurements into the ledger that could not be written while it was locked or full."""
    from carbontrack.ledger import recover
    from carbontrack.ledger.url import ledger_url
    from carbontrack.report.escape import visible

    url = ledger_url(db)
    for problem in recover.refused(url):
        typer.echo(f"carbontrack: not recovered: {problem}.", err=True)
    names = list(recover.recover(url).values())
    if not names:
        typer.echo("Nothing to recover.")
    else:
        typer.echo(f"Recovered {counted(len(names), 'run')}: {', '.join(map(visible, names))}.")


@app.command()
def merge(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE-OR-FOLDER...",
            help="Ledgers (files or URLs), journals, or folders of these.",
        ),
    ],
    dry_run: DryRunOption = False,
    db: DbOption = None,
) -> None:
    """Take other ledgers into this one, in any order and as often as you like: runs, nodes and
    attempts meet by their ids, and nothing counts twice. All of it is taken, or nothing.

    A run that was removed stays removed. Imported factors of one name have to have one value.

    Example: carbontrack db merge node1.db laptop.db --db postgresql://ada@db.lab/carbontrack
    """
    from carbontrack.cli.progress import row_bar
    from carbontrack.ledger.merge import merge
    from carbontrack.ledger.url import ledger_url

    with row_bar() as progress:
        taken = merge(ledger_url(db), sources, dry_run=dry_run, progress=progress)
    counts = {"added": taken.added, "grew": taken.grew, "already there": taken.known}
    counts |= {"removed before, and left out": taken.removed}
    said = [f"{counted(len(ids), 'run')} {what}" for what, ids in counts.items() if ids]
    typer.echo(f"{', '.join(said) or 'No runs'}.{' Nothing was written.' if dry_run else ''}")
