"""Reading the ledger into plain rows. Every function takes an open connection."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Text,
    cast,
    exists,
    func,
    or_,
    select,
)

from carbontrack.errors import CarbontrackError, NotFoundError
from carbontrack.ledger import models, pyramid, tables
from carbontrack.ledger.outcome import Outcome, outcome_of
from carbontrack.ledger.rows import (
    EDGE_STEPS,
    Event,
    Import,
    Recording,
    Run,
    Sensor,
    Step,
    StepTotals,
    Usage,
    end_of,
    final_loss,
    final_steps,
    usage_of,
)
from carbontrack.ledger.run_steps import steps_of
from carbontrack.ledger.series import mergeable_step_bucket_ms as mergeable_step_bucket_ms
from carbontrack.ledger.series import series as series
from carbontrack.ledger.series import step_bucket_ms as step_bucket_ms
from carbontrack.ledger.series import step_means as step_means
from carbontrack.ledger.series import steps_in_buckets as steps_in_buckets
from carbontrack.ledger.series import windows as windows
from carbontrack.ledger.window import Window, merge
from carbontrack.units import now_ms
from carbontrack.vocabulary import RunKind, Status

_KEYS_IN_A_QUERY = 500  # more of them, and all recordings are read
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
    cluster: str | None = None,
    job: str | None = None,
    account: str | None = None,
    partition: str | None = None,
    ids: Sequence[str] | None = None,
) -> list[Run]:
    """Runs, newest first, that match all that is given.

    They have all of `tags`: (key, value); began at `since_ms` or later, and before `until_ms`; ran
    on `host`, perhaps beside others; had a device whose energy is of this `quality`; and their
    scheduler says this `cluster`, id of the `job`, `account` and `partition`.
    """
    run, recording, sensor = models.Run, models.Recording, models.Sensor
    query = _NEWEST_FIRST
    of_run = {run.project: project, run.name: name, run.user: user}
    of_run |= {run.cluster: cluster, run.job_id: job}
    of_run |= {run.account: account, run.partition: partition}
    for column, value in of_run.items():
        if value is not None:
            query = query.where(column == value)
    if since_ms is not None:
        query = query.where(run.started_ms >= since_ms)
    if until_ms is not None:
        query = query.where(run.started_ms < until_ms)
    if host is not None:
        query = query.where(exists().where(recording.run_key == run.key, recording.host == host))
    if quality is not None:
        read_by = (recording.run_key == run.key) & (sensor.recording_key == recording.key)
        query = query.where(exists().where(read_by, sensor.quality == quality))
    if ids is not None:
        query = query.where(run.id.in_(ids))
    for key, value in tags:
        query = query.where(models.Run.tags[key].as_string() == value)
    if status is not None:
        return [one for one in _runs(connection, query) if one.status == status][:limit]
    return _runs(connection, query.limit(limit))


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
    said = [run.name, run.id, func.coalesce(run.project, ""), run.user, run.command]
    text: ColumnElement[str] = func.lower(cast(said[0], Text))
    for column in said[1:]:
        text = text + " " + func.lower(cast(column, Text))
    matches = [text.contains(word, autoescape=True) for word in words]
    query = select(run.key, run.name, run.started_ms, run.nodes_expected, *matches)
    wanted = [run.project == project] if project else []
    wanted += [run.user == user] if user else []
    wanted += [run.started_ms >= since_ms] if since_ms is not None else []
    wanted += [run.started_ms < until_ms] if until_ms is not None else []
    rows = connection.execute(query.where(*wanted)).all()
    outcomes = _outcomes(connection, {row.key: row.nodes_expected for row in rows})
    found = [
        row
        for row in rows
        if status in ("", outcomes[row.key].status)
        and all(
            matched or word in outcomes[row.key].status
            for word, matched in zip(words, row[4:], strict=True)
        )
    ]

    def place(row: Any) -> Any:
        ended = outcomes[row.key]
        by: dict[str, Any] = {
            "started": row.started_ms,
            "name": row.name.lower(),
            "status": ended.status,
            "duration": end_of(row.started_ms, ended.ended_ms, ended.heartbeat_ms) - row.started_ms,
        }
        return by[sort]

    found.sort(key=lambda row: (row.started_ms, row.key), reverse=True)
    found.sort(key=place, reverse=down)
    keys = [row.key for row in found[:limit]]
    shown = {one.key: one for one in _runs(connection, _NEWEST_FIRST.where(run.key.in_(keys)))}
    return [shown[key] for key in keys], len(found)


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


def names(connection: Connection, *, beginning: str, limit: int) -> list[str]:
    """The names of runs, in order, each once."""
    name = models.Run.name
    query = select(name).where(name.startswith(beginning, autoescape=True)).distinct()
    return list(connection.scalars(query.order_by(name).limit(limit)))


def resolve_run(connection: Connection, reference: str) -> Run:
    """The run that is meant by an id, a unique prefix of it, a name (the newest), or `last`.

    Raises NotFoundError if there is none, and CarbontrackError if there is more than one.
    """
    if reference == "last":
        query = _NEWEST_FIRST.limit(1)
    else:
        of_name = models.Run.name == reference
        of_id = models.Run.id.startswith(reference.lower(), autoescape=True)
        query = _NEWEST_FIRST.where(or_(of_name, of_id) if reference else of_name)
    found = _runs(connection, query)
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


def recordings(connection: Connection, run: Run) -> list[Recording]:
    """What recorded the run, on each node and in each attempt, ordered by host and time."""
    recording = models.Recording
    query = select(recording.__table__).where(recording.run_key == run.key)
    query = query.order_by(recording.host, recording.started_ms, recording.key)
    return [_recording(row) for row in connection.execute(query).mappings()]


def sensors(connection: Connection, run: Run) -> list[Sensor]:
    """The devices of a run and how it read them, each once: as its newest recording did."""
    device, sensor = models.Device, models.Sensor
    of_run = {one.key: one for one in recordings(connection, run)}
    query = (
        select(
            sensor.recording_key,
            device.key.label("device_key"),
            *(getattr(device, name) for name in tables.DEVICES.fields),
            *(getattr(sensor, name) for name in tables.SENSORS.fields),
        )
        .join(sensor, sensor.device_key == device.key)
        .where(sensor.recording_key.in_(pyramid.recordings_of(run.key)))
    )
    read_by: dict[int, list[tuple[Recording, Sensor]]] = defaultdict(list)
    for row in connection.execute(query).mappings():
        values = dict(row)
        recording = of_run[values.pop("recording_key")]
        read_by[values["device_key"]].append((recording, Sensor(**values)))
    found = [_newest(run, readers) for readers in read_by.values()]
    return sorted(found, key=lambda one: (one.host, one.device_key))


def _newest(run: Run, readers: Sequence[tuple[Recording, Sensor]]) -> Sensor:
    """A device by its newest recording, and when all of them recorded it."""
    _, sensor = max(readers, key=lambda one: (one[0].restart, one[0].started_ms, one[0].key))
    spans: list[tuple[int, int]] = []
    for start_ms, end_ms in sorted((one.started_ms, one.end_ms) for one, _ in readers):
        if spans and start_ms <= spans[-1][1]:
            start_ms, end_ms = spans[-1][0], max(end_ms, spans.pop()[1])
        spans.append((start_ms, end_ms))
    all_along = [(run.started_ms, run.end_ms)]
    return replace(sensor, spans_ms=() if spans == all_along else tuple(spans))


def events(connection: Connection, run: Run) -> list[Event]:
    """What happened, in order."""
    event = models.Event
    query = select(*(getattr(event, name) for name in tables.EVENTS.fields))
    query = query.where(event.recording_key.in_(pyramid.recordings_of(run.key)))
    query = query.order_by(event.time_ms, event.recording_key, event.number)
    return [tables.EVENTS.read(row) for row in connection.execute(query).mappings()]


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


def step_totals(
    connection: Connection, run: Run, *, from_ms: int | None = None, to_ms: int | None = None
) -> StepTotals:
    """Sums over the steps, or over those from a time up to, and without, another."""
    of_run = steps_of(connection, run)
    step = of_run.c
    wanted: list[ColumnElement[bool]] = []
    if from_ms is not None:
        wanted.append(step.time_ms >= from_ms)
    if to_ms is not None:
        wanted.append(step.time_ms < to_ms)
    count, tokens, losses = connection.execute(
        select(func.count(), func.sum(step.tokens), func.count(step.loss))
        .select_from(of_run)
        .where(*wanted)
    ).one()
    with_loss = select(step.loss).where(*wanted, step.loss.is_not(None))
    last = connection.scalars(with_loss.order_by(step.step.desc()).limit(final_steps(losses)))
    edge = select(step.step, step.time_ms, step.loss, step.tokens, step.tokens_per_s).where(*wanted)
    edge = edge.limit(EDGE_STEPS)
    return StepTotals(
        steps=count,
        tokens=None if tokens is None else int(tokens),
        final_loss=final_loss([loss for loss in last if loss is not None]),
        final_loss_steps=final_steps(losses) or None,
        first=_edge_steps(connection, edge.order_by(step.step)),
        last=_edge_steps(connection, edge.order_by(step.step.desc()))[::-1],
    )


def _edge_steps(connection: Connection, query: Select[Any]) -> tuple[Step, ...]:
    return tuple(Step(**row._mapping) for row in connection.execute(query))


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


def totals(connection: Connection, run: Run) -> list[Usage]:
    """What each device used over the whole run."""
    return hours_and_totals(connection, run)[1]


def hours_and_totals(connection: Connection, run: Run) -> tuple[list[Usage], list[Usage]]:
    """As `hours` and `totals`, which one look at the hours gives."""
    by_device: dict[int, list[Window]] = {}
    for device_key, window in pyramid.hours_of(connection, run.key):
        by_device.setdefault(device_key, []).append(window)
    each = [usage_of(key, window) for key, parts in by_device.items() for window in parts]
    return each, [
        usage_of(key, merge(parts, start_ms=parts[0].start_ms, level_s=parts[0].level_s))
        for key, parts in by_device.items()
    ]


def hours(connection: Connection, run: Run, recordings: Sequence[int] | None = None) -> list[Usage]:
    """What each device used in each hour; by some recordings, of which these are the keys."""
    found = pyramid.hours_of(connection, run.key, recordings)
    return [usage_of(key, window) for key, window in found]


_NEWEST_FIRST = select(models.Run.__table__).order_by(
    models.Run.started_ms.desc(), models.Run.key.desc()
)


def _runs(connection: Connection, query: Select[Any]) -> list[Run]:
    """The runs of a query on their table, as their recordings say that they stand."""
    rows = [dict(row) for row in connection.execute(query).mappings()]
    outcomes = _outcomes(connection, {row["key"]: row["nodes_expected"] for row in rows})
    return [
        tables.RUNS.row(
            **asdict(outcomes[row["key"]]),
            **{**row, "kind": RunKind(row["kind"]), "command": tuple(row["command"])},
        )
        for row in rows
    ]


def _outcomes(connection: Connection, expected: Mapping[int, int | None]) -> dict[int, Outcome]:
    """By the run's key, of the runs with these keys and numbers of expected nodes."""
    recording = models.Recording
    names = [name for name in tables.RECORDINGS.columns if name != "settings"]
    query = select(*(getattr(recording, name) for name in names))
    if len(expected) <= _KEYS_IN_A_QUERY:
        query = query.where(recording.run_key.in_(expected))
    of_run: dict[int, list[Recording]] = defaultdict(list)
    for row in connection.execute(query):
        values = dict(zip(names, row, strict=True), settings={}, status=Status(row.status))
        of_run[values.pop("run_key")].append(Recording(**values))
    now = now_ms()
    return {key: outcome_of(of_run[key], nodes, now_ms=now) for key, nodes in expected.items()}


def _recording(row: Mapping[Any, Any]) -> Recording:
    return replace(tables.RECORDINGS.read(row), key=row["key"])
