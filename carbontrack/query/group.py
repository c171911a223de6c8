"""Grouping estimates by one key or two, with sub-totals and totals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from carbontrack import config
from carbontrack.account.result import Estimate
from carbontrack.account.split import RunRecord
from carbontrack.account.total import combine
from carbontrack.ledger.recorded_rows import Run, Span
from carbontrack.ledger.rows import Overlap
from carbontrack.query.by import NO_GROUP, Key, keys_of, parts_of_run, will_split
from carbontrack.query.price import defaults, pricing
from carbontrack.vocabulary import UNATTRIBUTED, RunKind

if TYPE_CHECKING:
    from carbontrack.ledger.held import ManyHeld
    from carbontrack.ledger.imported import Connection
    from carbontrack.ledger.overlaps import AmongRuns

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
    watches_apart: bool = True,
    held: ManyHeld | None = None,
) -> list[Estimate]:
    """One row for each group and method; `rows` are the `estimates` of the runs
    in the same span.

    By a key that splits (month, host, phase), a run that belongs to several groups adds its part to
    each. By two keys the rows are in the order of the first, then of the second. Watches have rows
    of their own, *unattributed*: what no other of the runs recorded; without `watches_apart` that
    is part of its host's or month's. `held` holds what has been read of these runs, where anything
    has. Raises CarbontrackError for keys that are unknown or do not go together.
    """
    from carbontrack.ledger.held import ManyHeld

    keys = keys_of(by)
    wholes: dict[str, list[Estimate]] = {run.id: [] for run in runs}
    for row in rows:
        wholes[row.run_ids[0]].append(row)
    groups: dict[tuple[_Group, bool], list[_Member]] = {}
    around = config.surroundings()
    whose = defaults([row.method for row in rows], own_factors)
    many = held or ManyHeld(connection, runs, span_ms)
    whole_ms = () if span_ms is None else (span_ms,)  # a run that is not split lies in it
    for held_of, run in many.each(lambda held: will_split(held, keys, span_ms)):
        apart = watches_apart and run.kind is RunKind.WATCH
        for part in parts_of_run(held_of, run, keys, span_ms):
            member = _Member(run, wholes[run.id], spans_ms=whole_ms)
            if part.record is not None:
                price = pricing(held_of, run, flags, around, embodied=embodied, defaults=whose)
                estimates = [price(part.record, whole.method, whole) for whole in wholes[run.id]]
                member = _Member(run, estimates, _uuids_of(part.record), part.record.spans_ms)
            groups.setdefault((tuple(part.group.values()), apart), []).append(member)
    return [
        row
        for group, apart in _ordered(groups, keys)
        for row in _combined(many.among, by, group, groups[group, apart], apart=apart)
    ]


def _uuids_of(record: RunRecord) -> frozenset[str]:
    if record.devices is not None:
        return frozenset().union(*(alike.uuids for alike in record.devices.alike))
    return frozenset(sensor.uuid for sensor in record.sensors)


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
    held: ManyHeld | None = None,
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
        watches_apart=False,
        held=held,
    )
    (key,) = keys_of(by[:1])
    return sorted(of_first, key=lambda row: _place(row.label, key))


def _ordered(
    groups: Iterable[tuple[_Group, bool]], keys: Sequence[Key]
) -> list[tuple[_Group, bool]]:
    """By two keys in the order of both, by one as they come, but the newest month first; the rest
    of each key last, and watches below the jobs of their host or month.
    """
    first = {group: place for place, (group, _) in reversed([*enumerate(groups)])}

    def place(one: tuple[_Group, bool]) -> Any:
        group, apart = one
        if len(keys) > 1:
            return [_place(name, key) for name, key in zip(group, keys, strict=True)], apart
        last = keys[0].rest if keys[0].rest != NO_GROUP else None
        return group[0] == UNATTRIBUTED, group[0] == last, first[group], apart

    if len(keys) == 1 and keys[0].newest_first:
        return sorted(sorted(groups, key=lambda one: one[1]), key=lambda one: one[0], reverse=True)
    return sorted(groups, key=place)


def _place(name: str, key: Key) -> tuple[bool, bool, str]:
    """Those that a key names in their order, then the rest of it, then what is unattributed."""
    return name == UNATTRIBUTED, name in (NO_GROUP, key.rest), name


def _combined(
    among: AmongRuns, by: Sequence[str], group: _Group, members: Sequence[_Member], *, apart: bool
) -> Iterator[Estimate]:
    """The group's row by each method."""
    twice = _twice(among, members)
    named = dict(zip(by, group, strict=True))
    for estimates in zip(*(member.estimates for member in members), strict=True):
        row = combine(list(estimates), label=" / ".join(group), group=named, overlaps=twice)
        if apart:
            said = [] if UNATTRIBUTED in group else [UNATTRIBUTED]
            parts = (replace(one, kind=", ".join([*said, one.kind])) for one in row.parts)
            row = replace(row, kind=UNATTRIBUTED, parts=tuple(parts))
        yield row


def _twice(among: AmongRuns, members: Sequence[_Member]) -> dict[str, list[Overlap]]:
    """What of each member another one recorded too, of its own devices and time; of a watch, what
    any other of the runs did.
    """
    runs = [member.run for member in members]
    found = {}
    for spans_ms in {member.spans_ms for member in members}:
        here = [member for member in members if member.spans_ms == spans_ms]
        twice = among.recorded_twice(runs, spans_ms)
        if any(member.run.kind is RunKind.WATCH for member in here):
            of_watches = among.all(spans_ms)
        for member in here:
            own = of_watches if member.run.kind is RunKind.WATCH else twice
            if member.run.id in own:
                found[member.run.id] = [
                    one
                    for one in own[member.run.id]
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
