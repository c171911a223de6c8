"""`carbontrack compare`: two runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from carbontrack.cli.common import DbOption, FormatOption, find_runs, run_argument
from carbontrack.cli.factor_options import EmbodiedOption, Flags, takes_factors
from carbontrack.vocabulary import Format, Method, TableFormat

if TYPE_CHECKING:
    from carbontrack.account.scores import Score
    from carbontrack.ledger.rows import Event


@takes_factors
def compare(
    flags: Flags,
    a: Annotated[str, run_argument("A", "A run: id, prefix, name or last.")],
    b: Annotated[str, run_argument("B", "The run to compare it with.")],
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="SCORE",
            help="Also a score in a benchmark, TASK or TASK/METRIC, and per kWh, tCO2e and money.",
        ),
    ] = None,
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
        runs = find_runs(connection, (a, b))
        rows = price.estimates(connection, runs, flags, [Method.MEASURED], embodied=embodied)
        sides = [
            Side(
                row,
                project.curve(connection, run),
                read.steps(connection, run),
                _score(read.events(connection, run), metric, run.name),
            )
            for run, row in zip(runs, rows, strict=True)
        ]
    as_table = TableFormat.JSON if format is Format.JSON else TableFormat.TEXT
    render.show_table(*comparison(*sides), as_table)


def _score(events: Sequence[Event], metric: str | None, run: str) -> Score | None:
    """The last one in a benchmark, if it was asked for."""
    from carbontrack.account import scores

    return None if metric is None else scores.need(scores.scores_of(events), metric, run)[-1]
