"""Projecting a run to a token target from its steady state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carbontrack.account.curve import EnergyCurve
from carbontrack.account.result import Estimate
from carbontrack.ledger.recorded_rows import Run

if TYPE_CHECKING:
    from carbontrack.account.project import Projection
    from carbontrack.ledger.imported import Connection

_CURVE_POINTS = 20_000


def curve(connection: Connection, run: Run) -> EnergyCurve:
    """The run's cumulative energy, as fine as the ledger has it."""
    from carbontrack.ledger import read

    most_rows = _CURVE_POINTS * max(1, len(read.sensors(connection, run)))
    series = read.series(connection, run, points=_CURVE_POINTS, most_rows=most_rows)
    return EnergyCurve.of(series, from_ms=run.started_ms, to_ms=run.end_ms)


def projected(
    connection: Connection,
    run: Run,
    measured: Estimate,
    *,
    tokens: str | None = None,
    steps: int | None = None,
    model: str | None = None,
) -> Projection:
    """The run at a target, from its steady state; by default at the tokens it planned.

    Raises CarbontrackError where the run logged too little.
    """
    from carbontrack.account.project import project, target_of
    from carbontrack.account.steady import steady_state
    from carbontrack.ledger import read

    rows = read.steps(connection, run)
    state = steady_state(rows, curve(connection, run), name=run.name)
    counts = [row.tokens for row in rows if row.tokens]
    target = target_of(
        run.model, sum(counts) / len(counts), tokens=tokens, steps=steps, to_model=model
    )
    return project(measured, state, target)
