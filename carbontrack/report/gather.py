"""From the ledger to estimates: reads runs with their sums, and prices each with its own
factors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from carbontrack import config
from carbontrack.account.estimate import Estimate, estimate_run
from carbontrack.account.factors import resolve
from carbontrack.account.total import combine
from carbontrack.ledger.rows import Run

if TYPE_CHECKING:
    from sqlalchemy import Connection


def estimates(
    connection: Connection,
    runs: Sequence[Run],
    flags: config.Layer,
    methods: Sequence[str],
    *,
    embodied: bool = False,
) -> list[Estimate]:
    """Each run by each method. Flags win over what was recorded with the run, that over files
    here.
    """
    from carbontrack.ledger import read

    around = config.surroundings()
    found = []
    for run in runs:
        settings = config.resolve([flags, config.snapshot(run.facility), *around])
        sensors = read.sensors(connection, run)
        hours = read.hours(connection, run)
        steps = read.step_totals(connection, run)
        for method in methods:
            factors = resolve(settings, method=method, embodied=embodied)
            found.append(
                estimate_run(run, sensors, hours, steps, factors, method=method, embodied=embodied)
            )
    return found


def totals(rows: Sequence[Estimate]) -> list[Estimate]:
    """The total by each method, in the order the methods appear."""
    methods = dict.fromkeys(row.method for row in rows)
    return [combine([row for row in rows if row.method == method]) for method in methods]
