"""The training steps of a run, of all its recordings: each step as its newest attempt logged it,
and of that the lowest rank.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Double,
    Integer,
    and_,
    cast,
    column,
    exists,
    false,
    func,
    literal,
    select,
    text,
    values,
)
from sqlalchemy.orm import aliased
from sqlalchemy.sql.selectable import Subquery

from carbontrack.ledger import models, true_time
from carbontrack.ledger.amended import tokens_of
from carbontrack.ledger.node_clocks import true_ms
from carbontrack.ledger.outcome import attempts_of
from carbontrack.ledger.recorded_rows import Recording, Run
from carbontrack.ledger.sql import in_parts, listed
from carbontrack.ledger.tables import RECORDINGS
from carbontrack.ledger.true_time import corrected
from carbontrack.vocabulary import EventKind


@dataclass(frozen=True, slots=True)
class Logged:
    """What one recording has of one start of the job's processes."""

    recording_key: int
    restart: int
    first_step: int
    last_step: int
    order: tuple[int, int, int, int]


def steps_of(connection: Connection, run: Run) -> Subquery:
    """The run's steps, each once, as a table with the columns of `models.Step`. Where the run's
    tokens are amended, those of each step are in proportion to what was logged.
    """
    steps = _as_logged(connection, run)
    if run.clocks:
        time_ms = true_ms(steps.c.time_ms, steps.c.recording_key, run.clocks)
        others = (column for column in steps.c if column.name != "time_ms")
        steps = select(*others, time_ms.label("time_ms")).subquery()
    amended = tokens_of(run)
    if amended is None:
        return steps
    logged = connection.scalar(select(func.sum(steps.c.tokens)))
    if not logged:
        return steps
    each = cast(func.round(steps.c.tokens * literal(amended / float(logged), Double)), BigInteger)
    others = (column for column in steps.c if column.name != "tokens")
    return select(*others, each.label("tokens")).subquery()


def _as_logged(connection: Connection, run: Run) -> Subquery:
    recording = models.Recording
    query = select(recording.__table__).where(recording.run_key == run.key)
    found = connection.execute(query).mappings()
    of_run = [
        corrected(replace(RECORDINGS.read(row), key=row["key"]), run.clocks.get(row["key"], ()))
        for row in found
    ]
    logged = logged_of(connection, {run.key: of_run})[run.key]
    step = models.Step
    if not logged:
        return select(step.__table__).where(false()).subquery()
    if len(logged) == 1:
        key, restart = logged[0].recording_key, logged[0].restart
        of_it = and_(step.recording_key == key, step.restart == restart)
        return select(step.__table__).where(of_it).subquery()
    names = ("recording_key", "restart", "first_step", "last_step", "place")
    rows = [
        (one.recording_key, one.restart, one.first_step, one.last_step, place)
        for place, one in enumerate(logged)
    ]
    known = values(*(column(name, Integer) for name in names), name="logged").data(rows).cte()
    its, newer, again = known.alias("its"), known.alias("newer"), aliased(step)
    replaced = exists().where(
        newer.c.place > its.c.place,
        step.step.between(newer.c.first_step, newer.c.last_step),
        again.recording_key == newer.c.recording_key,
        again.restart == newer.c.restart,
        again.step == step.step,
    )
    of_them = and_(
        step.recording_key == its.c.recording_key, step.restart == its.c.restart, ~replaced
    )
    return select(step.__table__).join(its, of_them).subquery()


def logged_of(
    connection: Connection, recordings: Mapping[int, Sequence[Recording]]
) -> dict[int, list[Logged]]:
    """By the key of the run, of which these are all recordings, what each has of each start of the
    processes: a later one replaces the steps that it has, too.

    By seeks in the key alone, however many steps there are.
    """
    rows = (
        row
        for some in in_parts(list(recordings))
        for row in connection.execute(text(_STARTS.format(keys=listed(some))))
    )
    started: dict[int, list[Any]] = defaultdict(list)
    for row in rows:
        started[row.recording_key].append(row)
    found: dict[int, list[Logged]] = {}
    for run_key, of_run in recordings.items():
        logged = [
            Logged(
                one.key,
                row.restart,
                row.first_step,
                row.last_step,
                (attempt, row.restart, -(row.rank or 0), one.started_ms),
            )
            for attempt, group in enumerate(attempts_of(of_run))
            for one in group
            for row in started.get(one.key, ())
        ]
        found[run_key] = sorted(logged, key=lambda one: one.order)
    return found


# The numbers of the starts by one seek each: SQL has no other way to skip the steps between.
_STARTS = """
with recursive starts (recording_key, restart) as (
    select key, (select min(restart) from steps where recording_key = recordings.key)
    from recordings where run_key in ({keys})
    union all
    select recording_key, (select min(steps.restart) from steps
        where steps.recording_key = starts.recording_key and steps.restart > starts.restart)
    from starts where restart is not null
)
select recording_key, restart,
    (select step from steps where steps.recording_key = starts.recording_key
        and steps.restart = starts.restart order by step limit 1) as first_step,
    (select rank from steps where steps.recording_key = starts.recording_key
        and steps.restart = starts.restart order by step limit 1) as rank,
    (select step from steps where steps.recording_key = starts.recording_key
        and steps.restart = starts.restart order by step desc limit 1) as last_step
from starts where restart is not null"""


def last_steps_below(
    connection: Connection, wanted: Collection[tuple[int, int, int]]
) -> dict[tuple[int, int, int], int]:
    """When the last step below a number ended in a start of the processes, in ms by the clock of
    its node, of each (key of the recording, start, number); none of one that logged no such step.
    """
    found = {}
    for some in in_parts(sorted(wanted)):
        for key, restart, number, time_ms in connection.execute(
            text(_LAST_BELOW.format(rows=", ".join(map(str, some))))
        ):
            if time_ms is not None:
                found[key, restart, number] = time_ms
    return found


_LAST_BELOW = """
with wanted (recording_key, restart, number) as (values {rows})
select recording_key, restart, number, (select time_ms from steps
    where steps.recording_key = wanted.recording_key and steps.restart = wanted.restart
    and steps.step < wanted.number order by step desc limit 1) as time_ms
from wanted"""


def restarts_of(
    connection: Connection, recordings: Mapping[int, Sequence[Recording]]
) -> dict[int, dict[int, int]]:
    """When the job's processes were started again, in ms, by the recording's key and the number of
    that start; `recordings` as of `logged_of`.
    """
    event, recording = models.Event, models.Recording
    shifts = {one.key: one.shifts for of_run in recordings.values() for one in of_run}
    query = select(event.recording_key, event.time_ms, event.data)
    query = query.join(recording, recording.key == event.recording_key)
    query = query.where(event.kind == EventKind.RESTARTED).order_by(event.number)
    found: dict[int, dict[int, int]] = {}
    for some in in_parts(list(recordings)):
        for key, time_ms, data in connection.execute(query.where(recording.run_key.in_(some))):
            if isinstance(number := data.get("restart"), int):
                at_ms = true_time.true_ms(shifts.get(key, ()), time_ms)
                found.setdefault(key, {}).setdefault(number, at_ms)
    return found
