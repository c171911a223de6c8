"""What does watching cost? A job's start, end and steps, the watcher's CPU and memory."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.answer import Bench
from benchmarks.floors import floors, start_polling
from benchmarks.pausing import steps_watched
from benchmarks.processes import (
    adopt_orphans,
    children_of,
    cpu_s,
    peak_mib,
    wait_for_orphans,
    watchers,
)
from benchmarks.table import Table, spread
from benchmarks.tools import Tool, tools
from benchmarks.wrapped import Wrapped, finish, start
from carbontrack.units import NS_PER_MS, NS_PER_S, monotonic_ns
from tests.fixtures.nvml import NvmlStub, build_stub

_ROOT = Path(__file__).parents[1]
_OURS = ("carbontrack", "dashboards", "llama_train")


def ask(bench: Bench) -> list[Table]:
    """Start and end of a short job; a longer watch; what is installed; a training's steps."""
    stub = NvmlStub(build_stub(), bench.folder)
    used = tools(bench.peers)
    seconds = 4.0 if bench.quick else 40.0
    short = _short(bench, stub, used)
    polling = start_polling(stub, seconds)
    return [
        short,
        _long(bench, stub, used, seconds),
        floors(bench, polling),
        _installed(used),
        steps_watched(bench, stub, used),
    ]


@dataclass(frozen=True)
class Short:
    """A job that ends at once, and what it cost to watch it."""

    before_ms: float  # from typing the command to the job's first instruction
    after_ms: float  # from there until the prompt is back
    cpu_ms: float  # of all the tool's processes, until the last has ended; the job's is 1 ms


def _short(bench: Bench, stub: NvmlStub, used: Sequence[Tool]) -> Table:
    rounds = 2 if bench.quick else 6
    node = stub.start(8)
    folders = {tool.name: bench.folder / f"short-{tool.name}" for tool in used}
    found: dict[str, list[Short]] = {tool.name: [] for tool in used}
    for folder in folders.values():
        folder.mkdir()
    for number in range(rounds + 1):
        for tool in used:
            folder = folders[tool.name]
            one = _timed(tool, folder, tool.environ(node.env, folder))
            if number > 0:  # the first one fills the caches, and makes the ledger
                found[tool.name].append(one)
    lines = {
        "to its start, ms": "before_ms",
        "after its end, ms": "after_ms",
        "CPU of the tool, ms": "cpu_ms",
    }
    raw: dict[str, Any] = {
        field: {name: [getattr(one, field) for one in shorts] for name, shorts in found.items()}
        for field in lines.values()
    }
    raw["memory_mib"] = {
        tool.name: _memory_mib(tool, folders[tool.name], tool.environ(node.env, folders[tool.name]))
        for tool in used
    }
    return Table(
        title="A job that ends at once",
        how=f"8 stand-in A100s; {rounds} rounds, the tools in turn; median (range). `to its start` "
        "is from typing the command to the job's first instruction, `after its end` until the "
        "prompt is back, with the tool's summary. carbontrack starts the job first and its meters "
        "beside it, so here it is still starting when the job has ended; the CPU includes what it "
        "tidies after that. Peak memory is the sum over the tool's processes, in a round of its "
        "own.",
        columns=["", *(tool.name for tool in used)],
        rows=[
            [line, *(spread(raw[field][tool.name], "{:.0f}") for tool in used)]
            for line, field in lines.items()
        ]
        + [["peak memory, MiB", *(f"{raw['memory_mib'][tool.name]:.0f}" for tool in used)]],
        raw=raw,
    )


def _timed(tool: Tool, folder: Path, env: dict[str, str]) -> Short:
    argv = tool.argv(folder, ["bash", "-c", "echo $EPOCHREALTIME > mark"])
    adopt_orphans()
    known = children_of(os.getpid())
    with (folder / "said").open("w") as said:
        began_s = time.time()
        process = subprocess.Popen(argv, cwd=folder, env=env, stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        ended_s = time.time()
    left_s = wait_for_orphans(known)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{tool.name}: {(folder / 'said').read_text()[-500:]}")
    job_s = float((folder / "mark").read_text())
    return Short(
        before_ms=1000 * (job_s - began_s),
        after_ms=1000 * (ended_s - job_s),
        cpu_ms=1000 * (used.ru_utime + used.ru_stime + left_s),
    )


def _memory_mib(tool: Tool, folder: Path, env: dict[str, str]) -> float:
    """Sum of the peaks of a short watch's processes. Not ru_maxrss, which a child inherits."""
    peaks_mib: dict[int, float] = {}
    words = tool.argv(folder, ["true"])
    with subprocess.Popen(
        words, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None:
            for pid in watchers(process.pid, without=0):
                with suppress(FileNotFoundError, ProcessLookupError, IndexError):
                    peaks_mib[pid] = peak_mib(pid)
            time.sleep(0.01)
    return sum(peaks_mib.values())


@dataclass(frozen=True)
class Watch:
    """A watcher's processes over a while, without the job's."""

    cpu_share: float  # of one core
    memory_mib: float  # sum of the peaks (VmHWM) of its processes
    largest_mib: float  # the peak of the largest of them
    after_ms: float  # from the end of the job to that of the tool


def _long(bench: Bench, stub: NvmlStub, used: Sequence[Tool], seconds: float) -> Table:
    with ThreadPoolExecutor(len(used)) as pool:
        jobs, watches = [], []
        for tool in used:
            jobs.append(start(tool, stub.start(8), bench.folder / f"long-{tool.name}", seconds))
            watches.append(pool.submit(_watch, jobs[-1], seconds))
    finish(jobs, 30)
    found = {job.tool.name: watch.result() for job, watch in zip(jobs, watches, strict=True)}
    return Table(
        title=f"A job of {seconds:g} s on 8 GPUs",
        how="CPU of the watcher's processes while the job sleeps, from a quarter of its time to "
        "its end; memory is the sum of the peaks of the watcher's processes.",
        columns=["", *found],
        rows=[
            ["CPU, % of one core", *(f"{100 * w.cpu_share:.2f}" for w in found.values())],
            ["peak memory, MiB", *(f"{w.memory_mib:.0f}" for w in found.values())],
            ["of its largest process, MiB", *(f"{w.largest_mib:.0f}" for w in found.values())],
            ["after the job's end, ms", *(f"{w.after_ms:.0f}" for w in found.values())],
        ],
        raw={name: asdict(watch) for name, watch in found.items()},
    )


def _watch(job: Wrapped, seconds: float) -> Watch:
    def at(share: float) -> tuple[float, float, list[float]]:
        due_s = job.began_ns / NS_PER_S + share * seconds
        time.sleep(max(0.0, due_s - time.clock_gettime(time.CLOCK_BOOTTIME)))
        pids = watchers(job.process.pid, without=job.job_pid)
        return time.monotonic(), sum(map(cpu_s, pids)), [peak_mib(pid) for pid in pids]

    began_s, began_cpu_s, _ = at(0.25)
    ended_s, ended_cpu_s, peaks_mib = at(0.95)
    job.process.wait()
    after_ms = (monotonic_ns() - job.ended_ns) / NS_PER_MS
    cpu_share = (ended_cpu_s - began_cpu_s) / (ended_s - began_s)
    return Watch(cpu_share, sum(peaks_mib), max(peaks_mib, default=0.0), after_ms)


_CLOSURE = """
import json, re, sys
from importlib import metadata
seen, todo = {}, [sys.argv[1]]
while todo:
    name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        continue
    if name in seen:
        continue
    files = [found.locate_file(file) for file in found.files or []]
    seen[name] = sum(file.stat().st_size for file in files if file.is_file())
    needs = [line for line in found.requires or [] if "extra ==" not in line]
    todo += [re.match(r"[A-Za-z0-9._-]+", line)[0] for line in needs]
print(json.dumps(seen))
"""


def _installed(used: Sequence[Tool]) -> Table:
    sizes = {}
    for tool in used:
        argv = [str(tool.python), "-c", _CLOSURE, tool.package]
        done = subprocess.run(argv, check=True, capture_output=True, text=True)
        sizes[tool.name] = json.loads(done.stdout)
    sizes["carbontrack"]["carbontrack"] = sum(
        path.stat().st_size for name in _OURS for path in (_ROOT / name).rglob("*.*")
    )
    return Table(
        title="What is installed",
        how="The package with all that it requires, without extras. carbontrack's are mostly "
        "pandas and matplotlib, which its recorder does not import.",
        columns=["", *sizes],
        rows=[
            ["packages", *(str(len(found)) for found in sizes.values())],
            ["size, MB", *(f"{sum(found.values()) / 1e6:.0f}" for found in sizes.values())],
        ],
        raw=sizes,
    )
