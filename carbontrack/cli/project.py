"""`carbontrack project`: what a longer training would use."""

from __future__ import annotations

from typing import Annotated

import typer

from carbontrack.cli.common import DbOption, FormatOption, find_runs
from carbontrack.cli.factor_options import EmbodiedOption, Flags, takes_factors
from carbontrack.cli.show import RunArgument
from carbontrack.vocabulary import Format, Method, TableFormat


@takes_factors
def project(
    flags: Flags,
    run: RunArgument = "last",
    tokens: Annotated[
        str | None, typer.Option(metavar="COUNT", help="To so many tokens: 2T, 300B.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="To so many steps.")] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Another model, by its FLOPs: llama2-7b, llama2-70b, …"),
    ] = None,
    embodied: EmbodiedOption = False,
    db: DbOption = None,
    format: FormatOption = Format.TEXT,
) -> None:
    """Project a run to a token target: GPU-hours, days, energy, CO2e and cost, with a range.

    From the steady state of the run (warm-up and stalls left out). Without a target: the tokens
    that the job planned.

    Example: carbontrack project last --tokens 2T
    """
    from carbontrack.ledger import engine
    from carbontrack.ledger.url import ledger_url
    from carbontrack.query import price, project
    from carbontrack.report import render
    from carbontrack.report.project import projection

    with engine.open_reader(ledger_url(db)).connect() as connection:
        (found,) = find_runs(connection, [run])
        measured = price.estimates(
            connection, [found], flags, [Method.MEASURED], embodied=embodied
        )[0]
        ahead = project.projected(
            connection, found, measured, tokens=tokens, steps=steps, model=model
        )
    as_table = TableFormat.JSON if format is Format.JSON else TableFormat.TEXT
    render.show_table(*projection(ahead), as_table)
