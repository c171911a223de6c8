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
    from carbontrack.ledger.rows import Event


@takes_factors
def compare(
    flags: Flags,
    runs: Annotated[list[str], run_argument("RUN...", "Ids, prefixes, names or last.")],
    group: Annotated[
        str | None,
        typer.Option(
            metavar="tag:KEY",
            help="Runs that differ in this tag only, as tag:seed, are one: mean ± standard "
            "deviation. A name is then all runs that have it.",
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
            alike = [(run.name, [run]) for run in find_runs(connection, runs)]
        else:
            alike = list(replicas.groups_of(replicas.named(connection, runs), group).items())
        if len(alike) < 2:
            of = "one run" if group is None else f"one group, {alike[0][0]}"
            raise CarbontrackError(f"compare needs two to compare, and has {of}.")
        chosen = [run for _, members in alike for run in members]
        rows = price.estimates(connection, chosen, flags, [Method.MEASURED], embodied=embodied)
        side = {
            run.id: Side(
                row,
                project.curve(connection, run),
                read.steps(connection, run),
                _score(read.events(connection, run), metric, run.name),
            )
            for run, row in zip(chosen, rows, strict=True)
        }
    groups = [Group(name, tuple(side[run.id] for run in members)) for name, members in alike]
    render.show_table(*comparison(groups), format)


def _score(events: Sequence[Event], metric: str | None, run: str) -> Score | None:
    """The last one in a benchmark, if it was asked for."""
    from carbontrack.account import scores

    return None if metric is None else scores.need(scores.scores_of(events), metric, run)[-1]
