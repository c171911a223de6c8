"""Finding runs by what is said of them, as amended; a run that was removed is in none of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Text,
    case,
    cast,
    exists,
    false,
    func,
    null,
    or_,
    select,
)
from sqlalchemy.orm import aliased

from carbontrack.errors import CarbontrackError, NotFoundError
from carbontrack.ledger import models, node_clocks, tables
from carbontrack.ledger.amended import TAG, applied
from carbontrack.ledger.names import LAST
from carbontrack.ledger.outcome import Outcome, outcome_of
from carbontrack.ledger.recorded_rows import AS_STORED, Amendment, Recording, Run, Shifts, end_of
from carbontrack.ledger.set_clocks import with_sets
from carbontrack.ledger.true_time import corrected
from carbontrack.units import now_ms
from carbontrack.vocabulary import AmendedField, Quality, RunKind, Status

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
    untimed: bool = False,
    ids: Sequence[str] | None = None,
) -> list[Run]:
    """Runs, newest first, that match all that is given.

    They have all of `tags`: (key, value); ran at `since_ms` or later, and before `until_ms`; ran on
    `host`, perhaps beside others; had a device whose energy is of this `quality`; and their
    scheduler says this `cluster`, id of the `job`, `account` and `partition`. A run that was
    entered without a time is in no range; with `untimed` all are such runs.
    """
    run, recording, sensor = models.Run, models.Recording, models.Sensor
    query = _NEWEST_FIRST
    of_run = {run.user: user, run.cluster: cluster, run.job_id: job}
    of_run |= {run.account: account, run.partition: partition}
    for column, value in of_run.items():
        if value is not None:
            query = query.where(column == value)
    if project is not None:
        query = query.where(project_of(connection) == project)
    if name is not None:
        query = query.where(name_of(connection) == name)
    in_range = since_ms is not None or until_ms is not None
    off_ms = node_clocks.farthest_ms(connection) if in_range else 0
    if since_ms is not None:
        ended_ms = func.coalesce(recording.ended_ms, recording.heartbeat_ms)
        went_on = exists().where(recording.run_key == run.key, ended_ms > since_ms - off_ms)
        query = query.where(or_(run.started_ms >= since_ms - off_ms, went_on))
    if until_ms is not None:
        query = query.where(run.started_ms < until_ms + off_ms)
    if in_range:
        query = query.where(~_UNTIMED)
    if untimed:
        query = query.where(_UNTIMED)
    if host is not None:
        query = query.where(exists().where(recording.run_key == run.key, recording.host == host))
    if quality is not None:
        read_by = (recording.run_key == run.key) & (sensor.recording_key == recording.key)
        entered = run.kind == RunKind.STATED if quality == Quality.STATED else false()
        query = query.where(or_(exists().where(read_by, sensor.quality == quality), entered))
    if ids is not None:
        query = query.where(run.id.in_(ids))
    for key, value in tags:
        said = _amended(connection, f"{TAG}{key}", run.tags[key].as_string())
        query = query.where(said == value)
    if status is None and not off_ms:
        return _runs(connection, query.limit(limit))
    return [
        one
        for one in _runs(connection, query)
        if status in (None, one.status)
        and (not off_ms or _ran_between(one.started_ms, one.end_ms, since_ms, until_ms))
    ][:limit]


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
    what they say of themselves and ran at `since_ms` or later, and before `until_ms`; and how many
    there are in all.

    Raises CarbontrackError for a search of too many words: each is looked for in every run.
    """
    words = search.lower().split()
    if len(words) > MAX_WORDS:
        what = f"A search of {len(words)} words is too long."
        raise CarbontrackError(what, hint=f"Give {MAX_WORDS} words at most.")
    run = models.Run
    in_range = since_ms is not None or until_ms is not None
    off_ms = node_clocks.farthest_ms(connection) if in_range else 0
    name, its_project = name_of(connection), project_of(connection)
    said = [name, run.id, func.coalesce(its_project, ""), run.user, run.command]
    text: ColumnElement[str] = func.lower(cast(said[0], Text))
    for column in said[1:]:
        text = text + " " + func.lower(cast(column, Text))
    matches = [text.contains(word, autoescape=True) for word in words]
    columns = (run.key, name.label("name"), run.started_ms, run.nodes_expected)
    query = select(*columns, *matches)
    wanted: list[ColumnElement[bool]] = [PRESENT]
    wanted += [its_project == project] if project else []
    wanted += [run.user == user] if user else []
    wanted += [run.started_ms < until_ms + off_ms] if until_ms is not None else []
    wanted += [~_UNTIMED] if in_range else []
    rows = connection.execute(query.where(*wanted)).all()
    known = _recorded(connection, {row.key: row.nodes_expected for row in rows})
    outcomes = {key: one.outcome for key, one in known.items()}

    def start_ms(row: Any) -> int:
        return int(known[row.key].started_ms or row.started_ms)

    def end_ms(row: Any) -> int:
        ended = outcomes[row.key]
        return end_of(start_ms(row), ended.ended_ms, ended.heartbeat_ms)

    found = [
        row
        for row in rows
        if status in ("", outcomes[row.key].status)
        and _ran_between(start_ms(row), end_ms(row), since_ms, until_ms)
        and all(
            matched or word in outcomes[row.key].status
            for word, matched in zip(words, row[4:], strict=True)
        )
    ]

    def place(row: Any) -> Any:
        by: dict[str, Any] = {
            "started": start_ms(row),
            "name": row.name.lower(),
            "status": outcomes[row.key].status,
            "duration": end_ms(row) - start_ms(row),
        }
        return by[sort]

    found.sort(key=lambda row: (start_ms(row), row.key), reverse=True)
    found.sort(key=place, reverse=down)
    keys = [row.key for row in found[:limit]]
    shown = {one.key: one for one in _runs(connection, _NEWEST_FIRST.where(run.key.in_(keys)))}
    return [shown[key] for key in keys], len(found)


def _ran_between(
    started_ms: int, ended_ms: int, since_ms: int | None, until_ms: int | None
) -> bool:
    """Whether a run was there at the first time or later, and before the second one."""
    return (since_ms is None or started_ms >= since_ms or ended_ms > since_ms) and (
        until_ms is None or started_ms < until_ms
    )


def projects(connection: Connection) -> list[str]:
    """The names of all projects, in order."""
    name = project_of(connection).label("project")
    query = select(name).where(PRESENT, name.is_not(None)).distinct().order_by(name)
    return [project for project in connection.scalars(query) if project is not None]


def watches(connection: Connection) -> set[str]:
    """The ids of all watches of nodes."""
    return set(connection.scalars(select(models.Run.id).where(models.Run.kind == RunKind.WATCH)))


def users(connection: Connection) -> list[str]:
    """The names of all who ran something, in order."""
    name = models.Run.user
    query = select(name).where(PRESENT, name != "").distinct().order_by(name)
    return list(connection.scalars(query))


def names(connection: Connection, *, beginning: str, limit: int) -> list[str]:
    """The names of runs, in order, each once."""
    name = name_of(connection).label("name")
    query = select(name).where(PRESENT, name.startswith(beginning, autoescape=True)).distinct()
    return list(connection.scalars(query.order_by(name).limit(limit)))


def resolve_run(connection: Connection, reference: str) -> Run:
    """The run that is meant by an id, a unique prefix of it, a name (the newest), or `last`.

    Raises NotFoundError if there is none, and CarbontrackError if there is more than one.
    """
    if reference == LAST:
        query = _NEWEST_FIRST.limit(1)
    else:
        of_name = name_of(connection) == reference
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


_UNTIMED = exists().where(
    models.Stated.run_key == models.Run.key, models.Stated.started_ms.is_(None)
)
"""What was entered by hand without a time: its run stands in lists at the time of its entry."""
PRESENT = models.Run.id.not_in(select(models.Tombstone.run_id))
_NEWEST_FIRST = (
    select(models.Run.__table__)
    .where(PRESENT)
    .order_by(models.Run.started_ms.desc(), models.Run.key.desc())
)


def name_of(connection: Connection) -> ColumnElement[str]:
    """The name of a run, as amended; none may be without."""
    name = models.Run.name.expression
    found: ColumnElement[str] = func.coalesce(_amended(connection, AmendedField.NAME, name), name)
    return found


def project_of(connection: Connection) -> ColumnElement[str]:
    """The project of a run, as amended."""
    return _amended(connection, AmendedField.PROJECT, models.Run.project.expression)


def _amended(connection: Connection, field: str, column: ColumnElement[Any]) -> ColumnElement[Any]:
    """A column of `runs` with what of it was amended, as `amended.values_of` has it."""
    amendment, undoing = models.Amendment, aliased(models.Amendment)
    of_field = amendment.field == field
    if not connection.scalar(select(exists().where(of_field))):
        return column
    undone = exists().where(
        undoing.field == AmendedField.UNDO, undoing.after[()].as_string() == amendment.id
    )
    stands = (amendment.run_id == models.Run.id, of_field, ~undone)
    newest = (
        select(cast(amendment.after[()].as_string(), Text))
        .where(*stands)
        .order_by(amendment.time_ms.desc(), amendment.id.desc())
        .limit(1)
        .correlate(models.Run)
        .scalar_subquery()
    )
    return case((exists().where(*stands).correlate(models.Run), newest), else_=column)


def _runs(connection: Connection, query: Select[Any]) -> list[Run]:
    """The runs of a query on their table, as amended and as their recordings say they stand."""
    rows = [dict(row) for row in connection.execute(query).mappings()]
    recorded = _recorded(connection, {row["key"]: row["nodes_expected"] for row in rows})
    amendments = _amendments(connection, [row["id"] for row in rows])
    found = []
    for row in rows:
        own = {**row, "kind": RunKind(row["kind"]), "command": tuple(row["command"])}
        of_run = recorded[row["key"]]
        run = tables.RUNS.row(**asdict(of_run.outcome), **own, clocks=of_run.clocks)
        if of_run.started_ms is not None:
            run = replace(run, started_ms=of_run.started_ms)
        found.append(applied(run, amendments.get(run.id, ())))
    return found


def _amendments(connection: Connection, ids: Sequence[str]) -> Mapping[str, Sequence[Amendment]]:
    """Of the runs with these ids, and perhaps of others."""
    query = select(models.Amendment.__table__)
    if len(ids) <= _KEYS_IN_A_QUERY:
        query = query.where(models.Amendment.run_id.in_(ids))
    of_run: dict[str, list[Amendment]] = defaultdict(list)
    for row in connection.execute(query).mappings():
        of_run[row["run_id"]].append(tables.AMENDMENTS.read(row))
    return of_run


@dataclass(frozen=True, slots=True)
class _Recorded:
    """What the recordings of a run say: `started_ms` only where the clock of one was off."""

    outcome: Outcome
    clocks: Mapping[int, Shifts]
    started_ms: int | None


def _recorded(connection: Connection, expected: Mapping[int, int | None]) -> dict[int, _Recorded]:
    """By the run's key, of the runs with these keys and numbers of expected nodes."""
    recording = models.Recording
    other: dict[str, Any] = {"heard_ms": models.Live.heard_ms, "settings": null()}
    wanted = [other[name] if name in other else getattr(recording, name) for name in AS_STORED]
    query = select(recording.run_key, *wanted).outerjoin(models.Live)
    if len(expected) <= _KEYS_IN_A_QUERY:
        query = query.where(recording.run_key.in_(expected))
    clocks = node_clocks.clocks_of(connection, expected.keys())
    of_run: dict[int, list[Recording]] = defaultdict(list)
    for run_key, *values in connection.execute(query).all():
        values[_STATUS], values[_SETTINGS] = Status(values[_STATUS]), {}
        one = Recording(*values)
        if run_key in clocks:
            one = corrected(one, clocks[run_key].get(one.key, ()))
        of_run[run_key].append(one)
    now = now_ms()
    return {
        key: _Recorded(
            outcome_of(with_sets(connection, of_run[key], now), nodes, now_ms=now),
            clocks.get(key, {}),
            min(one.started_ms for one in of_run[key]) if key in clocks else None,
        )
        for key, nodes in expected.items()
    }


_STATUS, _SETTINGS = map(AS_STORED.index, ("status", "settings"))
