"""`carbontrack runs`: which runs the ledger holds."""

from __future__ import annotations

from typing import Annotated

import typer

from carbontrack.cli.common import DbOption, FormatOption, print_json, warn_of_journals
from carbontrack.cli.selection_options import takes_selection
from carbontrack.query.select import Selection
from carbontrack.vocabulary import Format


@takes_selection
def runs(
    wanted: Selection,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, help="How many, newest first.")
    ] = 20,
    db: DbOption = None,
    format: FormatOption = Format.TEXT,
) -> None:
    """List runs, newest first: status, start, duration, energy.

    Example: carbontrack runs --project nlp --since 7d -n 50
    """
    from carbontrack.ledger import engine, read
    from carbontrack.query import select
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
                for run in select.choose(connection, [], wanted, limit=limit)
            ]
    if format is Format.JSON:
        print_json({"runs": rows})
    elif rows:
        print_runs(rows)
    elif wanted != Selection():
        typer.echo("No such runs.")
    else:
        typer.echo("No runs yet. Record one: carbontrack run -- COMMAND")
