"""`carbontrack runs`: which runs the ledger holds, and removing some of them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from carbontrack.cli import parse
from carbontrack.cli.common import (
    MOST_RUNS,
    DbOption,
    FormatOption,
    find_runs,
    print_json,
    run_argument,
    say,
    say_untimed,
    warn_of_journals,
)
from carbontrack.cli.selection_options import takes_selection
from carbontrack.errors import CarbontrackError
from carbontrack.query.select import Selection
from carbontrack.report.numbers import counted
from carbontrack.vocabulary import Format

if TYPE_CHECKING:
    from carbontrack.ledger.imported import Connection
    from carbontrack.ledger.recorded_rows import Run

app = typer.Typer()


@app.callback(invoke_without_command=True)
@takes_selection
def runs(
    context: typer.Context,
    wanted: Selection,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=MOST_RUNS, help="How many, newest first.")
    ] = 20,
    db: DbOption = None,
    format: FormatOption = Format.TEXT,
) -> None:
    """List runs, newest first: status, start, duration, energy.

    Example: carbontrack runs --project nlp --since 7d -n 50
    """
    from carbontrack.ledger import engine
    from carbontrack.query import select
    from carbontrack.query.runs import list_items
    from carbontrack.report.runs import listed, print_runs

    if context.invoked_subcommand is not None:
        command = f"runs {context.invoked_subcommand}"
        parse.check_alone(context, command, (), why="has options of its own")
        return
    url = engine.ledger_url(db)
    warn_of_journals(url)
    try:
        reader = engine.open_reader(url)
    except engine.NoLedger:
        if db is not None:  # a ledger that was named has to exist
            raise
        rows, has_more = [], False
    else:
        with reader.connect() as connection:
            chosen = select.choose(connection, [], wanted, limit=min(limit + 1, MOST_RUNS))
            rows = [listed(item) for item in list_items(connection, chosen[:limit])]
            has_more = len(chosen) > limit
            say_untimed(connection, [], wanted)
    if format is Format.JSON:
        print_json({"runs": rows})
    elif rows:
        print_runs(rows)
        if has_more:
            say(f"only the newest {limit} are shown; --limit N shows more")
    elif wanted != Selection():
        typer.echo("No such runs.")
    else:
        from carbontrack.ledger.url import db_option

        typer.echo(f"No runs yet. Record one: carbontrack run{db_option(url)} -- COMMAND")


@app.command("rm")
def remove(
    runs: Annotated[list[str], run_argument("RUN...", "Ids, prefixes or names.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask. It cannot be undone.")
    ] = False,
    db: DbOption = None,
) -> None:
    """Remove runs with all that was recorded of them. It cannot be undone.

    A tombstone stays in the ledger, so that no merge, journal or import brings the run back. A run
    that is being recorded is not removed.

    Example: carbontrack runs rm llama2-muon --dry-run
    """
    from carbontrack.ledger import engine, remove
    from carbontrack.report.escape import visible

    url = engine.ledger_url(db)
    if not dry_run:
        remove.finish(url)  # what an earlier one, cut short, has left
    with engine.open_reader(url).connect() as connection:
        found = list({run.id: run for run in find_runs(connection, runs, "meant")}.values())
        lines = [visible(_said(connection, run)) for run in found]
    typer.echo("\n".join(lines))
    if dry_run:
        typer.echo("Nothing was removed: --dry-run.")
        return
    if not yes:
        _ask(len(found))
    remove.remove(url, found)
    typer.echo(f"Removed {counted(len(found), 'run')}.")


def _said(connection: Connection, run: Run) -> str:
    """The run, and how much the ledger has of it."""
    from carbontrack.ledger.remove import held

    has = held(connection, run)
    counts = (("window", has.windows), ("step", has.steps), ("event", has.events))
    each = ", ".join(counted(number, word) for word, number in counts)
    return f"{run.id}  {run.name}, {run.status}: {each}"


def _ask(count: int) -> None:
    """Raises CarbontrackError without a terminal to ask on, and for any answer but yes."""
    what = "this run" if count == 1 else f"these {count} runs"
    if not sys.stdin.isatty():
        raise CarbontrackError(
            f"To remove {what} cannot be undone, and nobody can be asked.", hint="Give --yes."
        )
    if not typer.confirm(f"Remove {what}? It cannot be undone.", err=True):
        raise CarbontrackError("Nothing was removed.", exit_code=1)
