"""Reading the ledger into plain rows. Every function takes an open connection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    ScalarSelect,
    Select,
    Text,
    UnaryExpression,
    and_,
    case,
    cast,
    exists,
    func,
    or_,
    select,
)
from sqlalchemy.orm import InstrumentedAttribute

from carbontrack.errors import CarbontrackError, NotFoundError
from carbontrack.ledger import models, pyramid, tables
from carbontrack.ledger.rows import (
    EDGE_STEPS,
    HEARTBEAT_STALE_MS,
    Event,
    Node,
    Run,
    Sensor,
    Step,
    StepTotals,
    Usage,
    usage_of,
)
from carbontrack.ledger.series import mergeable_step_bucket_ms as mergeable_step_bucket_ms
from carbontrack.ledger.series import series as series
from carbontrack.ledger.series import step_bucket_ms as step_bucket_ms
from carbontrack.ledger.series import step_means as step_means
from carbontrack.ledger.series import steps_in_buckets as steps_in_buckets
from carbontrack.ledger.series import windows as windows
from carbontrack.ledger.window import Window, merge
from carbontrack.units import now_ms
from carbontrack.vocabulary import Status

R = TypeVar("R")
_SHOWN_CANDIDATES = 5
MAX_WORDS = 10
SORTS = ("started", "name", "status", "duration")


def list_runs(
    connection: Connection,
    *,
    limit: int | None = None,
    project: str | None = None,
    tags: Sequence[tuple[str, str]] = (),
    since_ms: int | None = None,
    until_ms: int | None = None,
    name: str | None = None,
    user: str | None = None,
    status: str | None = None,
    host: str | None = None,
    quality: str | None = None,
    ids: Sequence[str] | None = None,
) -> list[Run]:
    """Runs, newest first, that match all that is given.

    They have all of `tags`: (key, value); began at `since_ms` or later, and before `until_ms`; ran
    on `host`, perhaps beside others; and had a device whose energy is of this `quality`.
    """
    run = models.Run
    query = _all_runs()
    of_run = {run.project: project, run.name: name, run.user: user, _status_as_read(): status}
    for column, value in of_run.items():
        if value is not None:
            query = query.where(column == value)
    if since_ms is not None:
        query = query.where(run.started_ms >= since_ms)
    if until_ms is not None:
        query = query.where(run.started_ms < until_ms)
    if host is not None:
        query = query.where(
            exists().where(models.Node.run_key == run.key, models.Node.host == host)
        )
    if quality is not None:
        sensor = models.Sensor
        query = query.where(exists().where(sensor.run_key == run.key, sensor.quality == quality))
    if ids is not None:
        query = query.where(run.id.in_(ids))
    for key, value in tags:
        query = query.where(models.Run.tags[key].as_string() == value)
    if limit is not None:
        query = query.limit(limit)
    return [_run(row) for row in connection.execute(query)]


def find_runs(
    connection: Connection,
    *,
    search: str = "",
    status: str = "",
    project: str = "",
    user: str = "",
    since_ms: int | None = None,
    until_ms: int | None = None,
    sort: str = "started",
    down: bool = True,
    limit: int,
) -> tuple[list[Run], int]:
    """The first runs in the order of `sort` (one of `SORTS`) that have every word of `search` in
    what they say of themselves and began at `since_ms` or later, and before `until_ms`; and how
    many there are in all.

    Raises CarbontrackError for a search of too many words: each is looked for in every run.
    """
    words = search.lower().split()
    if len(words) > MAX_WORDS:
        what = f"A search of {len(words)} words is too long."
        raise CarbontrackError(what, hint=f"Give {MAX_WORDS} words at most.")
    run = models.Run
    reads = _status_as_read()
    said = [run.name, run.id, func.coalesce(run.project, ""), run.user, reads, run.command]
    text: ColumnElement[str] = func.lower(cast(said[0], Text))
    for column in said[1:]:
        text = text + " " + func.lower(cast(column, Text))
    wanted = [text.contains(word, autoescape=True) for word in words]
    wanted += [reads == status] if status else []
    wanted += [run.project == project] if project else []
    wanted += [run.user == user] if user else []
    wanted += [run.started_ms >= since_ms] if since_ms is not None else []
    wanted += [run.started_ms < until_ms] if until_ms is not None else []
    count = connection.scalar(select(func.count()).select_from(run).where(*wanted)) or 0
    by: dict[str, ColumnElement[Any]] = {
        "started": run.started_ms.expression,
        "name": func.lower(run.name),
        "status": reads,
        "duration": func.coalesce(run.ended_ms, _heartbeat(), run.started_ms) - run.started_ms,
    }
    order = by[sort].desc() if down else by[sort].asc()
    newest = (run.started_ms.desc(), run.key.desc())
    query = _all_runs().order_by(None).order_by(order, *newest).where(*wanted).limit(limit)
    return [_run(row) for row in connection.execute(query)], count


def projects(connection: Connection) -> list[str]:
    """The names of all projects, in order."""
    name = models.Run.project
    query = select(name).where(name.is_not(None)).distinct().order_by(name)
    return [project for project in connection.scalars(query) if project is not None]


def users(connection: Connection) -> list[str]:
    """The names of all who ran something, in order."""
    name = models.Run.user
    query = select(name).where(name != "").distinct().order_by(name)
    return list(connection.scalars(query))


def resolve_run(connection: Connection, reference: str) -> Run:
    """The run that is meant by an id, a unique prefix of it, a name (the newest), or `last`.

    Raises NotFoundError if there is none, and CarbontrackError if there is more than one.
    """
    if reference == "last":
        query = _all_runs().limit(1)
    else:
        of_name = models.Run.name == reference
        of_id = models.Run.id.startswith(reference.lower(), autoescape=True)
        query = _all_runs().where(or_(of_name, of_id) if reference else of_name)
    found = [_run(row) for row in connection.execute(query)]
    named = [run for run in found if run.name == reference]
    if named:
        return named[0]
    if len(found) > 1:
        names = ", ".join(f"{run.id} ({run.name})" for run in found[:_SHOWN_CANDIDATES])
        more = ", …" if len(found) > _SHOWN_CANDIDATES else ""
        raise CarbontrackError(
            f"{reference!r} is ambiguous: {names}{more}.", hint="Give more of the id."
        )
    if not found:
        raise NotFoundError(
            f"There is no run {reference!r} in this ledger.", hint="'carbontrack runs' lists them."
        )
    return found[0]


def nodes(connection: Connection, run: Run) -> list[Node]:
    """The hosts of a run."""
    node = models.Node
    return _rows(connection, tables.NODES, node.run_key == run.key, node.host)


def sensors(connection: Connection, run: Run) -> list[Sensor]:
    """The devices of a run and how it read them."""
    device, sensor = models.Device, models.Sensor
    query = (
        select(
            device.key.label("device_key"),
            *(getattr(device, name) for name in tables.DEVICES.fields),
            *(getattr(sensor, name) for name in tables.SENSORS.fields),
        )
        .join(sensor, sensor.device_key == device.key)
        .where(sensor.run_key == run.key)
        .order_by(sensor.host, device.key)
    )
    return [Sensor(**row) for row in connection.execute(query).mappings()]


def events(connection: Connection, run: Run) -> list[Event]:
    """What happened, in order."""
    event = models.Event
    return _rows(connection, tables.EVENTS, event.run_key == run.key, event.time_ms, event.seq)


def steps(connection: Connection, run: Run) -> list[Step]:
    """The training steps, in order."""
    step = models.Step
    return _rows(connection, tables.STEPS, step.run_key == run.key, step.step)


def step_totals(
    connection: Connection, run: Run, *, from_ms: int | None = None, to_ms: int | None = None
) -> StepTotals:
    """Sums over the steps, or over those from a time up to, and without, another."""
    step = models.Step
    of_run = step.run_key == run.key
    if from_ms is not None:
        of_run &= step.time_ms >= from_ms
    if to_ms is not None:
        of_run &= step.time_ms < to_ms
    count, tokens = connection.execute(
        select(func.count(), func.sum(step.tokens)).where(of_run)
    ).one()
    final_loss = connection.scalar(
        select(step.loss).where(of_run, step.loss.is_not(None)).order_by(step.step.desc()).limit(1)
    )
    return StepTotals(
        steps=count,
        tokens=None if tokens is None else int(tokens),
        final_loss=final_loss,
        first=_edge_steps(connection, of_run, step.step.asc()),
        last=_edge_steps(connection, of_run, step.step.desc())[::-1],
    )


def _edge_steps(
    connection: Connection, of_run: ColumnElement[bool], order: UnaryExpression[int]
) -> tuple[Step, ...]:
    step = models.Step
    query = select(step.step, step.time_ms, step.loss, step.tokens, step.tokens_per_s)
    rows = connection.execute(query.where(of_run).order_by(order).limit(EDGE_STEPS))
    return tuple(Step(**row._mapping) for row in rows)


def tokens_of_steps(
    connection: Connection, run: Run, spans_ms: Sequence[tuple[int, int]] = ()
) -> Iterator[tuple[int, int | None]]:
    """(time in ms, tokens) of each step; with spans, of those inside one of them."""
    step = models.Step
    query = select(step.time_ms, step.tokens).where(step.run_key == run.key)
    if spans_ms:
        query = query.where(or_(*(step.time_ms.between(a, b - 1) for a, b in spans_ms)))
    for row in connection.execute(query):
        yield row.time_ms, row.tokens


def tokens_until(connection: Connection, run: Run, steps: Sequence[int]) -> list[int | None]:
    """The tokens of all steps up to each of these; None before any step with a token count."""
    step = models.Step
    so_far = func.sum(step.tokens).over(order_by=step.step).label("so_far")
    every = select(step.step, so_far).where(step.run_key == run.key).subquery()
    query = select(every).where(every.c.step.in_(steps))
    found = {row.step: row.so_far for row in connection.execute(query)}
    return [None if found.get(n) is None else int(found[n]) for n in steps]


def totals(connection: Connection, run: Run) -> list[Usage]:
    """What each device used over the whole run."""
    by_device: dict[int, list[Window]] = {}
    for device_key, window in pyramid.hours_of(connection, run.key):
        by_device.setdefault(device_key, []).append(window)
    return [
        usage_of(key, merge(parts, start_ms=parts[0].start_ms, level_s=parts[0].level_s))
        for key, parts in by_device.items()
    ]


def hours(connection: Connection, run: Run) -> list[Usage]:
    """What each device used in each hour."""
    return [usage_of(key, window) for key, window in pyramid.hours_of(connection, run.key)]


def _rows(
    connection: Connection,
    table: tables.Table[R],
    wanted: ColumnElement[bool],
    *order: InstrumentedAttribute[Any],
) -> list[R]:
    columns = models.Base.metadata.tables[table.name].c
    names = (table.column_of.get(name, name) for name in table.fields)
    query = select(*(columns[name] for name in names)).where(wanted).order_by(*order)
    return [table.read(row) for row in connection.execute(query).mappings()]


def _all_runs() -> Select[Any]:
    table = models.Run.__table__
    newest = (models.Run.started_ms.desc(), models.Run.key.desc())
    return select(table, _heartbeat().label("heartbeat_ms")).order_by(*newest)


def _heartbeat() -> ScalarSelect[int | None]:
    return (
        select(func.max(models.Node.heartbeat_ms))
        .where(models.Node.run_key == models.Run.key)
        .correlate(models.Run)
        .scalar_subquery()
    )


def _status_as_read() -> ColumnElement[str]:
    """In SQL what `_run` does to a row: a run whose heartbeat stopped reads *interrupted*."""
    run = models.Run
    stale = func.coalesce(_heartbeat(), run.started_ms) < now_ms() - HEARTBEAT_STALE_MS
    return case((and_(run.status == Status.RUNNING, stale), Status.INTERRUPTED), else_=run.status)


def _run(row: Row[Any]) -> Run:
    values = dict(row._mapping)
    stale = now_ms() - (values["heartbeat_ms"] or values["started_ms"]) > HEARTBEAT_STALE_MS
    status = Status(values["status"])
    if status is Status.RUNNING and stale:
        status = Status.INTERRUPTED
    return tables.RUNS.of_fields({**values, "status": status})
