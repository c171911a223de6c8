"""`carbontrack amend`: change what is said of a run, beside what was recorded."""

from __future__ import annotations

from typing import Annotated

import typer

from carbontrack.cli import parse
from carbontrack.cli.common import DbOption
from carbontrack.cli.factor_options import Flags, takes_factors
from carbontrack.cli.show import RunArgument
from carbontrack.record.labels import tag_of


@takes_factors
def amend(
    context: typer.Context,
    flags: Flags,
    run: RunArgument,
    name: Annotated[str | None, typer.Option("--name", help="Its name.")] = None,
    project: Annotated[
        str | None, typer.Option("--project", help="Its project; '' for none.")
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="KEY=VALUE", help="A tag; may be repeated. KEY= removes it."),
    ] = None,
    tokens: Annotated[
        str | None,
        typer.Option(
            "--tokens", metavar="N", help="Tokens of all its steps, 2T: each in proportion."
        ),
    ] = None,
    planned_tokens: Annotated[
        str | None,
        typer.Option("--planned-tokens", metavar="N", help="Tokens that its model is trained for."),
    ] = None,
    note: Annotated[
        str | None, typer.Option("--note", help="What else to know of it; '' for nothing.")
    ] = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="Take the newest amendment back, and nothing else.")
    ] = False,
    db: DbOption = None,
) -> None:
    """Amend what is said of a run: its name, project, tags, tokens, and where it ran.

    Nothing that was recorded is overwritten. Reports use the newest amendment, `show` and `explain`
    name each: who, when, from what to what. `--undo` takes back what the newest call amended.

    Example: carbontrack amend small --zone FRA --note 'it ran in Lyon'
    """
    from carbontrack.ledger.url import ledger_url
    from carbontrack.query import amend as amending
    from carbontrack.report.amendments import change_text
    from carbontrack.report.escape import visible

    url = ledger_url(db)
    if undo:
        parse.check_alone(
            context, "--undo", ("run", "undo", "db"), why="takes the newest amendment back"
        )
        found, changed = amending.undo(url, run)
    else:
        found, changed = amending.amend(
            url,
            run,
            flags,
            name=name,
            project=project,
            tags=dict(map(tag_of, tag or [])),
            tokens=tokens,
            planned_tokens=planned_tokens,
            note=note,
        )
    done = "undone" if undo else "amended"
    if not changed:
        typer.echo(visible(f"Run {found.name} ({found.id}) says so already."))
    for one in changed:
        typer.echo(visible(f"{done}: {change_text(one)}, of run {found.name} ({found.id})"))
