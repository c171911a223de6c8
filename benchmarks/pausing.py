"""A training's steps with its watcher at work and paused, in turn, in one process.

Two processes of the same training differ by far more than a watcher costs: where their memory
lies, which core they got. So the watcher is stopped and continued beside one that goes on.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.answer import Bench
from benchmarks.processes import watchers
from benchmarks.table import Table
from benchmarks.tools import Tool
from tests.fixtures.nvml import NvmlStub

_START_S = 300.0  # a loaded machine is slow to import torch
_LEAST_STEPS = 3  # of a phase: where the machine is busy, it takes longer
_PHASE_S = 120.0  # at most
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Steps:
    """Step times of all phases of a kind together."""

    count: int
    p50_ms: float
    p99_ms: float

    @classmethod
    def of(cls, phases: Sequence[Sequence[float]]) -> Steps:
        all_ms = [1000 * took_s for phase in phases for took_s in phase]
        return cls(len(all_ms), statistics.median(all_ms), statistics.quantiles(all_ms, n=100)[98])


@dataclass(frozen=True)
class Slowdown:
    """Of one tool: how long steps take while it watches, and while it is paused."""

    ratios: list[float]  # of the median steps of two neighbouring phases, watched ÷ paused
    watched: Steps
    paused: Steps


def steps_watched(bench: Bench, stub: NvmlStub, used: Sequence[Tool]) -> Table:
    """What each tool adds to the steps of a training that takes all cores."""
    pairs, phase_s = (1, 3.0) if bench.quick else (15, 0.75)
    found = {tool.name: _slowdown(tool, bench, stub, pairs, phase_s) for tool in used}
    return Table(
        title="A training's steps",
        how="A small Llama on all cores, wrapped with 8 stand-in A100s. The watcher's processes "
        f"are stopped and continued every {phase_s:g} s beside the same training, {pairs} times. "
        "The slow-down compares the median steps of neighbouring phases: median (middle half). "
        "p50 and p99 are of all steps while the watcher runs → while it stands.",
        columns=["", *found],
        rows=[
            ["slow-down", *(_middle_half(one.ratios) for one in found.values())],
            ["p50, ms", *(_both(one, "p50_ms") for one in found.values())],
            ["p99, ms", *(_both(one, "p99_ms") for one in found.values())],
        ],
        raw={name: asdict(one) for name, one in found.items()},
    )


def _middle_half(ratios: Sequence[float]) -> str:
    if len(ratios) == 1:
        return f"{ratios[0]:.3f}"
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.3f} ({low:.3f}–{high:.3f})"


def _both(one: Slowdown, field: str) -> str:
    return f"{getattr(one.watched, field):.1f} → {getattr(one.paused, field):.1f}"


def _slowdown(tool: Tool, bench: Bench, stub: NvmlStub, pairs: int, phase_s: float) -> Slowdown:
    folder = bench.folder / f"steps-{tool.name}"
    folder.mkdir()
    env = {**tool.environ(stub.start(8).env, folder), "PYTHONPATH": str(_ROOT)}
    job = [sys.executable, "-m", "benchmarks.step_job"]
    process = subprocess.Popen(
        tool.argv(folder, job),
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    pids = watchers(process.pid, without=_job_pid(folder / "pid"))
    steps = folder / "steps"
    took_s = [
        _phase(pids, at_work, phase_s, steps) for _ in range(pairs) for at_work in (True, False)
    ]
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    (folder / "stop").touch()
    process.wait()
    watched, paused = took_s[::2], took_s[1::2]
    return Slowdown(
        [statistics.median(w) / statistics.median(p) for w, p in zip(watched, paused, strict=True)],
        Steps.of(watched),
        Steps.of(paused),
    )


def _phase(pids: Sequence[int], at_work: bool, seconds: float, steps: Path) -> list[float]:
    """How long the steps took that began and ended in this phase, in s."""
    for pid in pids:
        os.kill(pid, signal.SIGCONT if at_work else signal.SIGSTOP)
    began_s = time.monotonic()
    time.sleep(seconds)
    while len(took_s := _steps_since(steps, began_s)) < _LEAST_STEPS:
        if time.monotonic() > began_s + _PHASE_S:
            raise TimeoutError("the training makes no steps")
        time.sleep(0.05)
    return took_s


def _steps_since(path: Path, began_s: float) -> list[float]:
    whole, _, _ = path.read_text().rpartition("\n")
    times_s = (map(float, line.split()) for line in whole.splitlines())
    return [end_s - begin_s for begin_s, end_s in times_s if begin_s >= began_s]


def _job_pid(path: Path) -> int:
    give_up_s = time.monotonic() + _START_S
    while not (path.exists() and path.read_text()):
        if time.monotonic() > give_up_s:
            raise TimeoutError("the training did not start")
        time.sleep(0.05)
    return int(path.read_text())
