"""Many jobs at once: what starting beside each other costs, and whether any of them is lost."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.answer import Bench
from benchmarks.table import Table, spread
from benchmarks.tools import tools

_PAIRS = 15
_CROWD = 300
_CODES = 128
_PATIENCE_S = 600.0
# A recorder may outlive its wrapper by a minute.
_LATE_S = 70.0
_BARE = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"
_MARK = 'echo $EPOCHREALTIME > "$0"'


@dataclass(frozen=True)
class Crowd:
    """What became of jobs that were started at once."""

    jobs: int
    took_s: float  # until the last wrapper had ended
    wrong_codes: int  # of the wrappers
    waiting: int  # that were in a journal until `db recover`
    lost: int  # that are not in the ledger even then, with their own exit code


def ask(bench: Bench) -> list[Table]:
    """Two jobs at once beside a bare wrapper; and many on one ledger."""
    return [_two_at_once(bench), _many_at_once(bench)]


def _two_at_once(bench: Bench) -> Table:
    """How late two jobs start that are started at once: by carbontrack, and by a bare wrapper."""
    ours = tools(None)[0]
    rounds = 2 if bench.quick else _PAIRS
    found: dict[str, list[float]] = {"carbontrack": [], "a bare wrapper": []}
    for number in range(rounds + 1):
        for name, late_ms in found.items():
            folder = bench.folder / f"two-{number}-{len(name)}"
            folder.mkdir()
            bare = [str(ours.python), "-c", _BARE]
            started = [
                _start(
                    ours.argv(folder, ["bash", "-c", _MARK, str(folder / mark)])
                    if name == "carbontrack"
                    else [*bare, "bash", "-c", _MARK, str(folder / mark)],
                    folder,
                    ours.environ(os.environ, folder),
                )
                for mark in ("a", "b")
            ]
            for _, process in started:
                process.wait(_PATIENCE_S)
            if number > 0:  # the first one fills the caches, and makes the ledger
                late_ms += [
                    1000 * (float((folder / mark).read_text()) - began_s)
                    for mark, (began_s, _) in zip(("a", "b"), started, strict=True)
                ]
    return Table(
        title="Two jobs at once",
        how=f"From typing the command to the first instruction of each of two jobs; {rounds} "
        "rounds, in turn, median (range). The bare wrapper is Python that starts its job and waits "
        "for it: `subprocess.call`, nothing else.",
        columns=["", *found],
        rows=[["to their start, ms", *(spread(late_ms, "{:.0f}") for late_ms in found.values())]],
        raw={**found, "ratio": _ratio(*found.values())},
    )


def _many_at_once(bench: Bench) -> Table:
    """Short jobs at once on one ledger: whether all are in it, with their exit codes."""
    count = 8 if bench.quick else _CROWD
    folder = bench.folder / "crowd"
    folder.mkdir()
    found = _crowd(folder, count)
    return Table(
        title="Short jobs at once on one ledger",
        how="Each ends at once with an exit code of its own, under a wrapper and a recorder of its "
        "own, with a simulated GPU; all are started in the same moment.",
        columns=[
            "Jobs",
            "wrong exit codes",
            "in a journal until `db recover`",
            "lost",
            "until the last has ended, s",
        ],
        rows=[
            [
                str(count),
                str(found.wrong_codes),
                str(found.waiting),
                str(found.lost),
                f"{found.took_s:.1f}",
            ]
        ],
        raw=asdict(found),
    )


def _crowd(folder: Path, count: int) -> Crowd:
    tool = tools(None)[0]
    env = tool.environ(os.environ, folder)
    codes = {f"job-{number}": number % _CODES for number in range(count)}
    began_s = time.monotonic()
    started = {
        name: _start(
            [
                *(str(tool.python), "-P", "-m", "carbontrack", "run", "-q"),
                *("--meter", "sim:a100x1", "--name", name, "--", "sh", "-c", f"exit {code}"),
            ],
            folder,
            env,
        )[1]
        for name, code in codes.items()
    }
    ended = {name: process.wait(_PATIENCE_S) for name, process in started.items()}
    took_s = time.monotonic() - began_s
    give_up_s = time.monotonic() + _LATE_S
    while (waiting := _missing(tool.python, codes, folder, env)) and time.monotonic() < give_up_s:
        time.sleep(1.0)
    if waiting:
        recover = [str(tool.python), "-P", "-m", "carbontrack", "db", "recover"]
        subprocess.run(recover, cwd=folder, env=env, check=True, capture_output=True)
    lost = _missing(tool.python, codes, folder, env)
    wrong = sum(ended[name] != code for name, code in codes.items())
    return Crowd(count, took_s, wrong, waiting - lost, lost)


def _missing(python: Path, codes: dict[str, int], folder: Path, env: dict[str, str]) -> int:
    """How many of these jobs the ledger does not hold with their exit codes."""
    stored = {run["name"]: run["exit_code"] for run in _runs(python, len(codes), folder, env)}
    return sum(stored.get(name) != code for name, code in codes.items())


def _runs(python: Path, count: int, folder: Path, env: dict[str, str]) -> list[dict[str, Any]]:
    ask = [str(python), "-P", "-m", "carbontrack", "runs", "-n", str(2 * count), "--format", "json"]
    done = subprocess.run(ask, cwd=folder, env=env, check=True, capture_output=True)
    runs: list[dict[str, Any]] = json.loads(done.stdout)["runs"]
    return runs


def _start(
    argv: Sequence[str], folder: Path, env: dict[str, str]
) -> tuple[float, subprocess.Popen[bytes]]:
    began_s = time.time()
    null = subprocess.DEVNULL
    process = subprocess.Popen(argv, cwd=folder, env=env, stdin=null, stdout=null, stderr=null)
    return began_s, process


def _ratio(ours: Sequence[float], bare: Sequence[float]) -> float:
    return statistics.median(ours) / statistics.median(bare)
