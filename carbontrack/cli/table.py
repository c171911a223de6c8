"""`carbontrack table`: the emissions table of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from carbontrack.cli import parse
from carbontrack.cli.common import (
    MOST_RUNS,
    DbOption,
    find_runs,
    run_argument,
    say_untimed,
    say_written,
    words_of_command,
)
from carbontrack.cli.factor_options import (
    EmbodiedOption,
    Flags,
    OutOption,
    QuietOption,
    TableFormatOption,
    UnitOption,
    takes_factors,
)
from carbontrack.cli.selection_options import takes_selection
from carbontrack.query.select import Selection
from carbontrack.vocabulary import Method, TableFormat


@takes_factors
@takes_selection
def table(
    context: typer.Context,
    flags: Flags,
    wanted: Selection,
    runs: Annotated[
        list[str] | None,
        run_argument("RUN...", "Ids, prefixes or names. Default: all, newest first."),
    ] = None,
    method: Annotated[
        str, typer.Option(metavar="NAME[,NAME]", help="measured, report (rated power), or both.")
    ] = Method.MEASURED.value,
    embodied: EmbodiedOption = False,
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A row per project, model, user, host, month, attempt, phase, name, status, "
            "account, partition, scheduler, cluster, job, array, tag:KEY. Given twice, a row per "
            "pair, with sub-totals by the first.",
        ),
    ] = None,
    lost: Annotated[
        bool,
        typer.Option("--lost", help="A column of the energy of work that a later attempt redid."),
    ] = False,
    like: Annotated[
        str, typer.Option(metavar="llama2", help="Exactly the columns of Llama 2's Table 2.")
    ] = "",
    limit: Annotated[
        int | None,
        typer.Option("--limit", "-n", min=1, max=MOST_RUNS, help="Only so many runs, the newest."),
    ] = None,
    published: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|list|all", help="Recompute a published table, not the ledger's."
        ),
    ] = None,
    db: DbOption = None,
    unit: UnitOption = None,
    band: Annotated[
        bool, typer.Option("--band", help="Show how far the sensors may be off, as ±.")
    ] = False,
    format: TableFormatOption = None,
    out: OutOption = None,
    quiet: QuietOption = False,
) -> None:
    """Print GPU-hours, power, CO2e, energy and cost of runs, with the factors behind them.

    Example: carbontrack table llama2-7b --zone FRA --pue 1.2 --format markdown
    """
    if published is not None:
        parse.check_alone(
            context,
            "--published",
            ("published", "format", "out", "quiet"),
            why="takes all from the published table",
        )
        from carbontrack.report import render
        from carbontrack.report.document import Document
        from carbontrack.report.published import listing, one, summary

        shown, data = {"list": listing, "all": summary}.get(published, lambda: one(published))()
        path = None if out is None else Path(out)
        written = render.show(Document(lambda _: shown, lambda: data), format, out=path)
        say_written(written, quiet=quiet)
        return

    from carbontrack import garbage
    from carbontrack.account.total import once
    from carbontrack.factors.resolve import parse_methods
    from carbontrack.ledger import engine
    from carbontrack.ledger.held import ManyHeld
    from carbontrack.ledger.url import db_option, ledger_url
    from carbontrack.query import group, price, select
    from carbontrack.report import render
    from carbontrack.report.document import document_of
    from carbontrack.report.table import LIKE, check_units

    methods = parse_methods(method)
    parse.check_choice("--like", like, ("", *LIKE))
    check_units(unit or [])
    url = ledger_url(db)
    with engine.open_reader(url).connect() as connection, garbage.paused():
        find_runs(connection, runs or [])
        chosen = select.choose(connection, runs or [], wanted.counted, limit=limit)
        say_untimed(connection, runs or [], wanted)
        span_ms = wanted.span_ms
        held = ManyHeld(connection, chosen, span_ms)
        own: dict[str, Any] = {"embodied": embodied, "own_factors": bool(like), "span_ms": span_ms}
        own["held"] = held
        each = price.estimates(connection, chosen, flags, methods, **own)
        twice = held.among.all([span_ms] if span_ms else [])
        rows, subtotals = once(each, twice), []
        if by:
            rows = group.grouped(connection, chosen, each, by, flags, **own)
            subtotals = group.subtotals(connection, chosen, each, by, flags, **own)
    if not rows and out is None and format in (None, TableFormat.TEXT):
        typer.echo(f"No such runs. See: carbontrack runs{db_option(url)}")
        return
    path = None if out is None else Path(out)
    document = document_of(
        rows,
        group.totals(each, twice),
        like=like,
        runs=each if by else None,
        subtotals=subtotals,
        lost=lost,
        units=unit or [],
        command=words_of_command(),
        band=band,
    )
    chosen_by = "--unit" if unit else "--band" if band else f"--like {like}" if like else ""
    written = render.show(document, format, out=path, chosen_by=chosen_by)
    say_written(written, quiet=quiet)
