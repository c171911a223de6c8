"""How does the ledger bear its rows? Writing against the bare drivers; reading against its size."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import median

import psycopg

from benchmarks.answer import Bench
from benchmarks.fleet import BEHIND, size_of
from benchmarks.table import Table, spread
from carbontrack import config
from carbontrack.ledger.transaction import open_ledger
from carbontrack.ledger.url import ledger_url
from carbontrack.ledger.window import Pyramid, Window
from carbontrack.ledger.write import RunWriter
from carbontrack.units import MS_PER_S
from carbontrack.vocabulary import Status
from dashboards.live.view import View
from tests.fixtures.pictures import power_w, window_at
from tests.fixtures.postgres import private_server
from tests.fixtures.runs import Recorded, recording_of

_BATCH = 1000
_SIZES = (1, 10, 100)
_ZOOMS = 20
_POINTS = 2000
_Row = tuple[str, Window]


def ask(bench: Bench) -> list[Table]:
    """Rows a second and bytes a row; what a recorder's rhythm costs and what other runs in the
    ledger do; then commands and a zoom at 1, 10 and 100 times the size.
    """
    return [_writing(bench), _recording(bench), _reading(bench)]


def _writing(bench: Bench) -> Table:
    rounds, seconds = (1, 60) if bench.quick else (3, 2500)
    recorded = Recorded(count=8, seconds=seconds)
    batches = list(_batches(recorded))
    count = sum(len(batch) for batch in batches)
    took: dict[str, list[float]] = defaultdict(list)
    with private_server() as server:
        for number in range(rounds):
            path = bench.folder / f"writing-{number}.db"
            postgres_url = server.new_database()
            ways: dict[str, Callable[[], None]] = {
                "SQLite, carbontrack": _ours(ledger_url(str(path)), recorded, batches),
                "SQLite, sqlite3": _sqlite3(bench.folder / f"bare-{number}.db", recorded, batches),
                "PostgreSQL, carbontrack": _ours(ledger_url(postgres_url), recorded, batches),
                "PostgreSQL, psycopg": _psycopg(server.new_database(), recorded, batches),
            }
            for name, write in ways.items():
                began_s = time.perf_counter()
                write()
                took[name].append(time.perf_counter() - began_s)
        with psycopg.connect(postgres_url) as connection:
            postgres_bytes = sum(size_of(connection, table) for table in BEHIND)
    bytes_per_row = {"sqlite": path.stat().st_size / count, "postgresql": postgres_bytes / count}
    rates = {name: [count / s / 1000 for s in seconds] for name, seconds in took.items()}
    return Table(
        title="Writing",
        how=f"{count:,} windows of 8 GPUs, seconds with their minutes and hours, in batches of "
        f"{_BATCH:,} and a transaction each, against the driver alone with an upsert of rows."
        f" {rounds} rounds in turn, median (range). A SQLite ledger has "
        f"{bytes_per_row['sqlite']:.0f} bytes a row, PostgreSQL "
        f"{bytes_per_row['postgresql']:.0f}, indexes included.",
        columns=["", "1,000 rows/s"],
        rows=[[name, spread(values)] for name, values in rates.items()],
        raw={"rows_per_ms": rates, "bytes_per_row": bytes_per_row},
    )


def _recording(bench: Bench) -> Table:
    seconds, others = (60, 2) if bench.quick else (3600, 20)
    path = bench.folder / "recording.db"
    runs = [Recorded(number=n, count=8, seconds=seconds, steps=0) for n in range(1, others + 1)]
    before = _written_bytes()
    _record(path, runs[0])
    written, size = _written_bytes() - before, path.stat().st_size
    alone = _one_run_ms(path, runs[0], zooms=_zooms_ms(path, seconds, runs[0]))
    for other in runs:
        _record(path, other, every_s=60)
    among = _one_run_ms(path, runs[0], zooms=_zooms_ms(path, seconds, runs[0]))
    rows = [
        ["bytes a device-second", f"{size / 8 / seconds:.1f}"],
        ["bytes written a byte that stays", f"{written / size:.1f}"],
        *(
            [f"{what}, in ms: alone, among {others} runs", f"{alone[what]:.1f}, {among[what]:.1f}"]
            for what in alone
        ),
    ]
    return Table(
        title="A recorder's rhythm",
        how=f"{seconds:,} s of 8 GPUs with noise, committed every 2 s with the minute and the hour "
        "that are open, in a SQLite ledger; then one run's seconds are summed, the live page zooms "
        f"into it ({_ZOOMS} random stretches, the median) and it is deleted, first alone in its "
        "ledger.",
        columns=["", ""],
        rows=rows,
        raw={"bytes": size, "written": written, "alone_ms": alone, "among_ms": among},
    )


def _record(path: Path, recorded: Recorded, every_s: int = 2) -> None:
    """Write a run as its recorder would, with readings that do not compress."""
    writer = _open(ledger_url(str(path)), recorded)
    dice = random.Random(recorded.number)
    pyramids = {sensor.uuid: Pyramid() for sensor in recorded.sensors}
    batch: list[_Row] = []
    for second in range(int(recorded.seconds)):
        at_ms = recorded.start_ms + second * MS_PER_S
        for uuid, pyramid in pyramids.items():
            energy_j = round(300 + 60 * dice.random(), 3)
            power = replace(window_at(at_ms, 1, energy_j), power_max_w=360 + 20 * dice.random())
            pyramid.add(power)
            batch.append((uuid, power))
        if (second + 1) % every_s == 0:
            writer.commit(windows=batch + _coarse(pyramids), heartbeat_ms=at_ms)
            batch = []
    writer.close()


def _written_bytes() -> int:
    """What this process has written so far, in bytes."""
    counters = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in counters if line.startswith("wchar"))


def _one_run_ms(path: Path, recorded: Recorded, zooms: Sequence[float]) -> dict[str, float]:
    """How long the sum of a run's seconds takes, a zoom as `zooms` did, and to delete the run."""
    statements = {
        "the sum of one run's seconds": "select sum(energy_j) from windows join recordings on "
        "recordings.key = recording_key join runs on runs.key = run_key "
        "where runs.id = ? and level = 1",
        "its deletion": "delete from runs where id = ?",
    }
    took = {}
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("pragma foreign_keys = on")
        for what, statement in statements.items():
            began_s = time.perf_counter()
            connection.execute(statement, (recorded.run.id,)).fetchall()
            took[what] = 1000 * (time.perf_counter() - began_s)
    sum_of, deletion = took
    return {sum_of: took[sum_of], "a zoom into it": median(zooms), deletion: took[deletion]}


def _batches(recorded: Recorded) -> Iterator[list[_Row]]:
    """The run's windows of all levels, a batch at a time, as time goes on."""
    pyramids = {sensor.uuid: Pyramid() for sensor in recorded.sensors}
    batch: list[_Row] = []
    for second in range(int(recorded.seconds)):
        for number, (uuid, pyramid) in enumerate(pyramids.items()):
            start_ms = recorded.start_ms + second * MS_PER_S
            window = window_at(start_ms, 1, power_w(second, number))
            pyramid.add(window)
            batch.append((uuid, window))
        if len(batch) >= _BATCH:
            yield batch + _coarse(pyramids)
            batch = []
    if batch:
        yield batch + _coarse(pyramids)


def _coarse(pyramids: Mapping[str, Pyramid]) -> list[_Row]:
    return [(uuid, w) for uuid, pyramid in pyramids.items() for w in pyramid.take_changed()]


def _open(url: str, recorded: Recorded) -> RunWriter:
    started = recorded.begun
    return RunWriter(open_ledger(url), started, recording_of(started), recorded.sensors)


def _ours(url: str, recorded: Recorded, batches: Sequence[list[_Row]]) -> Callable[[], None]:
    writer = _open(url, recorded)

    def write() -> None:
        for batch in batches:
            writer.commit(windows=batch, heartbeat_ms=batch[0][1].start_ms)
        writer.close()

    return write


_COLUMNS = (
    "level, start_ms, energy_j, energy_s, sampled_s, samples, power_min_w, power_max_w, vitals, "
    "util_pct, memory_max_bytes, temperature_max_c, sm_clock_mhz, throttle, flags"
)


def _statement(mark: str, table: str = "windows") -> str:
    names = [name.strip() for name in _COLUMNS.split(",")]
    changed = ", ".join(f"{name} = excluded.{name}" for name in names[2:])
    return (
        f"insert into {table} (recording_key, sensor_key, {_COLUMNS}) "
        f"values ({', '.join([mark] * (len(names) + 2))}) "
        f"on conflict (recording_key, level, start_ms, sensor_key) do update set {changed}"
    )


def _values(batch: Sequence[_Row]) -> list[tuple[object, ...]]:
    return [
        (
            1,
            int(uuid.rpartition("-")[2]) + 1,
            w.level_s,
            w.start_ms,
            w.energy_j,
            w.energy_s,
            w.sampled_s,
            w.samples,
            w.power_min_w,
            w.power_max_w,
            w.vitals,
            w.util_pct,
            w.memory_max_bytes,
            w.temperature_max_c,
            w.sm_clock_mhz,
            w.throttle,
            int(w.flags),
        )
        for uuid, w in batch
    ]


def _sqlite3(path: Path, recorded: Recorded, batches: Sequence[list[_Row]]) -> Callable[[], None]:
    _open(ledger_url(str(path)), recorded).close()
    rows = [_values(batch) for batch in batches]

    def write() -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = normal")
            for batch in rows:
                with connection:
                    connection.executemany(_statement("?"), batch)

    return write


def _psycopg(url: str, recorded: Recorded, batches: Sequence[list[_Row]]) -> Callable[[], None]:
    """A row a window, as in a file: in the ledger itself they are a view."""
    _open(ledger_url(url), recorded).close()
    table = "bare_windows"
    with psycopg.connect(url) as connection:
        connection.execute(f"create table {table} (like windows)".encode())
        key = "recording_key, level, start_ms, sensor_key"
        connection.execute(f"alter table {table} add primary key ({key})".encode())
    rows = [_values(batch) for batch in batches]

    def write() -> None:
        with psycopg.connect(url) as connection:
            for batch in rows:
                with connection.transaction(), connection.cursor() as cursor:
                    cursor.executemany(_statement("%s", table).encode(), batch)

    return write


def _reading(bench: Bench) -> Table:
    base_s = 60 if bench.quick else 1200
    rounds = 1 if bench.quick else 5
    took_ms: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    sizes = {}
    ledgers = {}
    for size in _SIZES[: 1 if bench.quick else None]:
        path = ledgers[size] = bench.folder / f"reading-{size}.db"
        recorded = Recorded(count=8, seconds=base_s * size, steps=200 * size)
        sizes[size] = _fill(path, recorded)
    for _ in range(rounds):
        for size, path in ledgers.items():
            for command in (["table"], ["show"], ["plot", "last", "--out", "a.png"]):
                took_ms[f"`{command[0]}`"][size].append(_command_ms(command, path))
    for size, path in ledgers.items():
        took_ms["dashboard, a zoom"][size] = _zooms_ms(path, base_s * size, Recorded())
    return Table(
        title="Reading, against the size of the run",
        how=f"One run of 8 GPUs. Commands are whole processes, {rounds} rounds in turn; the zoom "
        f"is the live page's query over a random stretch, {_ZOOMS} of them. In ms, median (range).",
        columns=["", *(f"{rows:,} windows" for rows in sizes.values())],
        rows=[
            [name, *(spread(by_size[size], "{:.0f}") for size in sizes)]
            for name, by_size in took_ms.items()
        ],
        raw=took_ms,
    )


def _fill(path: Path, recorded: Recorded) -> int:
    writer = _open(ledger_url(str(path)), recorded)
    count = 0
    for batch in _batches(recorded):
        writer.commit(windows=batch, heartbeat_ms=recorded.end_ms)
        count += len(batch)
    writer.commit(steps=recorded.step_rows, heartbeat_ms=recorded.end_ms)
    writer.finish(status=Status.COMPLETED, exit_code=0, ended_ms=recorded.end_ms)
    writer.close()
    return count


def _command_ms(command: Sequence[str], ledger: Path) -> float:
    env = {**os.environ, "CARBONTRACK_DB": str(ledger)}
    began_s = time.perf_counter()
    argv = [sys.executable, "-m", "carbontrack", *command]
    subprocess.run(argv, cwd=ledger.parent, env=env, check=True, capture_output=True)
    return 1000 * (time.perf_counter() - began_s)


def _zooms_ms(ledger: Path, seconds: int, recorded: Recorded) -> list[float]:
    view = View(ledger_url(str(ledger)), config.flags())
    run = view.find(recorded.run.id)
    start_ms = recorded.start_ms
    dice = random.Random(3)
    took = []
    for _ in range(_ZOOMS):
        length_ms = int(seconds * MS_PER_S * dice.uniform(0.05, 1))
        from_ms = start_ms + int(dice.random() * (seconds * MS_PER_S - length_ms))
        began_s = time.perf_counter()
        view.series(run, from_ms=from_ms, to_ms=from_ms + length_ms, points=_POINTS)
        took.append(1000 * (time.perf_counter() - began_s))
    view.close()
    return took
