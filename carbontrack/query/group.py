"""Grouping estimates by one key or two, with sub-totals and totals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carbontrack import config
from carbontrack.account.result import Estimate
from carbontrack.account.total import combine
from carbontrack.ledger.rows import Overlap, Run, Span
from carbontrack.query.by import NO_GROUP, keys_of, parts_of_run
from carbontrack.query.price import defaults, pricing

if TYPE_CHECKING:
    from carbontrack.ledger.imported import Connection

_Group = tuple[str, ...]  # its value of each key


@dataclass(frozen=True, slots=True)
class _Member:
    """What a run adds to a group, by each method: of all its devices and time, or of these only."""

    run: Run
    estimates: Sequence[Estimate]
    uuids: frozenset[str] | None = None
    spans_ms: tuple[Span, ...] = ()


def grouped(
    connection: Connection,
    runs: Sequence[Run],
    rows: Sequence[Estimate],
    by: Sequence[str],
    flags: config.Layer,
    *,
    embodied: bool = False,
    own_factors: bool = False,
    span_ms: Span | None = None,
) -> list[Estimate]:
    """One row for each group and method; `rows` are the `estimates` of the runs
    in the same span.

    By a key that splits (month, host, phase), a run that belongs to several groups adds its part to
    each. By two keys the rows are in the order of the first, then of the second. Raises
    CarbontrackError for keys that are unknown or do not go together.
    """
    keys = keys_of(by)
    wholes: dict[str, list[Estimate]] = {run.id: [] for run in runs}
    for row in rows:
        wholes[row.run_ids[0]].append(row)
    groups: dict[_Group, list[_Member]] = {}
    for run in runs:
        for part in parts_of_run(connection, run, keys, span_ms):
            member = _Member(run, wholes[run.id])
            if part.record is not None:
                price = pricing(
                    connection,
                    run,
                    flags,
                    config.surroundings(),
                    embodied=embodied,
                    defaults=defaults([row.method for row in rows], own_factors),
                )
                estimates = [price(part.record, whole.method, whole) for whole in wholes[run.id]]
                uuids = frozenset(sensor.uuid for sensor in part.record.sensors)
                member = _Member(run, estimates, uuids, part.record.spans_ms)
            groups.setdefault(tuple(part.group.values()), []).append(member)
    ordered = list(groups)
    if len(keys) > 1:
        ordered.sort(
            key=lambda group: [
                (name in (NO_GROUP, key.rest), name) for key, name in zip(keys, group, strict=True)
            ]
        )
    elif keys[0].newest_first:
        ordered.sort(reverse=True)
    elif keys[0].rest != NO_GROUP:
        ordered.sort(key=lambda group: group[0] == keys[0].rest)
    return [row for group in ordered for row in _combined(connection, by, group, groups[group])]


def subtotals(
    connection: Connection,
    runs: Sequence[Run],
    rows: Sequence[Estimate],
    by: Sequence[str],
    flags: config.Layer,
    *,
    embodied: bool = False,
    own_factors: bool = False,
    span_ms: Span | None = None,
) -> list[Estimate]:
    """Of rows `grouped` by two keys one for each group of the first; else none.

    They are the rows by the first key alone, so that a device that two of its groups recorded at
    the same time counts once.
    """
    if len(by) < 2:
        return []
    of_first = grouped(
        connection,
        runs,
        rows,
        by[:1],
        flags,
        embodied=embodied,
        own_factors=own_factors,
        span_ms=span_ms,
    )
    return sorted(
        of_first,
        key=lambda row: (row.label in (NO_GROUP, keys_of(by)[0].rest), row.label),
    )


def _combined(
    connection: Connection, by: Sequence[str], group: _Group, members: Sequence[_Member]
) -> Iterator[Estimate]:
    """The group's row by each method."""
    twice = _twice(connection, members)
    for estimates in zip(*(member.estimates for member in members), strict=True):
        yield combine(
            list(estimates),
            label=" / ".join(group),
            group=dict(zip(by, group, strict=True)),
            overlaps=twice,
        )


def _twice(connection: Connection, members: Sequence[_Member]) -> dict[str, list[Overlap]]:
    """What of each member another one recorded too, of its own devices and time."""
    from carbontrack.ledger import overlaps

    runs = [member.run for member in members]
    found = {}
    for spans_ms in {member.spans_ms for member in members}:
        twice = overlaps.recorded_twice(connection, runs, spans_ms)
        for member in members:
            if member.spans_ms == spans_ms and member.run.id in twice:
                found[member.run.id] = [
                    one
                    for one in twice[member.run.id]
                    if member.uuids is None or one.uuid in member.uuids
                ]
    return found


def totals(
    rows: Sequence[Estimate], overlaps: Mapping[str, Sequence[Overlap]] | None = None
) -> list[Estimate]:
    """The total by each method, in the order the methods appear; see `combine`."""
    methods = dict.fromkeys(row.method for row in rows)
    return [
        combine([row for row in rows if row.method == method], overlaps=overlaps)
        for method in methods
    ]
