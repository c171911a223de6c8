"""Where the projects with a quota stand, by the rows of `table --by project` in that period."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carbontrack import config
from carbontrack.account.quota import Period, QuotaUse, period_of, uses_of
from carbontrack.account.result import Estimate
from carbontrack.ledger.recorded_rows import Run, Span
from carbontrack.query import group, price, select
from carbontrack.query.by import NO_GROUP
from carbontrack.quotas import Quota
from carbontrack.vocabulary import Method, RunKind

if TYPE_CHECKING:
    from carbontrack.ledger.imported import Connection

_PROJECT = "project"

Estimates = Callable[[Sequence[Run], Span], list[Estimate]]


@dataclass(frozen=True, slots=True)
class Standing:
    """Each limit of each quota, the rows of their projects and of the runs of these, and, where all
    projects were asked for, those that ran in the same periods without a quota: *–* stands for runs
    without a project. `untimed` are the names of their runs that no period has.
    """

    uses: Sequence[QuotaUse]
    rows: Sequence[Estimate]
    runs: Sequence[Estimate]
    without_quota: Sequence[str]
    untimed: Sequence[str]


def standing(
    connection: Connection,
    quotas: Mapping[str, Quota],
    flags: config.Layer,
    *,
    at_ms: int,
    now_ms: int,
    only: Collection[str] | None = None,
    estimates: Estimates | None = None,
) -> Standing:
    """In the period of each quota that `at_ms` is in, or of `only` these projects; `estimates` of
    runs in a span, where these are known already. Watches are of nodes, not of projects.
    """
    asked = {name: one for name, one in quotas.items() if only is None or name in only}
    periods = {name: period_of(quota.per, at_ms) for name, quota in asked.items()}
    rows: list[Estimate] = []
    runs: list[Estimate] = []
    without: set[str] = set()
    of_project: dict[str, list[Estimate]] = defaultdict(list)
    for period in dict.fromkeys(periods.values()):
        wanted = select.Selection(since_ms=period.span_ms[0], until_ms=period.span_ms[1])
        jobs = [
            run for run in select.choose(connection, [], wanted) if run.kind is not RunKind.WATCH
        ]
        if only is None:
            without.update(run.project or NO_GROUP for run in jobs if run.project not in quotas)
        limited = [run for run in jobs if run.project and periods.get(run.project) == period]
        each, of_projects = _priced(connection, limited, period, flags, estimates)
        runs += each
        project_of = {run.id: run.project or "" for run in limited}
        for one in each:
            of_project[project_of[one.run_ids[0]]].append(one)
        rows += of_projects
    row_of = {row.group[_PROJECT]: row for row in rows}
    uses = [
        use
        for name, quota in asked.items()
        for use in uses_of(quota, periods[name], row_of.get(name), of_project[name], now_ms)
    ]
    untimed = [
        run.name
        for run in select.choose(connection, [], select.Selection(untimed=True))
        if run.project in asked
    ]
    return Standing(uses, rows, runs, sorted(without), untimed)


def _priced(
    connection: Connection,
    runs: Sequence[Run],
    period: Period,
    flags: config.Layer,
    estimates: Estimates | None,
) -> tuple[list[Estimate], list[Estimate]]:
    """Each run, and each project that has runs."""
    from carbontrack.ledger.held import ManyHeld

    span_ms = period.span_ms
    held = ManyHeld(connection, runs, span_ms)
    if estimates is None:
        methods = [Method.MEASURED]
        each = price.estimates(connection, runs, flags, methods, span_ms=span_ms, held=held)
    else:
        each = estimates(runs, span_ms)
    own: dict[str, Any] = {"span_ms": span_ms, "held": held}
    return each, group.grouped(connection, runs, each, [_PROJECT], flags, **own)
