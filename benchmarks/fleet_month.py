"""How long does a report over a month of a large fleet take?"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

import psycopg
from sqlalchemy import Engine, event

from benchmarks.answer import Bench
from benchmarks.fleet import size_of
from benchmarks.month_ledger import DEVICES_A_NODE, FLEET, SMALL, START_MS, Month, fill
from benchmarks.table import Table, spread
from carbontrack import config
from carbontrack.cli import app
from carbontrack.ledger.engine import writing
from carbontrack.ledger.url import ledger_url
from carbontrack.units import MS_PER_S
from dashboards.grafana_boards import fleet as fleet_board
from dashboards.live.view import View
from tests.fixtures.postgres import private_server

_SERVER = "-c shared_buffers=1GB -c work_mem=64MB -c max_wal_size=8GB -c maintenance_work_mem=512MB"
_HOURS = re.compile(r"\b(run_days|run_hours|windows|windows_between|first_window|hours)\b")
_PATIENCE_S = 60
_FACTORS = {"pue": "1.1", "intensity": "0.4"}


def ask(bench: Bench) -> list[Table]:
    """The statements of `table` over the month, the command as a whole, and what pages ask."""
    month, rounds = (SMALL, 1) if bench.quick else (FLEET, 3)
    with private_server(_SERVER) as server:
        url = server.new_database()
        with writing(ledger_url(url)):
            pass
        began_s = time.perf_counter()
        fill(url, month)
        filled_s = time.perf_counter() - began_s
        return [_reports(url, month, rounds, filled_s)]


def _reports(url: str, month: Month, rounds: int, filled_s: float) -> Table:
    words = ["--since", _time(START_MS), "--until", _time(month.end_ms), "--db", url]
    commands = {
        "table --by project": ["table", "--by", "project", *words],
        "table --by month --by project": ["table", "--by", "month", "--by", "project", *words],
    }
    found = {name: [_command(argv) for _ in range(rounds)] for name, argv in commands.items()}
    statements = {
        name: [_statements(argv) for _ in range(rounds)] for name, argv in commands.items()
    }
    page_ms = [1000 * _page_s(url, month) for _ in range(rounds)]
    with psycopg.connect(url) as connection:
        bare_ms = [1000 * _bare_s(connection, month) for _ in range(rounds)]
        board_s = _board_s(connection, month)
        ((runs, recordings, hours, rolled, days),) = connection.execute(_COUNTS).fetchall()
        size_b = size_of(connection, "hours")
    first = statements["table --by project"]
    raw: dict[str, Any] = {
        "runs": runs,
        "recordings": recordings,
        "device_hours": hours,
        "rolled_hours": rolled,
        "rolled_days": days,
        "hours_bytes": size_b,
        "filled_s": filled_s,
        "bare_ms": bare_ms,
        "hours_ms": [one.hours_ms for one in first],
        "sql_ms": {name: [one.sql_ms for one in of] for name, of in statements.items()},
        "statements": {name: of[0].count for name, of in statements.items()},
        "cpu_s": {name: [cpu for cpu, _ in of] for name, of in found.items()},
        "wall_s": {name: [wall for _, wall in of] for name, of in found.items()},
        "page_ms": page_ms,
        "board_s": board_s,
    }
    rows = [
        ["the sum by hour in SQL alone", f"{spread(bare_ms)} ms"],
        ["`table --by project`: what it reads of hours", f"{spread(raw['hours_ms'])} ms"],
        *(
            [
                f"`{name}`: all of its {raw['statements'][name]} statements",
                f"{spread(raw['sql_ms'][name], '{:.0f}')} ms",
            ]
            for name in commands
        ),
        *(
            [f"`{name}`: CPU, until its end", f"{spread(cpu)}, {spread(raw['wall_s'][name])} s"]
            for name, cpu in raw["cpu_s"].items()
        ),
        ["the sums of the first page", f"{spread(page_ms, '{:.0f}')} ms"],
        *([f"Grafana, fleet: {title}", _shown(took_s)] for title, took_s in board_s.items()),
    ]
    return Table(
        title="A report over a month of a fleet",
        how=f"{month.nodes * DEVICES_A_NODE:,} GPUs for {month.hours} hours: {hours:,} "
        f"device-hours ({size_b / 1e9:.2f} GB) of {runs:,} runs with {recordings:,} recordings, "
        f"some in several attempts, with phases, or beside a watch of their node; {rolled:,} sums "
        f"of a run's hour, {days:,} of its day. Filled in {filled_s:.0f} s. A statement's time is "
        "until its answer has arrived; CPU is of the command alone, without the server's.",
        columns=["", ""],
        rows=rows,
        raw=raw,
    )


_COUNTS = b"""select (select count(*) from runs), (select count(*) from recordings),
    (select count(*) from hours), (select count(*) from rolled_hours),
    (select count(*) from rolled_days)"""


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / MS_PER_S, UTC).isoformat()


def _command(argv: Sequence[str]) -> tuple[float, float]:
    """CPU and time of a command of its own, in s."""
    began_s, before = time.perf_counter(), os.times()
    words = [sys.executable, "-m", "carbontrack", *argv, "--format", "json"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["total"]["energy_kwh"] > 0
    after = os.times()
    cpu_s = sum(getattr(after, name) - getattr(before, name) for name in _CHILDREN)
    return cpu_s, time.perf_counter() - began_s


_CHILDREN = ("children_user", "children_system")


@dataclass
class _Statements:
    """What a command asked, and how long each answer took."""

    took: list[tuple[str, float]] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.took)

    @property
    def sql_ms(self) -> float:
        return 1000 * sum(took_s for _, took_s in self.took)

    @property
    def hours_ms(self) -> float:
        """Of those that read hours, or sums of them."""
        return 1000 * sum(took_s for sql, took_s in self.took if _HOURS.search(sql))


def _statements(argv: Sequence[str]) -> _Statements:
    """Of a command in this process."""
    found = _Statements()
    shown = io.TextIOWrapper(io.BytesIO())
    with (
        _timed(found),
        patch.object(sys, "argv", ["carbontrack", *argv]),
        contextlib.redirect_stdout(shown),
        contextlib.suppress(SystemExit),
    ):
        app.main()
    assert found.took
    return found


@contextlib.contextmanager
def _timed(found: _Statements) -> Iterator[None]:
    began: list[float] = []

    def before(*_: Any) -> None:
        began.append(time.perf_counter())

    def after(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        found.took.append((statement, time.perf_counter() - began.pop()))

    event.listen(Engine, "before_cursor_execute", before)
    event.listen(Engine, "after_cursor_execute", after)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", before)
        event.remove(Engine, "after_cursor_execute", after)


def _page_s(url: str, month: Month) -> float:
    """The sums of a server that has been asked nothing yet."""
    view = View(ledger_url(url), config.flags())
    began_s = time.perf_counter()
    view.totals(by="project", since_ms=START_MS, until_ms=month.end_ms)
    took_s = time.perf_counter() - began_s
    view.close()
    return took_s


def _bare_s(connection: psycopg.Connection[Any], month: Month) -> float:
    began_s = time.perf_counter()
    connection.execute(
        "select r.project, sum(k.energy_j) from run_hours k join runs r on r.key = k.run_key "
        "where k.start_ms >= %s and k.start_ms < %s group by 1",
        [START_MS, month.end_ms],
    ).fetchall()
    return time.perf_counter() - began_s


def _board_s(connection: psycopg.Connection[Any], month: Month) -> dict[str, float | None]:
    """The panels of the fleet's board that group, once each; None of one that nobody would wait
    for.
    """
    found: dict[str, float | None] = {}
    for panel in fleet_board()["panels"]:
        if panel["title"] not in _PANELS:
            continue
        sql = panel["targets"][0]["rawSql"]
        sql = sql.replace("$__unixEpochFrom()", str(START_MS // MS_PER_S))
        sql = sql.replace("$__unixEpochTo()", str(month.end_ms // MS_PER_S))
        sql = re.sub(r"\$\{(\w+):sqlstring\}", lambda found: f"'{_FACTORS[found[1]]}'", sql)
        began_s = time.perf_counter()
        with connection.transaction():
            connection.execute(f"set local statement_timeout = '{_PATIENCE_S}s'".encode())
            try:
                with connection.transaction():
                    connection.execute(sql.encode()).fetchall()
                found[panel["title"]] = time.perf_counter() - began_s
            except psycopg.errors.QueryCanceled:
                found[panel["title"]] = None
    return found


def _shown(took_s: float | None) -> str:
    return f"more than {_PATIENCE_S} s" if took_s is None else f"{took_s:.2f} s"


_PANELS = (
    "Power by project, mean of each hour",
    "By project",
    "By node, the 50 that use most",
)
