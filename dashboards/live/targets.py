"""Where a run is going: its totals at the tokens it planned, and what its budgets leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from carbontrack.account.budget import Budget, judge
from carbontrack.account.result import Estimate
from carbontrack.errors import CarbontrackError
from carbontrack.ledger.recorded_rows import Run
from carbontrack.query import project

if TYPE_CHECKING:
    from sqlalchemy import Connection


def plan(connection: Connection, run: Run, measured: Estimate) -> dict[str, Any] | None:
    """Totals at the planned tokens as a range, and how long it takes until there.

    None where the run does not say how far it goes, or too little to foresee it. `doubt` says where
    it does not fit the run, else it is empty.
    """
    if not run.model.get("planned_tokens"):
        return None
    try:
        ahead = project.projected(connection, run, measured)
    except CarbontrackError:
        return None
    left = max(0.0, ahead.target.tokens - (measured.tokens or 0))
    names = ("energy_kwh", "facility_kwh", "tco2e", "cost")
    return {
        "tokens": ahead.target.tokens,
        "eta_s": left / ahead.state.tokens_per_s.value,
        "currency": ahead.estimate.currency,
        "doubt": ahead.doubt,
        **{
            name: [getattr(e, name) for e in (ahead.low, ahead.estimate, ahead.high)]
            for name in names
        },
    }


def budgets(nodes: Sequence[Mapping[str, Any]], measured: Estimate) -> list[dict[str, Any]]:
    """Each limit of the run: `unit`, `limit`, what is `spent` of it, its `share` and `state`."""
    found = [node["settings"].get("budget") for node in nodes]
    limits: Mapping[str, float] = next((limits for limits in found if limits), {})
    return [
        {**asdict(verdict), "share": verdict.share, "state": verdict.state.value}
        for verdict in judge(Budget(**limits), measured)
    ]
