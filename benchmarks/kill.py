"""What does a kill cost? The wrapper is ended from outside while its job is under way."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.answer import Bench
from benchmarks.table import Table, spread
from benchmarks.tools import tools
from benchmarks.wrapped import Wrapped, finish, start
from carbontrack.units import MS_PER_S, NS_PER_MS, NS_PER_S, monotonic_ns
from tests.fixtures.half_done import COMMANDS, rounds_of
from tests.fixtures.killed import MAY_BE_LOST_S, problems, promised_s
from tests.fixtures.nvml import NvmlStub, build_stub
from tests.fixtures.wrap import Wrapper
from tests.record.test_kill import recorder_of

SIGNALS = {
    "SIGTERM, as a scheduler sends": signal.SIGTERM,
    "SIGINT to all, as Ctrl-C": signal.SIGINT,
    "kill -9": signal.SIGKILL,
}
_JOB_EXIT = 7
_DEVICES = 8
_NOTICE_S = 3.0  # in which the job, and the tool, may end by themselves
_STALE_S = 12.0  # after which a run without a heartbeat reads "interrupted"
_AT_ONCE = 32
_BETWEEN_S = 0.45  # starting one takes as much CPU on one of two cores
_HOW = (
    "A job of {seconds:g} s on 8 stand-in A100s; the signal comes after {at_s:g} s. The job ends "
    "itself with exit code 7 on SIGTERM and SIGINT. Shown: the energy until then that the tool "
    "kept, the exit code of the tool, and whether the job was left running without it."
)


@dataclass(frozen=True)
class Killed:
    """What was left of one job under one tool."""

    signal: str
    tool: str
    kept: float | None  # share of the true energy until the signal
    exit_code: int | None  # None: it goes on
    job_runs_on: bool

    @property
    def cell(self) -> str:
        kept = "nothing kept" if self.kept is None else f"{100 * self.kept:.1f} % kept"
        runs_on = ", job runs on" if self.job_runs_on else ""
        code = "goes on" if self.exit_code is None else f"exit {self.exit_code}"
        return f"{kept}, {code}{runs_on}"


@dataclass(frozen=True)
class Round:
    """One `kill -9`, and which of the promises did not hold after it."""

    after_s: float
    with_recorder: bool
    lost_s: float
    problems: list[str]


def ask(bench: Bench) -> list[Table]:
    """All tools under each signal; and carbontrack alone, killed at many random moments, and while
    its ledgers are moved.
    """
    moves = _moves(bench, 2 if bench.quick else 50)
    return [_signals(bench), _rounds(bench, 4 if bench.quick else 200), moves]


def _signals(bench: Bench) -> Table:
    seconds, at_s = (6.0, 3.0) if bench.quick else (40.0, 25.0)
    stub = NvmlStub(build_stub(), bench.folder)
    used = tools(bench.peers)
    with ThreadPoolExecutor(len(SIGNALS) * len(used)) as pool:
        looks: list[Future[Killed]] = []
        for name, signo in SIGNALS.items():
            for tool in used:
                folder = bench.folder / f"{signo.name}-{tool.name}"
                job = start(tool, stub.start(_DEVICES), folder, seconds, exit_code=_JOB_EXIT)
                looks.append(pool.submit(_kill, job, name, signo, at_s))
    found = [look.result() for look in looks]
    cells = {(one.signal, one.tool): one.cell for one in found}
    return Table(
        title="Energy kept, exit code, job",
        how=_HOW.format(seconds=seconds, at_s=at_s),
        columns=["", *(tool.name for tool in used)],
        rows=[[name, *(cells[name, tool.name] for tool in used)] for name in SIGNALS],
        raw=[asdict(one) for one in found],
    )


def _kill(job: Wrapped, name: str, signo: signal.Signals, at_s: float) -> Killed:
    time.sleep(max(0.0, (job.began_ns - monotonic_ns()) / NS_PER_S + at_s))
    killed_ns = monotonic_ns()
    if signo == signal.SIGINT:
        os.killpg(job.process.pid, signo)
    else:
        job.process.send_signal(signo)
    time.sleep(_NOTICE_S)
    runs_on = _is_alive(job.job_pid)
    exit_code = job.process.poll()
    energy_j = job.energy_j
    true_j = sum(job.node.true_energy_j(i, job.began_ns, killed_ns) for i in range(_DEVICES))
    with suppress(ProcessLookupError):
        os.kill(job.job_pid, signal.SIGKILL)
    finish([job], 15)
    return Killed(name, job.tool.name, energy_j and energy_j / true_j, exit_code, runs_on)


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _rounds(bench: Bench, count: int) -> Table:
    """Half of the rounds kill the wrapper, half the wrapper and its recorder."""
    dice = random.Random(7)
    rounds = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for number in range(count):
            folder = bench.folder / f"round-{number}"
            folder.mkdir()
            wait_s = dice.uniform(1, 3 if bench.quick else 8)
            # So early in a run a busy machine may lose more; tests hold what may be lost.
            promise = (lambda *_: 0) if bench.quick else promised_s
            rounds.append(pool.submit(_round, folder, wait_s, number % 2 == 1, promise))
            time.sleep(_BETWEEN_S)
    found = [one.result() for one in rounds]
    failed = [one for one in found if one.problems]
    first = f"; {len(failed)} not, the first: {failed[0].problems[0]}" if failed else ""
    return Table(
        title="carbontrack, killed at random moments",
        how="A fresh ledger is killed with `kill -9`, the wrapper alone or with its recorder, and "
        "must then open, pass `PRAGMA integrity_check`, hold every second older than "
        f"{MAY_BE_LOST_S} s on all of {_DEVICES} simulated devices, with its levels equal to the "
        "joule, read *interrupted*, and the job must run on.",
        columns=["Rounds", "All of that held", "Seconds lost, median (range)"],
        rows=[
            [
                str(count),
                f"{count - len(failed)}{first}",
                spread([one.lost_s for one in found]),
            ]
        ],
        raw=[asdict(one) for one in found],
    )


def _moves(bench: Bench, count: int) -> Table:
    """Commands on a ledger, each killed before so many statements."""
    seed = random.randrange(10**6)
    rows, raw = [], []
    for name, command in COMMANDS.items():
        folder = bench.folder / name
        folder.mkdir()
        deaths, wrong = rounds_of(name, folder, rounds=count, seed=seed)
        first = f"; {len(wrong)} did not, the first: {wrong[0]}" if wrong else ""
        statements = f"{deaths[0].statements:,}"
        rows.append([f"`{' '.join(command.argv)}`", statements, str(count), f"all of it{first}"])
        raw.append({"command": name, "seed": seed, "rounds": count, "problems": wrong})
    return Table(
        title="Commands on a ledger, killed before any of their SQL statements",
        how=f"Seed {seed}. Each is killed with `kill -9` before a statement that the seed chooses, "
        "in a fresh copy of the ledger. What is left must be sound and have the contents of before "
        "or of after (of `compact`, whose hours go one by one, and of `rm`, which removes for "
        "readers first, the tables), and when the command is run again, all of it must be as if "
        "it had not been killed.",
        columns=["Command", "Statements", "Rounds", "Held"],
        rows=rows,
        raw=raw,
    )


def _round(
    folder: Path, wait_s: float, with_recorder: bool, promise: Callable[[Path, int], int]
) -> Round:
    wrapper = Wrapper(folder, meter=f"sim:a100x{_DEVICES}")
    job = wrapper.start("sh", "-c", "echo $$; exec sleep 60", stderr=subprocess.DEVNULL)
    assert job.stdout is not None
    child = int(job.stdout.readline())
    time.sleep(wait_s)
    recorder = recorder_of(wrapper, {job.pid}) if with_recorder else None
    killed_ms = time.time_ns() // NS_PER_MS
    job.kill()
    if recorder is not None:
        os.kill(recorder, signal.SIGKILL)
    job.wait()
    job.stdout.close()
    time.sleep(_STALE_S)
    found = [] if _is_alive(child) else ["the job has ended"]
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    if not _has_run(wrapper.ledger):  # killed before the first commit
        late = [] if wait_s < MAY_BE_LOST_S else [f"no ledger after {wait_s:.1f} s"]
        return Round(wait_s, with_recorder, wait_s, found + late)
    found += problems(wrapper.ledger, promise(wrapper.ledger, killed_ms), _DEVICES)
    # Many rounds at once: a process of its own, for in this one they would share its output.
    shown = wrapper.carbontrack("show", "--format", "json")
    if (status := json.loads(shown.stdout)["status"]) != "interrupted":
        found.append(f"it reads {status}")
    return Round(wait_s, with_recorder, _lost_s(wrapper.ledger, killed_ms), found)


def _has_run(ledger: Path) -> bool:
    if not ledger.exists():
        return False
    with closing(sqlite3.connect(ledger)) as connection:
        tables = "select count(*) from sqlite_master where name = 'runs'"
        return bool(
            connection.execute(tables).fetchone()[0]
            and connection.execute("select count(*) from runs").fetchone()[0]
        )


def _lost_s(ledger: Path, killed_ms: int) -> float:
    """From the end of the last second in the ledger to the kill, in s; never below 0."""
    with closing(sqlite3.connect(ledger)) as connection:
        query = "select max(start_ms) + 1000 from windows where level = 1"
        (until_ms,) = connection.execute(query).fetchone()
        if until_ms is None:
            (until_ms,) = connection.execute("select started_ms from runs").fetchone()
    return max(0.0, (killed_ms - int(until_ms)) / MS_PER_S)
