"""Grouping estimates: by project, user, tag, model, status, host or month, and totals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carbontrack import config
from carbontrack.account.result import Estimate
from carbontrack.account.split import RunRecord, by_host, by_month, months_of, span_of_month
from carbontrack.account.total import combine
from carbontrack.errors import CarbontrackError
from carbontrack.ledger.rows import Overlap, Run, StepTotals
from carbontrack.query.price import defaults, pricing, record_of

if TYPE_CHECKING:
    from carbontrack.ledger.imported import Connection

_NO_GROUP = "–"


@dataclass(frozen=True, slots=True)
class _Member:
    """What a run adds to a group, by each method. `uuids`: of these devices only; None: of all."""

    run: Run
    estimates: Sequence[Estimate]
    uuids: frozenset[str] | None = None


def grouped(
    connection: Connection,
    runs: Sequence[Run],
    rows: Sequence[Estimate],
    by: str,
    flags: config.Layer,
    *,
    embodied: bool = False,
    own_factors: bool = False,
) -> list[Estimate]:
    """One row for each group and method; `rows` are the `estimates` of the runs.

    By month or host, a run of several is split. Raises CarbontrackError for an unknown `by`.
    """
    from carbontrack.ledger import overlaps

    wholes: dict[str, list[Estimate]] = {run.id: [] for run in runs}
    for row in rows:
        wholes[row.run_ids[0]].append(row)
    groups: dict[str, list[_Member]] = {}
    for run in runs:
        for group, part in _parts(connection, run, by).items():
            member = _Member(run, wholes[run.id])
            if part is not None:
                price = pricing(
                    connection,
                    run,
                    flags,
                    config.surroundings(),
                    embodied=embodied,
                    defaults=defaults([row.method for row in rows], own_factors),
                )
                estimates = [price(part, whole.method, whole) for whole in wholes[run.id]]
                member = _Member(run, estimates, frozenset(s.uuid for s in part.sensors))
            groups.setdefault(group, []).append(member)
    if by == "month":
        groups = dict(sorted(groups.items(), reverse=True))
    found = []
    for group, members in groups.items():
        span_ms = span_of_month(group) if by == "month" else None
        twice = overlaps.recorded_twice(connection, [member.run for member in members], span_ms)
        for member in members:
            if member.uuids is not None and member.run.id in twice:
                here = [one for one in twice[member.run.id] if one.uuid in member.uuids]
                twice[member.run.id] = here
        found += [
            combine(list(estimates), label=group, overlaps=twice)
            for estimates in zip(*(member.estimates for member in members), strict=True)
        ]
    return found


def _parts(connection: Connection, run: Run, by: str) -> Mapping[str, RunRecord | None]:
    """The groups that a run belongs to, with the part of it that does; None: the whole run."""
    from carbontrack.ledger import read

    if by == "month":
        months = months_of(run)
        if len(months) == 1:
            return dict.fromkeys(months)

        def steps_between(from_ms: int, to_ms: int) -> StepTotals:
            return read.step_totals(connection, run, from_ms=from_ms, to_ms=to_ms)

        return by_month(record_of(connection, run), steps_between)
    if by == "host":
        hosts = [node.host for node in read.nodes(connection, run)]
        if len(hosts) < 2:
            return dict.fromkeys(hosts or [_NO_GROUP])
        return by_host(record_of(connection, run)) or {"+".join(hosts): None}
    return {_group(run, by): None}


def _group(run: Run, by: str) -> str:
    if by.startswith("tag:"):
        return run.tags.get(by.removeprefix("tag:")) or _NO_GROUP
    known = {
        "name": run.name,
        "project": run.project,
        "user": run.user,
        "model": run.model.get("name"),
        "status": run.status,
    }
    if by not in known:
        names = ", ".join([*known, "host", "month", "tag:KEY"])
        raise CarbontrackError(f"--by {by}: unknown.", hint=f"Give {names}.")
    return str(known[by] or _NO_GROUP)


def totals(
    rows: Sequence[Estimate], overlaps: Mapping[str, Sequence[Overlap]] | None = None
) -> list[Estimate]:
    """The total by each method, in the order the methods appear; see `combine`."""
    methods = dict.fromkeys(row.method for row in rows)
    return [
        combine([row for row in rows if row.method == method], overlaps=overlaps)
        for method in methods
    ]
