"""Training steps over time, in buckets of a round length: see `carbontrack.ledger.series`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, case, cast, func, select

from carbontrack.ledger import pyramid
from carbontrack.ledger.recorded_rows import Run
from carbontrack.ledger.rows import StepMean
from carbontrack.ledger.run_steps import steps_of


def step_means(
    connection: Connection,
    run: Run,
    *,
    from_ms: int | None = None,
    to_ms: int | None = None,
    points: int = 2000,
) -> list[StepMean]:
    """Training steps between two times, in order, in the shortest buckets of which there are at
    most `points`: a step that has one of its own is as it was logged.
    """
    length = step_bucket_ms(run, from_ms=from_ms, to_ms=to_ms, points=points)
    return steps_in_buckets(connection, run, length, from_ms=from_ms, to_ms=to_ms)


def step_bucket_ms(run: Run, *, from_ms: int | None, to_ms: int | None, points: int) -> int:
    """How long the buckets of `step_means` are for the same arguments, in ms."""
    begin_ms, end_ms = pyramid.range_of(run, from_ms, to_ms)
    return pyramid.bucket_ms(end_ms - begin_ms, points)


def mergeable_step_bucket_ms(run: Run, points: int) -> int:
    """How long buckets of all the run's steps are, about as many as `points`, that add up to those
    of `step_means` for any range in which these are longer.
    """
    begin_ms, end_ms = pyramid.range_of(run, None, None)
    return pyramid.mergeable_ms(end_ms - begin_ms, points)


def steps_in_buckets(
    connection: Connection,
    run: Run,
    length: int,
    *,
    from_ms: int | None = None,
    to_ms: int | None = None,
    numbers: tuple[int, int] | None = None,
) -> list[StepMean]:
    """As `step_means`, in buckets of `length` ms; one that is touched by the range is whole. The
    ledger finds steps by their numbers: the first and the last, where they are known, spare it to
    look at all of the run.
    """
    rows = step_rows(connection, run, length, from_ms=from_ms, to_ms=to_ms, numbers=numbers)
    return [StepMean(*row) for row in rows]


def step_rows(
    connection: Connection,
    run: Run,
    length: int,
    *,
    from_ms: int | None = None,
    to_ms: int | None = None,
    numbers: tuple[int, int] | None = None,
) -> Sequence[Sequence[Any]]:
    """The same, each as the fields of a `StepMean` in their order."""
    step = steps_of(connection, run).c
    bucket = (step.time_ms // length).label("bucket")
    # What is not a number is NULL, and what it was is among the extras.
    not_finite = step.loss.is_(None) & step.extra["loss"].as_string().is_not(None)
    columns = {  # in the order of StepMean: by name it would take twice as long
        "first_step": func.min(step.step),
        "step": func.max(step.step),
        "time_ms": func.max(step.time_ms),
        "steps": func.count(),
        "losses": func.count(step.loss),
        "loss": func.avg(step.loss),
        "loss_min": func.min(step.loss),
        "loss_max": func.max(step.loss),
        "not_finite": func.sum(case((not_finite, 1), else_=0)),
        "tokens": cast(func.sum(step.tokens), BigInteger),
        "rates": func.count(step.tokens_per_s),
        "tokens_per_s": func.avg(step.tokens_per_s),
    }
    wanted: list[ColumnElement[bool]] = []
    if numbers is not None:
        wanted.append(step.step.between(*numbers))
    if from_ms is not None:
        wanted.append(step.time_ms >= from_ms // length * length)
    if to_ms is not None:
        wanted.append(step.time_ms < (to_ms // length + 1) * length)
    query = (
        select(*(column.label(name) for name, column in columns.items()))
        .where(*wanted)
        .group_by(bucket)
        .order_by(bucket)
    )
    return connection.execute(query).all()
