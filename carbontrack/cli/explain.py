"""`carbontrack explain`: how a number of the table came about."""

from __future__ import annotations

from typing import Annotated

import typer

from carbontrack.cli.common import DbOption, FormatOption, find_runs, print_json
from carbontrack.cli.factor_options import EmbodiedOption, Flags, takes_factors
from carbontrack.cli.show import RunArgument
from carbontrack.vocabulary import Format, Method


@takes_factors
def explain(
    flags: Flags,
    run: RunArgument = "last",
    method: Annotated[str, typer.Option(help="measured or report.")] = Method.MEASURED.value,
    embodied: EmbodiedOption = False,
    db: DbOption = None,
    format: FormatOption = Format.TEXT,
) -> None:
    """Derive a run's estimate line by line: each factor with its source, and what was assumed.

    The last line is the cell of `carbontrack table`, to the digit.

    Example: carbontrack explain llama2-7b --method report --pue 1.1
    """
    from carbontrack.factors.resolve import parse_methods
    from carbontrack.ledger import engine, read
    from carbontrack.ledger.url import ledger_url
    from carbontrack.query import price
    from carbontrack.report.explain import explain_data, explain_text, origins_of

    methods = parse_methods(method)
    with engine.open_reader(ledger_url(db)).connect() as connection:
        (found,) = find_runs(connection, [run])
        hours = read.hours(connection, found)
        rows = price.estimates(connection, [found], flags, methods, embodied=embodied)
        imports, stated = read.imports(connection, found), read.stated(connection, found)
        origins = origins_of(found, imports, stated, read.recordings(connection, found))
    if format is Format.JSON:
        print_json({"explained": [explain_data(row, hours, origins) for row in rows]})
    else:
        typer.echo("\n".join(explain_text(row, hours, origins) for row in rows), nl=False)
