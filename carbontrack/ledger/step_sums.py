"""Sums over the steps of runs, or over those of some time: of a thousand in as few queries as of
one, and of a run that logs into one place by seeks to its two ends, however many steps it has.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, text

from carbontrack.ledger.amended import tokens_of
from carbontrack.ledger.recorded_rows import (
    EDGE_STEPS,
    EdgeSteps,
    Run,
    Span,
    StepTotals,
    final_loss,
    final_steps,
)
from carbontrack.ledger.run_steps import Logged
from carbontrack.ledger.sql import in_parts, listed_rows
from carbontrack.ledger.true_time import Piece, pieces_of
from carbontrack.ledger.window import FIRST_MS, LAST_MS

_Row = Sequence[Any]  # place, step, time, loss, tokens, tokens_per_s


@dataclass(frozen=True, slots=True)
class StepsOf:
    """Which steps are wanted: of a run that logged them like this, those from a time up to, and
    without, another; all of them without a span.
    """

    run: Run
    logged: Sequence[Logged]
    span_ms: Span | None = None


@dataclass(frozen=True, slots=True)
class _Sums:
    steps: int
    tokens: int | None
    losses: int


def step_totals_of(connection: Connection, wanted: Sequence[StepsOf]) -> list[StepTotals]:
    """The sums of each, in order. Where a run's tokens are amended, those of a step are in
    proportion to what was logged; where no step has any, a part of it has none either.
    """
    found = [StepTotals()] * len(wanted)
    for some in in_parts(range(len(wanted))):
        alone, mixed = [], []
        for place in some:
            one = wanted[place]
            if _is_alone(one) and one.span_ms is None and tokens_of(one.run) is None:
                alone.append((place, one))
            elif one.logged:
                mixed.append((place, one))
        for place, totals in (*_of_alone(connection, alone), *_of_mixed(connection, mixed)):
            found[place] = totals
    return [_amended(one, totals) for one, totals in zip(wanted, found, strict=True)]


def _is_alone(one: StepsOf) -> bool:
    """Whether it was logged into one place, by a clock that was right."""
    return len(one.logged) == 1 and one.logged[0].recording_key not in one.run.clocks


def _amended(one: StepsOf, totals: StepTotals) -> StepTotals:
    amended = tokens_of(one.run) if one.span_ms is None else None
    return totals if amended is None else replace(totals, tokens=amended)  # the steps' are rounded


_Wanted = Sequence[tuple[int, StepsOf]]
_Found = Iterator[tuple[int, StepTotals]]


def _of_alone(connection: Connection, wanted: _Wanted) -> _Found:
    """All steps of runs of which each logged them as one start of one recording."""
    if not wanted:
        return
    logged = {place: one.logged[0] for place, one in wanted}
    listed = listed_rows((place, one.recording_key, one.restart) for place, one in logged.items())
    sums = {
        place: _Sums(steps, _int(tokens), losses)
        for place, steps, tokens, losses in connection.execute(text(_SUMS.format(rows=listed)))
    }
    holey = [(place, one) for place, one in logged.items() if not _is_dense(one, sums.get(place))]
    ends = _ends(connection, holey, EDGE_STEPS)
    ranges = []
    for place, one in logged.items():
        edges = one.first_step + EDGE_STEPS - 1, one.last_step - EDGE_STEPS + 1
        until, since = ends.get(place, edges)
        if until is None or since is None or until + 1 >= since:
            ranges.append((place, one, one.first_step, one.last_step))
        else:
            ranges.append((place, one, one.first_step, until))
            ranges.append((place, one, since, one.last_step))
    rows = _between(connection, ranges)
    edges_of = {place: _edges(rows[place]) for place in sums}
    more = {
        place: final_steps(of.losses)
        for place, of in sums.items()
        if len(_last_losses(edges_of[place][1].losses, of)) < final_steps(of.losses)
    }
    losses = _last_known(connection, {place: (logged[place], more[place]) for place in more})
    for place, of in sums.items():
        first, last = edges_of[place]
        yield place, _totals(of, first, last, losses.get(place, last.losses))


def _is_dense(one: Logged, sums: _Sums | None) -> bool:
    """Whether each number from the first step to the last is one of a step."""
    return sums is not None and sums.steps == one.last_step - one.first_step + 1


def _edges(rows: Sequence[_Row]) -> tuple[EdgeSteps, EdgeSteps]:
    """Of steps in order, the first ones and the last ones."""
    columns = list(zip(*rows, strict=True))[1:]
    first, last = slice(EDGE_STEPS), slice(-EDGE_STEPS, None)
    return EdgeSteps(*(c[first] for c in columns)), EdgeSteps(*(c[last] for c in columns))


_SUMS = """
with logged (place, recording_key, restart) as (values {rows})
select place, count(*), sum(tokens), count(loss) from logged join steps
    on steps.recording_key = logged.recording_key and steps.restart = logged.restart
group by place"""


def _ends(
    connection: Connection, logged: Iterable[tuple[int, Logged]], count: int, where: str = ""
) -> dict[int, tuple[int | None, int | None]]:
    """By place, the `count`th step from the beginning and from the end; the last and the first one
    where there are fewer.
    """
    listed = listed_rows((place, one.recording_key, one.restart) for place, one in logged)
    if not listed:
        return {}

    def nth(order: str) -> str:
        of_it = (
            "from steps where steps.recording_key = logged.recording_key "
            f"and steps.restart = logged.restart{where} order by step"
        )
        other = "" if order else " desc"
        return (
            f"coalesce((select step {of_it}{order} limit 1 offset {count - 1}), "
            f"(select step {of_it}{other} limit 1))"
        )

    query = (
        f"with logged (place, recording_key, restart) as (values {listed}) "
        f"select place, {nth('')}, {nth(' desc')} from logged"
    )
    return {place: (until, since) for place, until, since in connection.execute(text(query))}


def _between(
    connection: Connection, ranges: Sequence[tuple[int, Logged, int, int | None]], where: str = ""
) -> dict[int, list[_Row]]:
    """By place, the steps in these ranges of numbers, in order."""
    found: dict[int, list[_Row]] = defaultdict(list)
    for some in in_parts(ranges):
        listed = listed_rows(
            (place, one.recording_key, one.restart, first, last)
            for place, one, first, last in some
            if last is not None
        )
        query = text(_BETWEEN.format(rows=listed, where=where))
        for row in connection.execute(query).all():
            found[row[0]].append(row)
    for rows in found.values():
        rows.sort(key=itemgetter(1))
    return found


_BETWEEN = """
with ranges (place, recording_key, restart, first, last) as (values {rows})
select place, step, time_ms, loss, tokens, tokens_per_s from ranges join steps
    on steps.recording_key = ranges.recording_key and steps.restart = ranges.restart
    and steps.step between ranges.first and ranges.last{where}"""


def _last_known(
    connection: Connection, wanted: Mapping[int, tuple[Logged, int]]
) -> dict[int, list[float]]:
    """By place, at least the last losses, as many as are wanted, and fewer than twice as many: a
    query can seek the same number in all of them.
    """
    found: dict[int, list[float]] = {}
    known = " and steps.loss is not null"

    def doubled(place: int) -> int:
        return 1 << (wanted[place][1] - 1).bit_length()

    for count, places in groupby(sorted(wanted, key=doubled), doubled):
        logged = {place: wanted[place][0] for place in places}
        ends = _ends(connection, logged.items(), count, known)
        since = {place: last for place, (_, last) in ends.items()}
        ranges = [
            (place, one, first, one.last_step)
            for place, one in logged.items()
            if (first := since[place]) is not None
        ]
        rows_of = _between(connection, ranges, known)
        found |= {place: [loss for *_, loss, _, _ in rows] for place, rows in rows_of.items()}
    return found


def _last_losses(losses: Sequence[float | None], sums: _Sums) -> list[float]:
    """The last ones that are known, as many as the final loss is the mean of, the newest first."""
    known = (loss for loss in reversed(losses) if loss is not None)
    return list(islice(known, final_steps(sums.losses)))


def _of_mixed(connection: Connection, wanted: _Wanted) -> _Found:
    """Steps of some time, or of runs of which several recordings, or starts of the processes, have
    the same steps: all of them are looked at.
    """
    if not wanted:
        return
    amended = {place: one for place, one in wanted if tokens_of(one.run) is not None}
    whole = [(place, replace(one, span_ms=None)) for place, one in amended.items()]
    logged = {place: rows[0].all_tokens for place, rows in _looked_at(connection, whole, {})}
    factors = {
        place: (tokens_of(one.run) or 0) / float(logged[place])
        for place, one in amended.items()
        if logged.get(place)
    }
    for place, rows in _looked_at(connection, wanted, factors):
        sums = _Sums(rows[0].steps, _int(rows[0].all_tokens), rows[0].losses)
        first, _ = _edges([row[:6] for row in rows if row.from_first <= EDGE_STEPS])
        _, last = _edges([row[:6] for row in rows if row.from_last <= EDGE_STEPS])
        yield place, _totals(sums, first, last, [row.loss for row in rows])


def _looked_at(
    connection: Connection, wanted: _Wanted, factors: Mapping[int, float]
) -> Iterator[tuple[int, list[Any]]]:
    """By place, the steps at both ends, in order, and all that have one of the last losses: each
    with its number from the first one and from the last, and the sums of all steps, tokens and
    losses.
    """
    listed = _logged_rows(wanted, factors)
    if listed:
        query = text(f"{_FOUND.format(rows=listed)}{_LOOKED_AT.format(edge=EDGE_STEPS)}")
        rows = connection.execute(query).all()
        for place, of_place in groupby(rows, itemgetter(0)):
            yield place, list(of_place)


def _logged_rows(wanted: _Wanted, factors: Mapping[int, float]) -> str:
    return listed_rows(
        (
            *(place, number),
            *(of.recording_key, of.restart, of.first_step, of.last_step),
            *piece,
            _number(factors.get(place)),
        )
        for place, one in wanted
        for number, of in enumerate(one.logged)
        for piece in _pieces(one, of)
    )


def _pieces(one: StepsOf, of: Logged) -> Iterator[Piece]:
    """When the steps ended that are wanted, by the clock of their node."""
    begin_ms, end_ms = one.span_ms or (FIRST_MS, LAST_MS)
    shifts = one.run.clocks.get(of.recording_key, ())
    for piece in pieces_of(shifts):  # an empty one, too: its steps replace older ones
        from_ms = max(piece.from_ms, begin_ms - piece.shift_ms)
        yield Piece(from_ms, min(piece.to_ms, end_ms - piece.shift_ms), piece.shift_ms)


_FOUND = """
with logged (place, number, recording_key, restart, first_step, last_step, from_ms, to_ms, shift_ms,
    factor) as (values {rows}),
found as (
    select logged.place, steps.step, steps.time_ms + logged.shift_ms as time_ms, steps.loss,
        case when logged.factor is null then steps.tokens
            else cast(round(steps.tokens * logged.factor) as bigint) end as tokens,
        steps.tokens_per_s
    from logged join steps
        on steps.recording_key = logged.recording_key and steps.restart = logged.restart
    where steps.time_ms >= logged.from_ms and steps.time_ms < logged.to_ms and not exists (
        select 1 from logged newer join steps again
            on again.recording_key = newer.recording_key and again.restart = newer.restart
        where newer.place = logged.place and newer.number > logged.number
            and steps.step between newer.first_step and newer.last_step
            and again.step = steps.step)
)"""
_LOOKED_AT = """,
numbered as (
    select found.*, row_number() over (partition by place order by step) as from_first,
        row_number() over (partition by place order by step desc) as from_last,
        count(*) over (partition by place) as steps,
        sum(tokens) over (partition by place) as all_tokens,
        count(loss) over (partition by place) as losses,
        count(loss) over (partition by place order by step desc) as losses_from_last
    from found
)
select place, step, time_ms, loss, tokens, tokens_per_s, from_first, from_last, steps, all_tokens,
    losses
from numbered where from_first <= {edge} or from_last <= {edge}
    or (loss is not null and losses_from_last <= 1 + losses / 100)
order by place, step"""


def loss_means_of(
    connection: Connection, wanted: Sequence[tuple[StepsOf, int]]
) -> list[list[float | None]]:
    """Of each of these, the mean loss of the steps in each stretch of so many ms that has some, in
    order.
    """
    found: list[list[float | None]] = [[] for _ in wanted]
    for some in in_parts([(place, *one) for place, one in enumerate(wanted) if one[0].logged]):
        alone = [(place, one.logged[0], ms) for place, one, ms in some if _is_alone(one)]
        mixed = [(place, one) for place, one, _ in some if not _is_alone(one)]
        queries = []
        if alone:
            listed = listed_rows((at, one.recording_key, one.restart, ms) for at, one, ms in alone)
            queries.append(_MEANS.format(rows=listed))
        if mixed:
            lengths = listed_rows((place, ms) for place, _, ms in some)
            listed = _logged_rows(mixed, {})
            queries.append(f"{_FOUND.format(rows=listed)}{_MIXED_MEANS.format(rows=lengths)}")
        for query in queries:
            for place, _, loss in connection.execute(text(query)):
                found[place].append(loss)
    return found


_MEANS = """
with logged (place, recording_key, restart, length_ms) as (values {rows})
select place, time_ms / length_ms as bucket, avg(loss) from logged join steps
    on steps.recording_key = logged.recording_key and steps.restart = logged.restart
group by place, time_ms / length_ms order by place, bucket"""
_MIXED_MEANS = """,
lengths (place, length_ms) as (values {rows})
select found.place, time_ms / length_ms as bucket, avg(loss)
from found join lengths on lengths.place = found.place
group by found.place, time_ms / length_ms order by found.place, bucket"""


def extras_of(
    connection: Connection, wanted: Sequence[tuple[StepsOf, int]]
) -> list[Mapping[str, Any]]:
    """What else was logged with one step of each of these, known by its number."""
    found: list[Mapping[str, Any]] = [{} for _ in wanted]
    for some in in_parts([(place, *one) for place, one in enumerate(wanted) if one[0].logged]):
        listed = listed_rows(
            (place, number, of.recording_key, of.restart, step)
            for place, one, step in some
            for number, of in enumerate(one.logged)
        )
        for place, _, extra in connection.execute(text(_EXTRAS.format(rows=listed))):
            found[place] = json.loads(extra) if isinstance(extra, str) else extra
    return found


_EXTRAS = """
with logged (place, number, recording_key, restart, step) as (values {rows})
select logged.place, logged.number, extra from logged join steps
    on steps.recording_key = logged.recording_key and steps.restart = logged.restart
    and steps.step = logged.step
order by place, number"""


def _totals(
    sums: _Sums, first: EdgeSteps, last: EdgeSteps, losses: Sequence[float | None]
) -> StepTotals:
    """`losses` are in order, with all that the final one is the mean of."""
    return StepTotals(
        steps=sums.steps,
        tokens=sums.tokens,
        final_loss=final_loss(_last_losses(losses, sums)),
        final_loss_steps=final_steps(sums.losses) or None,
        first=first,
        last=last,
    )


def _int(value: Any) -> int | None:
    return None if value is None else int(value)


def _number(value: float | None) -> str:
    return f"cast({'null' if value is None else repr(repr(value))} as double precision)"
