"""`carbontrack runs`: which runs the ledger holds."""

from __future__ import annotations

from typing import Annotated

import typer

from carbontrack.cli.common import DbOption, FormatOption, print_json, warn_of_journals
from carbontrack.vocabulary import Format


def runs(
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, help="How many, newest first.")
    ] = 20,
    project: Annotated[str | None, typer.Option(help="Only runs of this project.")] = None,
    db: DbOption = None,
    format: FormatOption = Format.TEXT,
) -> None:
    """List runs, newest first: status, start, duration, energy.

    Example: carbontrack runs --project nlp -n 50
    """
    from carbontrack.ledger import engine, read
    from carbontrack.report.runs import print_runs, run_item

    url = engine.ledger_url(db)
    warn_of_journals(url)
    try:
        reader = engine.open_reader(url)
    except engine.NoLedger:
        if db is not None:  # a ledger that was named has to exist
            raise
        rows = []
    else:
        with reader.connect() as connection:
            rows = [
                run_item(run, read.sensors(connection, run), read.totals(connection, run))
                for run in read.list_runs(connection, limit=limit, project=project)
            ]
    if format is Format.JSON:
        print_json({"runs": rows})
    elif rows:
        print_runs(rows)
    else:
        typer.echo("No runs yet. Record one: carbontrack run -- COMMAND")
