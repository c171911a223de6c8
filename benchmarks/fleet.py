"""What does a fleet's second of a device take on PostgreSQL, in room and in time?"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

import psycopg

from benchmarks.answer import Bench
from benchmarks.table import Table, spread
from carbontrack.ledger import join
from carbontrack.ledger.packed import SEGMENT_COLUMNS, minute_of, pack
from carbontrack.ledger.server_windows import copied
from carbontrack.ledger.tables import WINDOWS
from carbontrack.ledger.transaction import WritableLedger, open_ledger
from carbontrack.ledger.url import ledger_url
from carbontrack.ledger.window import Flag, Pyramid, Window
from carbontrack.ledger.write import RunWriter
from carbontrack.units import MS_PER_S, now_ms
from tests.fixtures.postgres import PostgresServer, private_server
from tests.fixtures.runs import Recorded, recording_of

_DEVICES = 8  # a node
_MINUTE_MS = 60 * MS_PER_S
_EARLIER_MS = 10 * 24 * 60 * _MINUTE_MS
_DROP_EARLIER = """do $$ begin
    execute (select 'drop table ' || min(inhrelid::regclass::text) from pg_inherits
        where inhparent = 'seconds'::regclass);
end $$"""
_Row = tuple[Any, ...]
BEHIND = ("seconds", "odd_seconds", "minutes", "hours")
"""The tables behind the view `windows`."""


def ask(bench: Bench) -> list[Table]:
    """Bytes per device-second, and how fast a minute of many nodes is written."""
    nodes, minutes, rounds = (8, 1, 1) if bench.quick else (512, 3, 3)
    with private_server() as server:
        return [storage(server, nodes=nodes, minutes=minutes, rounds=rounds)]


def storage(server: PostgresServer, *, nodes: int, minutes: int, rounds: int) -> Table:
    """A minute of all nodes is a transaction, against a bare COPY of the same."""
    took: dict[str, list[float]] = {
        name: [] for name in ("packed", "staged", "written", "copied", "rows")
    }
    device_seconds = nodes * _DEVICES * 60
    per_second = 0.0
    for number in range(rounds):
        url = server.new_database()
        begin_ms = (now_ms() // _MINUTE_MS - minutes - 1) * _MINUTE_MS
        with closing(open_ledger(ledger_url(url))) as ledger:
            _describe(ledger, nodes)
            with psycopg.connect(url) as bare:
                bare.execute("create table bare_segments (like seconds including all)")
                bare.execute("create table bare_rows (like windows)")
                key = ", ".join(WINDOWS.key)
                bare.execute(f"alter table bare_rows add primary key ({key})".encode())
            for minute in range(minutes):
                rows, coarse = _minute(begin_ms + minute * _MINUTE_MS, nodes, number)
                segments = _timed(took["packed"], partial(_segments, rows))
                _timed(took["staged"], partial(_stage_packed, ledger, segments))
                _timed(took["written"], partial(_stage, ledger, rows))
                _stage(ledger, coarse)
                _timed(took["copied"], _copy(url, "bare_segments", SEGMENT_COLUMNS, segments))
                _timed(took["rows"], _copy(url, "bare_rows", WINDOWS.columns, rows))
        with psycopg.connect(url) as connection:
            connection.execute(_DROP_EARLIER)  # what was staged in packed form
            sizes = {table: size_of(connection, table) for table in BEHIND}
        hours_s = 3600 / 60 / minutes  # the one hour of each device is an hour's
        sizes["hours"] = round(sizes["hours"] / hours_s)
        per_second = sum(sizes.values()) / (device_seconds * minutes)
    rates = {name: [device_seconds / s for s in seconds] for name, seconds in took.items()}
    ratios = {
        "staged segments ÷ bare COPY of them": median(
            [c / s for c, s in zip(took["copied"], took["staged"], strict=True)]
        ),
        "staged segments ÷ bare COPY of rows": median(
            [r / s for r, s in zip(took["rows"], took["staged"], strict=True)]
        ),
        "written, packing included ÷ bare COPY of rows": median(
            [r / s for r, s in zip(took["rows"], took["written"], strict=True)]
        ),
    }
    return Table(
        title="A fleet's seconds",
        how=f"{60 * minutes} s of {nodes:,} nodes with {_DEVICES} GPUs each, simulated with "
        "noise, a transaction a minute. Staged: packed segments, as a collector takes them; "
        "written: rows, packing in Python included. "
        f"{per_second:.1f} bytes a device-second of all levels, indexes included.",
        columns=["", "1,000 device-seconds/s"],
        rows=[
            *([name, spread([rate / 1000 for rate in rates[name]])] for name in rates),
            *([name, f"{ratio:.2f}"] for name, ratio in ratios.items()),
        ],
        raw={"bytes_per_device_second": per_second, "seconds": took, "ratios": ratios},
    )


def _describe(ledger: WritableLedger, nodes: int) -> None:
    """A run with so many recordings, whose sensors have the keys from 1 on."""
    for node in range(nodes):
        recorded = Recorded(count=_DEVICES, host=f"node{node:05}")
        sensors = [replace(one, uuid=f"{one.uuid}-{node}") for one in recorded.sensors]
        RunWriter(ledger, recorded.run, recording_of(recorded.run, recorded.host), sensors)


def _minute(start_ms: int, nodes: int, seed: int) -> tuple[list[_Row], list[_Row]]:
    """The seconds of a minute of all nodes, and the minutes and hours that they add up to."""
    rows, coarse = [], []
    noise = random.Random(seed)
    for sensor in range(nodes * _DEVICES):
        keys = (sensor // _DEVICES + 1, sensor + 1)
        pyramid = Pyramid()
        for window in _seconds(start_ms, noise):
            pyramid.add(window)
            rows.append(WINDOWS.in_order(window, *keys))
        coarse += [WINDOWS.in_order(window, *keys) for window in pyramid.take_changed()]
    return rows, coarse


def _seconds(start_ms: int, noise: random.Random) -> Iterator[Window]:
    """As NVML gives them: power with white noise, a full GPU whose memory does not change."""
    for at in range(60):
        power_w = round(noise.gauss(650.0, 30.0), 3)
        yield Window(
            start_ms=start_ms + at * MS_PER_S,
            level_s=1,
            energy_j=power_w,
            energy_s=1.0,
            sampled_s=1.0,
            samples=10,
            power_min_w=round(power_w - abs(noise.gauss(0, 20)), 3),
            power_max_w=round(power_w + abs(noise.gauss(0, 20)), 3),
            vitals=1,
            util_pct=round(noise.uniform(90, 100), 2),
            memory_max_bytes=70 << 30,
            temperature_max_c=float(noise.randint(60, 66)),
            sm_clock_mhz=float(noise.randint(1_600, 1_980)),
            throttle=noise.choice((0, 0, 0, 4)),
            flags=Flag.COUNTER,
        )


def _stage(ledger: WritableLedger, rows: Sequence[_Row]) -> None:
    with ledger.begin() as transaction:
        transaction.put_better(rows, join.is_as_good)


def _stage_packed(ledger: WritableLedger, segments: Sequence[_Row]) -> None:
    """Some days earlier, where nothing is."""
    at = SEGMENT_COLUMNS.index("start_ms")
    earlier = [(*one[:at], one[at] - _EARLIER_MS, *one[at + 1 :]) for one in segments]
    with ledger.begin() as transaction:
        transaction.put_segments(earlier, join.is_as_good)


def _segments(rows: Sequence[_Row]) -> list[_Row]:
    minutes: dict[Any, list[_Row]] = {}
    for row in rows:
        minutes.setdefault(minute_of(row), []).append(row)
    return [segment for segment, _ in map(pack, minutes.values()) if segment is not None]


def _copy(url: str, table: str, columns: Sequence[str], rows: Sequence[_Row]) -> Callable[[], None]:
    def copy() -> None:
        statement = f"copy {table} ({', '.join(columns)}) from stdin"
        with (
            psycopg.connect(url) as connection,
            connection.cursor() as cursor,
            cursor.copy(statement.encode()) as into,
        ):
            into.write(copied(rows))

    return copy


def _timed(took: list[float], do: Callable[[], Any]) -> Any:
    began_s = time.perf_counter()
    found = do()
    took.append(time.perf_counter() - began_s)
    return found


def size_of(connection: psycopg.Connection[Any], table: str) -> int:
    """Of a table with its partitions and indexes; 0 where there is none."""
    found = connection.execute(
        "select coalesce(sum(pg_total_relation_size(oid)), 0) from pg_class "
        "where relkind = 'r' and (oid = to_regclass(%s) or oid in "
        "(select inhrelid from pg_inherits where inhparent = to_regclass(%s)))",
        [table, table],
    ).fetchone()
    return int(found[0]) if found else 0
