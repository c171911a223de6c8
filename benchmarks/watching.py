"""What does watching cost? A job's start, end and steps, the watcher's CPU and memory."""

from __future__ import annotations

import json
import subprocess
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.answer import Bench, Table, spread
from benchmarks.pausing import steps_watched
from benchmarks.processes import cpu_s, peak_mib, watchers
from benchmarks.tools import Tool, tools
from benchmarks.wrapped import Wrapped, finish, start
from carbontrack.units import NS_PER_MS, NS_PER_S, monotonic_ns
from tests.fixtures.nvml import NvmlStub, build_stub


def ask(bench: Bench) -> list[Table]:
    """Start and end of a short job; a longer watch; what is installed; a training's steps."""
    stub = NvmlStub(build_stub(), bench.folder)
    used = tools(bench.peers)
    return [
        _short(bench, stub, used),
        _long(bench, stub, used),
        _installed(used),
        steps_watched(bench, stub, used),
    ]


def _short(bench: Bench, stub: NvmlStub, used: Sequence[Tool]) -> Table:
    rounds = 2 if bench.quick else 10
    node = stub.start(8)
    before, after = defaultdict(list), defaultdict(list)
    folders = {tool.name: bench.folder / f"short-{tool.name}" for tool in used}
    for folder in folders.values():
        folder.mkdir()
    for number in range(rounds + 1):
        for tool in used:
            folder = folders[tool.name]
            began_s, job, ended_s = _timed(tool, folder, tool.environ(node.env, folder))
            if number > 0:  # the first one fills the caches, and makes the ledger
                before[tool.name].append(1000 * (job - began_s))
                after[tool.name].append(1000 * (ended_s - job))
    return Table(
        title="A job that ends at once",
        how=f"8 stand-in A100s; {rounds} rounds, the tools in turn; median (range). `to its start` "
        "is from typing the command to the job's first instruction, `after its end` until the "
        "prompt is back, with the tool's summary. carbontrack starts the job first and its meters "
        "beside it, so here it is still starting when the job has ended.",
        columns=["", *(tool.name for tool in used)],
        rows=[
            ["to its start, ms", *(spread(before[tool.name], "{:.0f}") for tool in used)],
            ["after its end, ms", *(spread(after[tool.name], "{:.0f}") for tool in used)],
        ],
        raw={"before_ms": before, "after_ms": after},
    )


def _timed(tool: Tool, folder: Path, env: dict[str, str]) -> tuple[float, float, float]:
    """When the command was typed, the job ran and the prompt was back, in s."""
    argv = tool.argv(folder, ["bash", "-c", "echo $EPOCHREALTIME > mark"])
    began_s = time.time()
    subprocess.run(argv, cwd=folder, env=env, capture_output=True, check=True)
    ended_s = time.time()
    return began_s, float((folder / "mark").read_text()), ended_s


@dataclass(frozen=True)
class Watch:
    """A watcher's processes over a while, without the job's."""

    cpu_share: float  # of one core
    memory_mib: float  # sum of the peaks (VmHWM) of its processes
    after_ms: float  # from the end of the job to that of the tool


def _long(bench: Bench, stub: NvmlStub, used: Sequence[Tool]) -> Table:
    seconds = 4.0 if bench.quick else 40.0
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
            ["after the job's end, ms", *(f"{w.after_ms:.0f}" for w in found.values())],
        ],
        raw={name: asdict(watch) for name, watch in found.items()},
    )


def _watch(job: Wrapped, seconds: float) -> Watch:
    def at(share: float) -> tuple[float, float, float]:
        due_s = job.began_ns / NS_PER_S + share * seconds
        time.sleep(max(0.0, due_s - time.clock_gettime(time.CLOCK_BOOTTIME)))
        pids = watchers(job.process.pid, without=job.job_pid)
        return time.monotonic(), sum(map(cpu_s, pids)), sum(map(peak_mib, pids))

    began_s, began_cpu_s, _ = at(0.25)
    ended_s, ended_cpu_s, memory_mib = at(0.95)
    job.process.wait()
    after_ms = (monotonic_ns() - job.ended_ns) / NS_PER_MS
    return Watch((ended_cpu_s - began_cpu_s) / (ended_s - began_s), memory_mib, after_ms)


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
    return Table(
        title="What is installed",
        how="The package with all that it requires, without extras. carbontrack's are mostly "
        "pandas and matplotlib, which its recorder does not import; as an editable checkout it "
        "does not count itself.",
        columns=["", *sizes],
        rows=[
            ["packages", *(str(len(found)) for found in sizes.values())],
            ["size, MB", *(f"{sum(found.values()) / 1e6:.0f}" for found in sizes.values())],
        ],
        raw=sizes,
    )
