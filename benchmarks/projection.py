"""How good is a projection? The second half of a run, foretold from its first tenth."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import replay_job
from benchmarks.answer import Bench
from benchmarks.table import Table
from benchmarks.tools import tools
from carbontrack.units import J_PER_KWH, NS_PER_S, monotonic_ns
from tests.fixtures.nvml import NvmlStub, StubNode, Wave, build_stub

_PERIODS_S = (0.13, 2.7, 17.0)
_HALF = replay_job.STEPS // 2
_TENTH = replay_job.STEPS // 10
_PUE = 1.58  # which carbontracker multiplies into what it predicts and calls actual


@dataclass(frozen=True)
class Foretold:
    """Energy of the second half: what was foretold after a tenth, and the truth."""

    tool: str
    period_s: float
    foretold_j: float | None
    true_j: float

    @property
    def cell(self) -> str:
        if self.foretold_j is None:
            return "nothing foretold"
        return f"{100 * (self.foretold_j / self.true_j - 1):+.1f} %"


def ask(bench: Bench) -> list[Table]:
    """`carbontrack project` while the run goes on, and carbontracker's prediction."""
    seconds = 12.0 if bench.quick else 90.0
    stub = NvmlStub(build_stub(), bench.folder)
    found: list[Foretold] = []
    with ThreadPoolExecutor(2 * len(_PERIODS_S)) as pool:
        looks = []
        for period_s in _PERIODS_S[: 1 if bench.quick else None]:
            for name in [tool.name for tool in tools(bench.peers)]:
                look = {"carbontrack": _ours, "carbontracker": _theirs}.get(name)
                if look is not None:
                    wave = Wave("square", 300.0, 100.0, period_s)
                    folder = bench.folder / f"{name}-{period_s}"
                    folder.mkdir()
                    node = stub.start(1, "a100", waves=[wave])
                    looks.append(pool.submit(look, bench, node, folder, seconds))
                    time.sleep(0 if bench.quick else 3)
    found = [look.result() for look in looks]
    return [_table(found, seconds)]


def _table(found: Sequence[Foretold], seconds: float) -> Table:
    names = list(dict.fromkeys(one.tool for one in found))
    cells = {(one.period_s, one.tool): one.cell for one in found}
    return Table(
        title="Energy of the second half, foretold after a tenth of the steps",
        how=f"A replayed training of {seconds:g} s on one stand-in A100 (one, for carbontracker "
        f"takes the mean over all): {replay_job.STEPS} steps, the first {replay_job.WARM_UP} "
        f"three times as long, and a stall of ten steps' length every {replay_job.STALL_EVERY}. "
        "carbontrack foretells the steady state: the stalls, a tenth of the truth, are not in it. "
        "A tenth of the run is half of the longest wave, so no tool can know its mean by then. "
        "carbontracker foretells ten epochs from the first; its PUE is taken out, and half of it "
        "is the second half. CodeCarbon and Zeus foretell nothing.",
        columns=["Power, ±100 W", *names],
        rows=[
            [f"wave of {period_s:g} s", *(cells[period_s, name] for name in names)]
            for period_s in dict.fromkeys(one.period_s for one in found)
        ],
        raw=[asdict(one) for one in found],
    )


def _ours(bench: Bench, node: StubNode, folder: Path, seconds: float) -> Foretold:
    env = {**node.env, "CARBONTRACK_DB": str(folder / "ledger.db"), "XDG_RUNTIME_DIR": str(folder)}
    carbontrack = [sys.executable, "-m", "carbontrack"]
    job = [sys.executable, replay_job.__file__, str(seconds)]
    process = subprocess.Popen(
        [*carbontrack, "run", "--quiet", "--", *job],
        cwd=folder,
        env={**env, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    tokens = (replay_job.STEPS - _HALF) * replay_job.TOKENS
    ask_for = [*carbontrack, "project", "last", "--tokens", str(tokens), "--format", "json"]
    told_j = None
    while told_j is None and process.poll() is None:
        time.sleep(0.5)
        show = subprocess.run(
            [*carbontrack, "show", "--format", "json"], env=env, capture_output=True, text=True
        )
        if show.returncode == 0 and (json.loads(show.stdout)["steps"] or 0) >= _TENTH:
            done = subprocess.run(ask_for, env=env, capture_output=True, text=True, check=True)
            told_j = json.loads(done.stdout)["projected"]["energy_kwh"] * J_PER_KWH
    process.wait()
    return Foretold("carbontrack", node.waves[0].period_s, told_j, _second_half_j(node, folder))


def _theirs(bench: Bench, node: StubNode, folder: Path, seconds: float) -> Foretold:
    assert bench.peers is not None
    python = str(bench.peers / "bin" / "python")
    done = subprocess.run(
        [python, replay_job.__file__, str(seconds), "foretold"],
        cwd=folder,
        env=node.env,
        capture_output=True,
        text=True,
    )
    said = re.search(r"Predicted consumption.*?Energy:\s*([0-9.]+) kWh", done.stdout, re.DOTALL)
    told_j = float(said[1]) * J_PER_KWH / _PUE / 2 if said else None
    return Foretold("carbontracker", node.waves[0].period_s, told_j, _second_half_j(node, folder))


def _second_half_j(node: StubNode, folder: Path) -> float:
    marks_s = json.loads((folder / "steps.json").read_text())
    offset_ns = time.time_ns() - monotonic_ns()
    from_ns, to_ns = (int(marks_s[at] * NS_PER_S) - offset_ns for at in (_HALF, -1))
    return node.true_energy_j(0, from_ns, to_ns)
