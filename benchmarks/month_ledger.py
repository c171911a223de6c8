"""A month of a large fleet, as the ledger of its team has it: runs of different width and length on
nodes of eight GPUs, watches of some nodes, lost work, phases and steps.

The hours are made inside the server, from the recordings that are written first.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import psycopg

from carbontrack.ledger.migrations.server_run_days import ROLL_ALL
from carbontrack.ledger.recorded_rows import Event, Recording, Run, Step
from carbontrack.ledger.tables import (
    DEVICES,
    EVENTS,
    INTENSITY,
    RECORDINGS,
    RUNS,
    SENSORS,
    STEPS,
    Table,
)
from carbontrack.ledger.window import Flag
from carbontrack.units import MS_PER_HOUR, MS_PER_S
from carbontrack.vocabulary import EventKind, RunKind, Status
from tests.fixtures.runs import Recorded, recording_of

START_MS = 1_777_593_600_000  # 2026-05-01, UTC
DEVICES_A_NODE = 8
_MINUTE_MS = 60 * MS_PER_S
_EDGE_H = 12  # runs begin up to so long before the month, and end up to so long after it
_GAP_MIN = (1, 30)  # between two runs on a node
_STEPS = 100  # of an attempt, if any
_RESTARTED, _PHASED = 0.02, 0.05  # shares of the runs
_ZONES = (None, "FRA", "IS")


@dataclass(frozen=True)
class Pool:
    """Nodes on which runs of one width follow each other."""

    blocks: int
    nodes: int  # of a run
    hours: tuple[float, float]  # from and to, of a run
    attempts: int = 1
    watched: bool = False  # by a watch each, with pauses between the jobs


@dataclass(frozen=True)
class Month:
    """How long it is, and on which nodes."""

    hours: int
    pools: tuple[Pool, ...]

    @property
    def nodes(self) -> int:
        return sum(pool.blocks * pool.nodes for pool in self.pools)

    @property
    def end_ms(self) -> int:
        return START_MS + self.hours * MS_PER_HOUR


FLEET = Month(
    720,
    (
        Pool(2, 256, (720, 720), attempts=6),
        Pool(24, 32, (24, 120)),
        Pool(84, 8, (12, 60)),
        Pool(80, 1, (24, 96)),
        Pool(16, 1, (12, 36), watched=True),
    ),
)
SMALL = Month(
    24, (Pool(1, 4, (24, 24), attempts=2), Pool(3, 1, (4, 8)), Pool(1, 1, (4, 8), watched=True))
)


@dataclass(frozen=True)
class _Node:
    """A recording with the number of its node."""

    recording: Recording
    node: int


@dataclass(frozen=True)
class _Planned:
    run: Run
    attempts: Sequence[Sequence[_Node]]


def fill(url: str, month: Month) -> None:
    """Write it into an empty ledger on a server."""
    planned = list(_planned(month, random.Random(7)))
    with psycopg.connect(url) as connection:
        connection.execute("alter table hours disable trigger user")
        _copy(connection, DEVICES, _devices(month))
        run_keys = {one.run.id: key for key, one in enumerate(planned, start=1)}
        _copy(
            connection,
            RUNS,
            (RUNS.written(one.run) | {"key": run_keys[one.run.id]} for one in planned),
        )
        nodes = [(one, node) for one in planned for of in one.attempts for node in of]
        keys = {node.recording.id: key for key, (_, node) in enumerate(nodes, start=1)}
        _copy(
            connection,
            RECORDINGS,
            (
                RECORDINGS.written(node.recording, run_key=run_keys[one.run.id])
                | {"key": keys[node.recording.id]}
                for one, node in nodes
            ),
        )
        _copy(connection, SENSORS, _sensors(nodes, keys))
        _copy(connection, STEPS, _steps(planned, keys))
        _copy(connection, EVENTS, _events(planned, keys))
        _copy(connection, INTENSITY, _intensity(month))
        for statement in _HOURS:
            connection.execute(statement.encode())
        connection.execute("alter table hours enable trigger user")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("vacuum analyze")


def _planned(month: Month, dice: random.Random) -> Iterator[_Planned]:
    first = number = 0
    for pool in month.pools:
        for block in range(pool.blocks):
            nodes = range(first + block * pool.nodes, first + (block + 1) * pool.nodes)
            if pool.watched:
                number += 1
                span = (START_MS, month.end_ms)
                yield _run(number, nodes, [span], dice, kind=RunKind.WATCH)
            for spans in _spans(pool, month, dice):
                number += 1
                yield _run(number, nodes, spans, dice)
        first += pool.blocks * pool.nodes


def _spans(pool: Pool, month: Month, dice: random.Random) -> Iterator[list[tuple[int, int]]]:
    """From and to when each attempt at each run of a block lasts, in whole minutes."""
    edge_ms = min(_EDGE_H, month.hours // 4) * MS_PER_HOUR
    at_ms = START_MS - dice.randrange(0, edge_ms, _MINUTE_MS)
    last_ms = month.end_ms + dice.randrange(0, edge_ms, _MINUTE_MS)
    while at_ms < month.end_ms:
        length_ms = round(60 * dice.uniform(*pool.hours)) * _MINUTE_MS
        end_ms = min(at_ms + length_ms, last_ms)
        attempts = pool.attempts if pool.attempts > 1 else 1 + (dice.random() < _RESTARTED)
        part_ms = (end_ms - at_ms) // attempts // _MINUTE_MS * _MINUTE_MS
        if part_ms:
            edges = [at_ms + place * part_ms for place in range(attempts)] + [end_ms]
            yield list(pairwise(edges))
        low, high = (4 * 60, 12 * 60) if pool.watched else _GAP_MIN
        at_ms = end_ms + dice.randint(low, high) * _MINUTE_MS


def _run(
    number: int,
    nodes: range,
    spans: Sequence[tuple[int, int]],
    dice: random.Random,
    *,
    kind: RunKind = RunKind.JOB,
) -> _Planned:
    zone = _ZONES[number % len(_ZONES)]
    of = Recorded(
        number=number,
        name=f"job{number % 400}",
        project=f"project{number % 12:02}",
        user=f"user{number % 60:02}",
        tags={"team": f"team{number % 8}"},
        model={"name": f"model{number % 6}"} if kind is RunKind.JOB else {},
        facility={} if zone is None else {"zone": zone, "pue": 1.1},
    ).begun
    run = replace(of, kind=kind, started_ms=spans[0][0], nodes_expected=len(nodes))
    run = replace(
        run, scheduler="slurm", cluster="fleet", job_id=str(number), account=f"account{number % 20}"
    )
    attempts = []
    for restart, (from_ms, to_ms) in enumerate(spans):
        failed = restart + 1 < len(spans) or dice.random() < 0.05
        attempts.append(
            [
                _Node(
                    replace(
                        recording_of(run),
                        id=f"0197{number:04x}-bbbb-7bbb-{8 << 12 | restart:04x}-{node:012x}",
                        host=f"node{node:05}",
                        boot_id=f"boot-{node}",
                        restart=restart,
                        started_ms=from_ms,
                        ended_ms=to_ms,
                        heartbeat_ms=to_ms,
                        status=Status.FAILED if failed else Status.COMPLETED,
                        exit_code=int(failed),
                    ),
                    node,
                )
                for node in nodes
            ]
        )
    return _Planned(run, attempts)


def _devices(month: Month) -> Iterator[dict[str, Any]]:
    (of,) = Recorded(count=1, device="NVIDIA H100 80GB HBM3").sensors
    for number in range(month.nodes * DEVICES_A_NODE):
        one = replace(of, uuid=f"GPU-{number:08x}-0000-4000-8000-{number:012x}")
        yield DEVICES.written(one) | {"key": number + 1}


def _sensors(
    nodes: Sequence[tuple[_Planned, _Node]], keys: Mapping[str, int]
) -> Iterator[dict[str, Any]]:
    of = Recorded(count=1, device="NVIDIA H100 80GB HBM3", rated_w=700.0).sensors[0]
    of = replace(of, power_limit_w=700.0)
    number = 0
    for _, one in nodes:
        columns = SENSORS.written(replace(of, host=one.recording.host))
        columns["recording_key"] = keys[one.recording.id]
        for device in range(DEVICES_A_NODE):
            number += 1
            device_key = one.node * DEVICES_A_NODE + device + 1
            yield columns | {"device_key": device_key, "key": number}


def _steps(planned: Iterable[_Planned], keys: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    """Each attempt but the first does the last tenth of the one before again."""
    for one in planned:
        for number, attempt in enumerate(one.attempts):
            if one.run.kind is RunKind.WATCH:
                continue
            first = attempt[0].recording
            each_ms = (first.end_ms - first.started_ms) // (_STEPS + 1)
            begins = number * _STEPS * 9 // 10
            for at in range(1, _STEPS + 1):
                step = Step(
                    begins + at,
                    first.started_ms + at * each_ms,
                    loss=2.0 + 1.0 / (begins + at),
                    tokens=4_000_000,
                    tokens_per_s=None,
                    rank=0,
                )
                yield STEPS.written(step, recording_key=keys[first.id])


def _events(planned: Iterable[_Planned], keys: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    """Of some runs, the phases."""
    for one in planned:
        if hash_of(one.run.job_id) >= _PHASED or one.run.kind is RunKind.WATCH:
            continue
        for attempt in one.attempts:
            first = attempt[0].recording
            each_ms = (first.end_ms - first.started_ms) // 4
            for at, name in enumerate(("data", "train", "eval")):
                event = Event(
                    first.started_ms + at * each_ms, EventKind.PHASE, name, data={"name": name}
                )
                yield EVENTS.written(event, recording_key=keys[first.id], number=at)


def hash_of(word: str | None) -> float:
    """The same share between 0 and 1 each time."""
    return random.Random(word).random()


def _intensity(month: Month) -> Iterator[dict[str, Any]]:
    """Hourly, of one of the zones."""
    begin_ms, hours = START_MS - _EDGE_H * MS_PER_HOUR, month.hours + 2 * _EDGE_H
    for at in range(hours):
        yield {
            "zone": "FRA",
            "start_ms": begin_ms + at * MS_PER_HOUR,
            "version": "2026",
            "length_ms": MS_PER_HOUR,
            "intensity_kg_per_kwh": 0.05 + at % 24 / 1000,
            "basis": "average",
            "source": "a grid",
        }


def _copy(
    connection: psycopg.Connection[Any], table: Table[Any], rows: Iterable[Mapping[str, Any]]
) -> None:
    """Rows of the same columns."""
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        return
    names = ", ".join(f'"{name}"' for name in first)
    statement = f'copy "{table.name}" ({names}) from stdin'
    with connection.cursor() as cursor, cursor.copy(statement.encode()) as into:
        into.write_row(list(first.values()))
        for row in rows:
            into.write_row(list(row.values()))


_COLUMNS = (
    "start_ms, energy_j, energy_s, sampled_s, power_min_w, power_max_w, util_pct, "
    "memory_max_bytes, temperature_max_c, sm_clock_mhz, throttle, recording_key, sensor_key, "
    "samples, vitals, flags"
)
# In the order of time, as they come; the key is made afterwards, and the sums.
_HOURS = (
    "select setseed(0.5)",
    f"""create temporary table of_recording as
select r.key as recording_key, h as start_ms,
    least(r.ended_ms, h + {MS_PER_HOUR}) - greatest(r.started_ms, h) as ms
from recordings r cross join lateral generate_series(
    r.started_ms / {MS_PER_HOUR} * {MS_PER_HOUR}, r.ended_ms - 1, {MS_PER_HOUR}) h
order by h, r.key""",
    "analyze of_recording",
    "alter table hours drop constraint hours_pkey",
    f"""insert into hours ({_COLUMNS})
select p.start_ms, floor((450 + 150 * random()) * p.ms) / 1000, p.ms / 1000.0, p.ms / 1000.0, 300,
    690, 97.5, 75161927680, 64, 1700, 0, p.recording_key, s.key, p.ms / 100, p.ms / 1000,
    {int(Flag.COUNTER | Flag.USED)}
from of_recording p join sensors s on s.recording_key = p.recording_key""",
    "alter table hours add primary key (recording_key, start_ms, sensor_key)",
    # As it was decided while there were seconds: the watch and the job have all of it.
    f"""create temporary table of_both as
select job.key as job_key, job.recording_key as of_job, watch.key as watch_key,
    watch.recording_key as of_watch, p.start_ms as hour_ms,
    greatest(p.start_ms, j.started_ms, w.started_ms) as start_ms,
    (least(p.start_ms + {MS_PER_HOUR}, j.ended_ms, w.ended_ms)
        - greatest(p.start_ms, j.started_ms, w.started_ms)) / 1000.0 as seconds
from recordings w join runs on runs.key = w.run_key and runs.kind = 'watch'
join sensors watch on watch.recording_key = w.key
join sensors job on job.device_key = watch.device_key and job.key <> watch.key
join recordings j on j.key = job.recording_key
join of_recording p on p.recording_key = j.key""",
    *(
        f"""insert into "overlaps" (sensor_key, start_ms, energy_j, seconds)
select h.sensor_key, b.start_ms, h.energy_j * b.seconds / h.energy_s, b.seconds
from of_both b join hours h on h.recording_key = b.of_{whose} and h.start_ms = b.hour_ms
    and h.sensor_key = b.{whose}_key where b.seconds > 0"""
        for whose in ("job", "watch")
    ),
    *ROLL_ALL,
)
