"""The training steps of a run, of all its recordings: each step as its newest attempt logged it,
and of that the lowest rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

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
    values,
)
from sqlalchemy.orm import aliased
from sqlalchemy.sql.selectable import Subquery

from carbontrack.ledger import models
from carbontrack.ledger.amended import tokens_of
from carbontrack.ledger.outcome import attempts_of
from carbontrack.ledger.pyramid import recordings_of
from carbontrack.ledger.rows import Run
from carbontrack.ledger.tables import RECORDINGS
from carbontrack.vocabulary import EventKind


@dataclass(frozen=True, slots=True)
class _Logged:
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
    logged = sorted(_logged(connection, run.key), key=lambda one: one.order)
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


def _logged(connection: Connection, run_key: int) -> Iterator[_Logged]:
    """By seeks in the key alone, however many steps there are."""
    recording, step = models.Recording, models.Step
    query = select(recording.__table__).where(recording.run_key == run_key)
    found = connection.execute(query).mappings()
    of_run = [replace(RECORDINGS.read(row), key=row["key"]) for row in found]
    attempt_of = {
        one.key: number for number, group in enumerate(attempts_of(of_run)) for one in group
    }
    for one in of_run:
        key, began = one.key, -1
        of_it = select(step.restart, step.step, step.rank).where(step.recording_key == key)
        while first := connection.execute(
            of_it.where(step.restart > began).order_by(step.restart, step.step).limit(1)
        ).one_or_none():
            began = first.restart
            last = connection.execute(
                of_it.where(step.restart == began).order_by(step.step.desc()).limit(1)
            ).one()
            order = (attempt_of[key], began, -(first.rank or 0), one.started_ms)
            yield _Logged(key, began, first.step, last.step, order)


def first_steps(connection: Connection, run: Run) -> dict[int, dict[int, int]]:
    """The lowest step of each start of the processes, by the recording's key and its number."""
    found: dict[int, dict[int, int]] = {}
    for one in _logged(connection, run.key):
        found.setdefault(one.recording_key, {})[one.restart] = one.first_step
    return found


def last_step_below(
    connection: Connection, recordings: Sequence[int], restart: int, number: int
) -> int | None:
    """When the last step below a number ended in this start of the processes, in ms; None if none
    was logged. `recordings` are their keys.
    """
    step = models.Step
    times = []
    for key in recordings:
        of_it = (step.recording_key == key, step.restart == restart, step.step < number)
        query = select(step.time_ms).where(*of_it).order_by(step.step.desc()).limit(1)
        times.append(connection.scalar(query))
    return max((time_ms for time_ms in times if time_ms is not None), default=None)


def restarts(connection: Connection, run: Run) -> dict[int, dict[int, int]]:
    """When the job's processes were started again, in ms, by the recording's key and the number of
    that start.
    """
    event = models.Event
    query = select(event.recording_key, event.time_ms, event.data).where(
        event.recording_key.in_(recordings_of(run.key)), event.kind == EventKind.RESTARTED
    )
    found: dict[int, dict[int, int]] = {}
    for key, time_ms, data in connection.execute(query.order_by(event.number)):
        if isinstance(number := data.get("restart"), int):
            found.setdefault(key, {}).setdefault(number, time_ms)
    return found
