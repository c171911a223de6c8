"""`carbontrack compare`: two runs side by side."""

from __future__ import annotations

from typing import Annotated

import typer

from carbontrack.cli.common import DbOption, FormatOption
from carbontrack.cli.factor_options import EmbodiedOption, Flags, takes_factors
from carbontrack.vocabulary import Format, Method, TableFormat


@takes_factors
def compare(
    flags: Flags,
    a: Annotated[str, typer.Argument(metavar="A", help="A run: id, prefix, name or last.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The run to compare it with.")],
    embodied: EmbodiedOption = False,
    db: DbOption = None,
    format: FormatOption = Format.TEXT,
) -> None:
    """Compare two runs: energy per token, CO2e, cost, speed, and the loss at equal energy.

    Example: carbontrack compare llama2-baseline llama2-muon --zone FRA
    """
    from carbontrack.ledger import engine, read
    from carbontrack.ledger.url import ledger_url
    from carbontrack.query import price, project
    from carbontrack.report import render
    from carbontrack.report.compare import Side, comparison

    with engine.open_reader(ledger_url(db)).connect() as connection:
        runs = [read.resolve_run(connection, reference) for reference in (a, b)]
        rows = price.estimates(connection, runs, flags, [Method.MEASURED], embodied=embodied)
        sides = [
            Side(row, project.curve(connection, run), read.steps(connection, run))
            for run, row in zip(runs, rows, strict=True)
        ]
    as_table = TableFormat.JSON if format is Format.JSON else TableFormat.TEXT
    render.show_table(*comparison(*sides), as_table)
