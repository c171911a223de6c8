"""From the ledger to estimates: reads runs with their sums, and prices each with its own
factors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from carbontrack import config
from carbontrack.account import catalog
from carbontrack.account.estimate import duration_s, estimate_run
from carbontrack.account.factors import resolve
from carbontrack.account.intensity import IntensitySeries, Interval
from carbontrack.account.result import Estimate
from carbontrack.account.total import combine
from carbontrack.ledger.rows import Run
from carbontrack.units import MS_PER_S

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
        series = _series(connection, run, settings)
        for method in methods:
            factors = resolve(settings, method=method, embodied=embodied, series=series)
            found.append(
                estimate_run(run, sensors, hours, steps, factors, method=method, embodied=embodied)
            )
    return found


def _series(connection: Connection, run: Run, settings: config.Settings) -> IntensitySeries | None:
    """The imported intensity of the run's zone while it ran; a year that was asked for goes
    before.
    """
    from carbontrack.ledger import factors

    zone = settings.get("zone")
    if zone is None or "@" in zone.value:
        return None
    code = catalog.zone_code(zone.value) or zone.value
    end_ms = run.started_ms + round(duration_s(run) * MS_PER_S)
    found = factors.intensity(connection, code, from_ms=run.started_ms, to_ms=end_ms)
    return IntensitySeries(tuple(Interval(**row) for row in found)) if found else None


def totals(rows: Sequence[Estimate]) -> list[Estimate]:
    """The total by each method, in the order the methods appear."""
    methods = dict.fromkeys(row.method for row in rows)
    return [combine([row for row in rows if row.method == method]) for method in methods]
