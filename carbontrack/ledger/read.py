"""Reading the ledger into plain rows. Every function takes an open connection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Select, func, or_, select

from carbontrack.ledger import models, pyramid, tables
from carbontrack.ledger.find import MAX_WORDS as MAX_WORDS
from carbontrack.ledger.find import SORTS as SORTS
from carbontrack.ledger.find import find_runs as find_runs
from carbontrack.ledger.find import list_runs as list_runs
from carbontrack.ledger.find import names as names
from carbontrack.ledger.find import projects as projects
from carbontrack.ledger.find import resolve_run as resolve_run
from carbontrack.ledger.find import users as users
from carbontrack.ledger.find import watches as watches
from carbontrack.ledger.recorded_rows import Event, Recording, Run, Sensor, Span, Step, StepTotals
from carbontrack.ledger.rows import ClockOffset, Import, Stated
from carbontrack.ledger.run_devices import recordings_of, sensors_of, stated_of
from carbontrack.ledger.run_steps import logged_of, steps_of
from carbontrack.ledger.run_windows import finest_windows as finest_windows
from carbontrack.ledger.run_windows import windows as windows
from carbontrack.ledger.series import series as series
from carbontrack.ledger.step_means import mergeable_step_bucket_ms as mergeable_step_bucket_ms
from carbontrack.ledger.step_means import step_bucket_ms as step_bucket_ms
from carbontrack.ledger.step_means import step_means as step_means
from carbontrack.ledger.step_means import step_rows as step_rows
from carbontrack.ledger.step_means import steps_in_buckets as steps_in_buckets
from carbontrack.ledger.step_sums import StepsOf, step_totals_of
from carbontrack.ledger.true_time import true_ms
from carbontrack.ledger.usages import hours as hours
from carbontrack.ledger.usages import hours_of_all as hours_of_all
from carbontrack.ledger.usages import totals as totals
from carbontrack.vocabulary import EventKind


def recordings(connection: Connection, run: Run) -> list[Recording]:
    """What recorded the run, on each node and in each attempt, ordered by host and time."""
    return recordings_of(connection, [run])[run.key]


def clocks(connection: Connection, run: Run) -> dict[int, ClockOffset]:
    """By the key of the recording: what was known last of the clock of its node."""
    clock = models.ClockOffset
    query = select(clock.__table__).where(clock.recording_key.in_(pyramid.recordings_of(run.key)))
    newest_last = query.order_by(clock.time_ms + clock.offset_ms)  # a clock that is set may go back
    rows = connection.execute(newest_last).mappings()
    return {row["recording_key"]: tables.CLOCKS.read(row) for row in rows}


def sensors(connection: Connection, run: Run) -> list[Sensor]:
    """The devices of a run and how it read them, each once: as its newest recording did."""
    return sensors_of(connection, [run])[run.key]


def events(connection: Connection, run: Run) -> list[Event]:
    """What happened, in order."""
    event = models.Event
    query = _events().where(event.recording_key.in_(pyramid.recordings_of(run.key)))
    return [one for _, one in _at_true_times(connection.execute(query).mappings(), run)]


def phases_of(connection: Connection, runs: Sequence[Run]) -> dict[int, list[tuple[int, Event]]]:
    """By the key of the run: the events that are phases, in order, each with the key of its
    recording.
    """
    recording = models.Recording
    query = _events().where(models.Event.kind == EventKind.PHASE)
    query = query.join(recording, recording.key == models.Event.recording_key)
    query = query.where(recording.run_key.in_([run.key for run in runs]))
    query = query.add_columns(recording.run_key)
    rows_of: dict[int, list[Any]] = {run.key: [] for run in runs}
    for row in connection.execute(query).mappings():
        rows_of[row["run_key"]].append(row)
    return {run.key: _at_true_times(rows_of[run.key], run) for run in runs}


def _at_true_times(rows: Iterable[Any], run: Run) -> list[tuple[int, Event]]:
    """Rows of events of a run, in order, each with the key of its recording."""
    found = [(row["recording_key"], row["number"], tables.EVENTS.read(row)) for row in rows]
    if run.clocks:
        found = [
            (key, number, replace(one, time_ms=true_ms(run.clocks.get(key, ()), one.time_ms)))
            for key, number, one in found
        ]
        found.sort(key=lambda one: (one[2].time_ms, *one[:2]))
    return [(key, one) for key, _, one in found]


def _events() -> Select[Any]:
    event = models.Event
    query = select(*(getattr(event, name) for name in tables.EVENTS.columns))
    return query.order_by(event.time_ms, event.recording_key, event.number)


def stated(connection: Connection, run: Run) -> list[Stated]:
    """What was entered by hand of the run; nothing of one that was recorded or imported."""
    return stated_of(connection, [run])[run.key]


def imports(connection: Connection, run: Run) -> list[Import]:
    """The files of other tools that the run was made of, in the order of their import."""
    table = models.Import.__table__
    query = select(table).where(models.Import.run_key == run.key)
    query = query.order_by(models.Import.time_ms, models.Import.sha256)
    return [tables.IMPORTS.read(row) for row in connection.execute(query).mappings()]


def steps(connection: Connection, run: Run) -> list[Step]:
    """The training steps, in order."""
    step = steps_of(connection, run).c
    query = select(*(step[name] for name in tables.STEPS.fields)).order_by(step.step)
    return [tables.STEPS.read(row) for row in connection.execute(query).mappings()]


def step_totals(connection: Connection, run: Run, span_ms: Span | None = None) -> StepTotals:
    """Sums over the steps, or over those from a time up to, and without, another."""
    logged = logged_of(connection, recordings_of(connection, [run]))
    (totals,) = step_totals_of(connection, [StepsOf(run, logged[run.key], span_ms)])
    return totals


def tokens_of_steps(
    connection: Connection, run: Run, spans_ms: Sequence[tuple[int, int]] = ()
) -> Iterator[tuple[int, int | None]]:
    """(time in ms, tokens) of each step; with spans, of those inside one of them."""
    step = steps_of(connection, run).c
    query = select(step.time_ms, step.tokens)
    if spans_ms:
        query = query.where(or_(*(step.time_ms.between(a, b - 1) for a, b in spans_ms)))
    for row in connection.execute(query):
        yield row.time_ms, row.tokens


def tokens_until(connection: Connection, run: Run, steps: Sequence[int]) -> list[int | None]:
    """The tokens of all steps up to each of these; None before any step with a token count."""
    step = steps_of(connection, run).c
    so_far = func.sum(step.tokens).over(order_by=step.step).label("so_far")
    every = select(step.step, so_far).subquery()
    query = select(every).where(every.c.step.in_(steps))
    found = {row.step: row.so_far for row in connection.execute(query)}
    return [None if found.get(n) is None else int(found[n]) for n in steps]
