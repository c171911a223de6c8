"""Does a team's ledger keep up? A fleet in real time, then all of it at once after an outage."""

from __future__ import annotations

import asyncio
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import quantiles
from urllib.parse import urlsplit

import psycopg

from benchmarks.answer import Bench
from benchmarks.processes import cpu_s, peak_mib, watchers
from benchmarks.shipping import memory
from benchmarks.table import Table
from carbontrack.ledger import live
from carbontrack.ledger.batch import EVERY_S, PATH, Batch, encode
from carbontrack.ledger.engine import open_reader
from carbontrack.ledger.packed import Segment, pack, segment_of
from carbontrack.ledger.recorded_rows import Sensor
from carbontrack.ledger.rows import Live
from carbontrack.ledger.tables import WINDOWS
from carbontrack.ledger.url import ledger_url
from carbontrack.ledger.window import Pyramid, Window
from carbontrack.units import MS_PER_HOUR, MS_PER_S, now_ms
from carbontrack.vocabulary import Status
from tests.fixtures.pictures import window_at
from tests.fixtures.postgres import PostgresServer, private_server
from tests.fixtures.runs import Recorded, recording_of

_PROJECT = "fleet"
_DEVICES = 8
_NODES_A_RUN = 16
_MINUTE_MS = 60 * MS_PER_S
_BEHIND_MS = 3 * MS_PER_S  # a heartbeat in the ledger: seconds are complete and committed by then
_TOGETHER = 256  # connections by which the nodes come back after an outage
_SERVER = "-c fsync=on -c synchronous_commit=on -c full_page_writes=on -c shared_buffers=1GB"


def ask(bench: Bench) -> list[Table]:
    """Nodes post as recorders do, with minutes, hours and seconds; how late a post is committed,
    what it costs, and how fast a backlog is taken.
    """
    fleet = _Fleet(nodes=16, posts=2) if bench.quick else _Fleet(nodes=2_048, posts=12)
    with private_server(_SERVER) as server, _collector(server, bench.folder) as collector:
        steady = asyncio.run(_in_real_time(fleet, collector))
        now = _newest(collector.database)
        burst = asyncio.run(_at_once(fleet, collector))
        memory_mib = peak_mib(collector.pid)
        held = _held(collector.database)
        recorder = memory(
            bench.folder, collector.address, collector.token, _PROJECT, quick=bench.quick
        )
    rate = burst.device_s / burst.took_s
    cores = [used / steady.took_s for used in (steady.collector_cpu_s, steady.server_cpu_s)]
    late = _percentiles(steady.late_s)
    seconds_late = _percentiles(steady.seconds_late_s)
    refused = steady.refused + burst.refused
    over = rate / (fleet.nodes * _DEVICES)
    raw = {
        "nodes": fleet.nodes,
        "posts": len(steady.late_s),
        "refused": dict(refused),
        "late_s": late,
        "seconds_late_s": seconds_late,
        "collector_cores": cores[0],
        "server_cores": cores[1],
        "collector_peak_mib": memory_mib,
        "burst_device_s_per_s": rate,
        "burst_over_steady": over,
        **now,
    }
    rows = [
        [
            "from post to commit: median, 99 %, most",
            " / ".join(f"{value:.2f} s" for value in late.values()),
        ],
        [
            "from a second to its commit: median, 99 %, most",
            " / ".join(f"{value:.0f} s" for value in seconds_late.values()),
        ],
        ["CPU of the collector, of PostgreSQL", f"{cores[0]:.2f}, {cores[1]:.2f} cores"],
        ["peak memory of the collector", f"{memory_mib:.0f} MiB"],
        ["a backlog ÷ the steady rate", f"{over:.1f}"],
        ["newest power of all, in SQL", f"{now['sql_ms']:.1f} ms"],
        ["the same, a row a device in Python", f"{now['rows_ms']:.0f} ms"],
        ["posts that were not taken", f"{refused.total():,}"],
    ]
    return [
        Table(
            title="A fleet in real time",
            how=f"{fleet.nodes:,} nodes of {_DEVICES} GPUs for {fleet.posts * EVERY_S:g} s, a post "
            f"each every {EVERY_S:g} s over HTTP into `carbontrack collect` and PostgreSQL "
            "with fsync: what is now, and minutes with their hour and packed seconds once a "
            f"heartbeat is behind them ({_BEHIND_MS / MS_PER_S:g} s). The load runs on the same "
            f"cores. Then {_TOGETHER} nodes at a time bring a minute each without a pause. The "
            f"ledger held {held:,} device-seconds in the end.",
            columns=["", ""],
            rows=rows,
            raw=raw,
        ),
        recorder,
    ]


@dataclass(frozen=True)
class _Fleet:
    """Nodes whose clock starts two minutes before the first post, a full minute."""

    nodes: int
    posts: int  # of each node
    begin_ms: int = field(default_factory=lambda: now_ms() // _MINUTE_MS * _MINUTE_MS - MS_PER_HOUR)

    def phase_s(self, node: int) -> float:
        """How long after the first node this one posts."""
        return EVERY_S * node / self.nodes

    def sent_ms(self, node: int, post: int) -> int:
        """When it posts, by the fleet's clock."""
        after_s = 2 * 60 + self.phase_s(node) + EVERY_S * post
        return self.begin_ms + round(after_s * MS_PER_S)

    def minute(self, node: int, post: int) -> int | None:
        """The number of the minute that a post is the first to find closed."""
        closed, before = (
            (self.sent_ms(node, at) - _BEHIND_MS - self.begin_ms) // _MINUTE_MS
            for at in (post, post - 1)
        )
        return closed - 1 if closed > before and closed > 0 else None


@dataclass(frozen=True)
class _Collector:
    address: str
    token: str
    pid: int
    server_pid: int
    database: str


@dataclass
class _Seen:
    """What came of the posts."""

    took_s: float = 0.0
    device_s: int = 0
    late_s: list[float] = field(default_factory=list)
    seconds_late_s: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    collector_cpu_s: float = 0.0
    server_cpu_s: float = 0.0


@contextmanager
def _collector(server: PostgresServer, folder: Path) -> Iterator[_Collector]:
    """`carbontrack collect` on a database of its own, with a token."""
    database = ledger_url(server.new_database())
    env = {**os.environ, "CARBONTRACK_DB": database}
    command = [sys.executable, "-m", "carbontrack", "collect"]
    made = subprocess.run(
        [*command, "token", "add", _PROJECT], env=env, check=True, capture_output=True, text=True
    )
    token = made.stdout.split()[-1]
    with subprocess.Popen(
        [*command, "--listen", "127.0.0.1:0"],
        env=env,
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+", process.stdout.readline())
            assert found is not None, "the collector has not started"
            pid_file = server.folder / "data" / "postmaster.pid"
            server_pid = int(pid_file.read_text().split()[0])
            yield _Collector(found[0], token, process.pid, server_pid, database)
        finally:
            process.terminate()


def _bodies(fleet: _Fleet, node: int, posts: Sequence[int]) -> Iterator[bytes]:
    """The documents of a node's posts."""
    of_run = Recorded(number=1 + node // _NODES_A_RUN, name="pretraining", project=_PROJECT)
    run = replace(of_run.begun, started_ms=fleet.begin_ms)
    sensors = tuple(
        replace(sensor, uuid=f"GPU-{node:05}-{number}", host=f"node{node:04}")
        for number, sensor in enumerate(Recorded(count=_DEVICES).sensors)
    )
    recording = replace(
        recording_of(run),
        id=f"0197{node:04x}-bbbb-7bbb-8ccc-{node:012x}",
        host=f"node{node:04}",
        boot_id=f"boot-{node}",
        started_ms=fleet.begin_ms,
        status=Status.RUNNING,
        ended_ms=None,
    )
    dice = random.Random(node)
    for post in posts:
        now = fleet.sent_ms(node, post)
        minute = fleet.minute(node, post)
        minutes = [] if minute is None else list(_minutes(fleet, sensors, minute, dice))
        windows = [(uuid, whole) for uuid, whole, _ in minutes]
        hour_j = 350.0 * (now - fleet.begin_ms) / MS_PER_S
        for sensor in sensors if minutes or not post else ():
            windows.append((sensor.uuid, _hour(fleet, (now - fleet.begin_ms) // MS_PER_S, hour_j)))
        yield encode(
            Batch(
                run=run,
                recording=replace(recording, heartbeat_ms=now),
                sensors=sensors,
                live=Live(
                    now,
                    tuple(round(350 + 20 * dice.random(), 3) for _ in sensors),
                    tuple(hour_j for _ in sensors),
                    tuple(99.0 for _ in sensors),
                ),
                windows=tuple(windows),
                segments=tuple((uuid, segment) for uuid, _, segment in minutes),
            )
        )


def _hour(fleet: _Fleet, seconds: int, energy_j: float) -> Window:
    """The hour as it is after so many seconds."""
    whole = window_at(fleet.begin_ms // MS_PER_HOUR * MS_PER_HOUR, 3600, 350.0)
    part = replace(whole, energy_s=float(seconds), sampled_s=float(seconds), samples=10 * seconds)
    return replace(part, energy_j=energy_j, vitals=seconds)


def _minutes(
    fleet: _Fleet, sensors: Sequence[Sensor], number: int, dice: random.Random
) -> Iterator[tuple[str, Window, Segment]]:
    """A minute of each device, and its seconds with noise."""
    for sensor in sensors:
        pyramid = Pyramid()
        rows = []
        for second in range(60):
            at_ms = fleet.begin_ms + number * _MINUTE_MS + second * MS_PER_S
            window = window_at(at_ms, 1, round(300 + 60 * dice.random(), 3))
            window = replace(window, power_max_w=round(360 + 20 * dice.random(), 3))
            pyramid.add(window)
            rows.append(WINDOWS.in_order(window, 0, 0))
        segment, _ = pack(rows)
        assert segment is not None
        (minute,) = [one for one in pyramid.take_changed() if one.level_s == 60]
        yield sensor.uuid, minute, segment_of(segment)


async def _in_real_time(fleet: _Fleet, collector: _Collector) -> _Seen:
    """Each node posts at its times, on a connection that it keeps."""
    seen = _Seen()
    bodies = [list(_bodies(fleet, node, range(fleet.posts))) for node in range(fleet.nodes)]
    before = _cpu_s(collector)
    begin_s = time.perf_counter() + 2

    async def node_posts(node: int) -> None:
        node_s = begin_s + fleet.phase_s(node)
        connection = None
        for post, body in enumerate(bodies[node]):
            due_s = node_s + EVERY_S * post
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            connection = connection or await _connected(collector)
            status = await _post(connection, collector, body)
            late_s = time.perf_counter() - due_s
            if status >= 300:
                seen.refused[str(status)] += 1
                continue
            seen.late_s.append(late_s)
            if (minute := fleet.minute(node, post)) is not None:
                first_ms = fleet.begin_ms + minute * _MINUTE_MS
                sent_ms = fleet.sent_ms(node, post)
                after_s = (sent_ms - first_ms) / MS_PER_S + late_s
                seen.seconds_late_s += [after_s - second for second in range(60)]
        if connection is not None:
            connection[1].close()

    await asyncio.gather(*map(node_posts, range(fleet.nodes)))
    seen.took_s = time.perf_counter() - begin_s
    seen.collector_cpu_s, seen.server_cpu_s = (
        after - was for after, was in zip(_cpu_s(collector), before, strict=True)
    )
    return seen


async def _at_once(fleet: _Fleet, collector: _Collector) -> _Seen:
    """Every node brings its next minute, as many together as there are connections."""
    seen = _Seen()
    waiting = [
        body
        for node in range(fleet.nodes)
        for body in _bodies(fleet, node, [_next_minute(fleet, node)])
    ]

    async def come_back() -> None:
        connection = await _connected(collector)
        while waiting:
            body = waiting.pop()
            while (status := await _post(connection, collector, body)) in (429, 503):
                await asyncio.sleep(0.05)
            if status >= 300:
                seen.refused[str(status)] += 1
            else:
                seen.device_s += 60 * _DEVICES
        connection[1].close()

    began_s = time.perf_counter()
    await asyncio.gather(*(come_back() for _ in range(min(_TOGETHER, fleet.nodes))))
    seen.took_s = time.perf_counter() - began_s
    return seen


def _next_minute(fleet: _Fleet, node: int) -> int:
    """The number of the first post after all others that brings a minute."""
    post = fleet.posts
    while fleet.minute(node, post) is None:
        post += 1
    return post


_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _connected(collector: _Collector) -> _Connection:
    parts = urlsplit(collector.address)
    return await asyncio.open_connection(parts.hostname, parts.port)


async def _post(connection: _Connection, collector: _Collector, body: bytes) -> int:
    """The status of the answer, which comes after the commit."""
    reader, writer = connection
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: collector\r\nAuthorization: Bearer {collector.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    length = re.search(r"(?i)content-length: *(\d+)", answer)
    if length is not None:
        await reader.readexactly(int(length[1]))
    return int(answer.split()[1])


def _cpu_s(collector: _Collector) -> tuple[float, float]:
    """CPU time of the collector, and of the server with its backends that have ended."""
    server = sum(map(cpu_s, watchers(collector.server_pid, without=0)))
    return cpu_s(collector.pid), server + _ended_cpu_s(collector.server_pid)


def _ended_cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def _newest(database: str) -> dict[str, float]:
    """How long it takes to ask for the newest power of all, in ms: the best of five."""
    sql = "select sum(w) from live, unnest(power_w) w"
    took_sql, took_rows = [], []
    with psycopg.connect(database.replace("+psycopg", "")) as connection:
        for _ in range(5):
            began_s = time.perf_counter()
            connection.execute(sql).fetchall()
            took_sql.append(1000 * (time.perf_counter() - began_s))
    engine = open_reader(database)
    with engine.connect() as reader:
        for _ in range(5):
            began_s = time.perf_counter()
            live.newest(reader)
            took_rows.append(1000 * (time.perf_counter() - began_s))
    engine.dispose()
    return {"sql_ms": min(took_sql), "rows_ms": min(took_rows)}


def _held(database: str) -> int:
    with psycopg.connect(database.replace("+psycopg", "")) as connection:
        ((count,),) = connection.execute("select count(*) from windows where level = 1").fetchall()
    return int(count)


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    cut = quantiles(values, n=100, method="inclusive")
    return {"p50": cut[49], "p99": cut[98], "max": max(values)}
