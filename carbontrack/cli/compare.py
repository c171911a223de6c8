"""`carbontrack compare`: runs, or groups of seeds, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from carbontrack.cli.common import DbOption, FormatOption, find_runs, run_argument
from carbontrack.cli.factor_options import EmbodiedOption, Flags, takes_factors
from carbontrack.errors import CarbontrackError
from carbontrack.vocabulary import Format, Method

if TYPE_CHECKING:
    from carbontrack.account.scores import Score
    from carbontrack.ledger.recorded_rows import Event


@takes_factors
def compare(
    flags: Flags,
    runs: Annotated[list[str], run_argument("RUN...", "Ids, prefixes, names or last.")],
    group: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="Compare groups, mean ± standard deviation: runs that differ in a tag only "
            "(tag:seed), or those of one tag:KEY, model, … A name is then all runs that have it.",
        ),
    ] = None,
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
    """Compare runs: energy per token, CO2e, cost, speed, the loss at equal energy, and the energy
    to reach a loss.

    Example: carbontrack compare llama2-baseline llama2-muon --zone FRA
    """
    from carbontrack.ledger import engine, read
    from carbontrack.ledger.url import ledger_url
    from carbontrack.query import price, project, replicas
    from carbontrack.report import render
    from carbontrack.report.compare import Group, Side, comparison

    with engine.open_reader(ledger_url(db)).connect() as connection:
        if group is None:
            chosen = find_runs(connection, runs)
            if twice := next((run for run in chosen if chosen.count(run) > 1), None):
                raise CarbontrackError(f"{twice.name} is named twice: give another run.")
            groups = [(run.name, [at]) for at, run in enumerate(chosen)]
        else:
            chosen = replicas.named(connection, runs)
            names = replicas.groups_of(connection, chosen, group)
            groups = [
                (name, [at for at, own in enumerate(names) if own == name])
                for name in dict.fromkeys(names)
            ]
        if len(groups) < 2:
            what = "run" if group is None else "group"
            raise CarbontrackError(f"There is one {what} to compare, {groups[0][0]}: give another.")
        rows = price.estimates(connection, chosen, flags, [Method.MEASURED], embodied=embodied)
        sides = [
            Side(
                row,
                project.curve(connection, run),
                read.steps(connection, run),
                _score(read.events(connection, run), metric, run.name),
            )
            for run, row in zip(chosen, rows, strict=True)
        ]
    compared = [Group(name, tuple(sides[at] for at in places)) for name, places in groups]
    render.show_table(*comparison(compared), format)


def _score(events: Sequence[Event], metric: str | None, run: str) -> Score | None:
    """The last one in a benchmark, if it was asked for."""
    from carbontrack.account import scores

    return None if metric is None else scores.need(scores.scores_of(events), metric, run)[-1]
