"""`carbontrack scores`: the scores of runs in benchmarks, and those that reports print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from carbontrack.cli import parse
from carbontrack.cli.common import DbOption, find_runs, say_written
from carbontrack.cli.factor_options import (
    Flags,
    OutOption,
    QuietOption,
    TableFormatOption,
    takes_factors,
)
from carbontrack.vocabulary import Method


@takes_factors
def scores(
    flags: Flags,
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN...", help="Ids, prefixes or names. Default: last; with --like none."
        ),
    ] = None,
    like: Annotated[
        str,
        typer.Option(
            metavar="table3|table4",
            help="In the columns of that table of the Llama 2 report, with its models.",
        ),
    ] = "",
    db: DbOption = None,
    format: TableFormatOption = None,
    out: OutOption = None,
    quiet: QuietOption = False,
) -> None:
    """Print scores in benchmarks with chance, standard error, and score per kWh, tCO2e and money.

    Example: carbontrack scores llama2-7b --zone FRA --format markdown
    """
    from carbontrack.report import render
    from carbontrack.report.scores import TABLES, Scored, data_of, listing
    from carbontrack.report.scores import like as in_columns_of

    parse.check_choice("--like", like, ("", *TABLES))
    scored: list[Scored] = []
    if references := runs or ([] if like else ["last"]):
        from carbontrack.account.scores import scores_of
        from carbontrack.ledger import engine, read
        from carbontrack.ledger.url import ledger_url
        from carbontrack.query import price

        with engine.open_reader(ledger_url(db)).connect() as connection:
            found = find_runs(connection, references)
            each = price.estimates(connection, found, flags, [Method.MEASURED])
            scored = [
                Scored(estimate, scores_of(read.events(connection, run)))
                for run, estimate in zip(found, each, strict=True)
            ]
    table, rows = in_columns_of(like, scored) if like else listing(scored)
    path = None if out is None else Path(out)
    written = render.show_lines(table, data_of(rows), rows, format, out=path)
    say_written(written, quiet=quiet)
