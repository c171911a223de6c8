"""How much work do kills cost? A training is killed again and again, and resumes."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.answer import Bench
from benchmarks.table import Table
from tests.fixtures.nvml import NvmlStub, StubNode, build_stub
from tests.fixtures.wrap import Wrapper

_SEED = 23
_RUNS = 4  # beside each other, each with its own node
_DEVICES = 8
_CHECKPOINT = 30  # steps
# Resumes from its checkpoint and ends after so many seconds, in the middle of a step; says when its
# last kept step was logged and when it ended, by the monotonic clock.
_JOB = f"""
import os, sys, time, carbontrack
folder, life_s = sys.argv[1], float(sys.argv[2])
began = time.monotonic()
path = folder + "/checkpoint"
kept = int(open(path).read()) if os.path.exists(path) else 0
step, at = kept, {{}}
while True:
    left = began + life_s - time.monotonic()
    time.sleep(max(0.0, min(left, 0.1)))
    if left <= 0.1 and step > kept: break
    step += 1
    at[step] = time.monotonic_ns()
    carbontrack.log_step(step, loss=1 / step)
    if step % {_CHECKPOINT} == 0: open(path, "w").write(str(step))
kept_now = int(open(path).read()) if os.path.exists(path) else 0
print(at.get(kept_now, round(began * 1e9)), time.monotonic_ns(), flush=True)
os.kill(os.getpid(), 9)
"""


@dataclass(frozen=True)
class Lost:
    """One run: energy in J that its killed attempts lost, in truth and as the ledger has it."""

    kills: int
    true_j: float
    told_j: float
    energy_j: float
    attempts: int

    @property
    def error(self) -> float:
        return self.told_j / self.true_j - 1


def ask(bench: Bench) -> list[Table]:
    """Half of the runs are requeued under a new wrapper, half restarted under the same."""
    runs, kills, slower = (2, 1, 0.3) if bench.quick else (_RUNS, 25, 1.0)
    stub = NvmlStub(build_stub(), bench.folder)
    dice = random.Random(_SEED)
    lives = [[slower * dice.uniform(5, 11) for _ in range(kills)] for _ in range(runs)]
    with ThreadPoolExecutor(runs) as pool:
        jobs = [
            pool.submit(
                _run, bench.folder / f"run-{n}", stub.start(_DEVICES), lives[n], requeued=n % 2 == 0
            )
            for n in range(runs)
        ]
    found = [job.result() for job in jobs]
    true_j, told_j = (sum(getattr(one, name) for one in found) for name in ("true_j", "told_j"))
    return [
        Table(
            title="Lost work of killed attempts",
            how=f"{runs} trainings on {_DEVICES} stand-in A100s each, a checkpoint every "
            f"{_CHECKPOINT} steps of 0.1 s, killed after {5 * slower:g} to {11 * slower:g} s (seed "
            f"{_SEED}), resumed, half "
            "of them by the scheduler, half under the same wrapper. Truth: the stand-in's energy "
            "from the last kept step to the kill.",
            columns=["Kills", "Lost, truth", "Lost, ledger", "Difference of the sum", "of a run"],
            rows=[
                [
                    str(sum(one.kills for one in found)),
                    f"{true_j:,.0f} J",
                    f"{told_j:,.0f} J",
                    f"{100 * (told_j / true_j - 1):+.2f} %",
                    ", ".join(f"{100 * one.error:+.2f} %" for one in found),
                ]
            ],
            raw=[asdict(one) for one in found],
        )
    ]


def _run(folder: Path, node: StubNode, lives: list[float], *, requeued: bool) -> Lost:
    folder.mkdir()
    wrapper = Wrapper(folder, meter="nvml", environ=node.env)
    job = [sys.executable, "-c", _JOB, str(folder)]
    options = ("--quiet", "--name", "training")
    said = ""
    # The whole machine knows a run by it: another measurement has another.
    env = {**wrapper.env, "CARBONTRACK_RUN_ID": str(folder)}
    if requeued:
        for restart, life_s in enumerate([*lives, 1.0]):
            count = {"SLURM_JOB_ID": "1", "SLURM_RESTART_COUNT": str(restart)}
            argv = wrapper.argv(*job, str(life_s), options=options)
            done = subprocess.run(
                argv, env=env | count, capture_output=True, text=True, check=False
            )
            said += done.stdout
    else:
        script = 'for life in $LIVES; do "$@" $life; done; true'
        lifes = {"LIVES": " ".join(map(str, [*lives, 1.0]))}
        argv = wrapper.argv("sh", "-c", script, "sh", *job, options=options)
        said = _output(argv, env | lifes)
    marks = [tuple(map(int, line.split())) for line in said.splitlines()][: len(lives)]
    true_j = sum(
        node.true_energy_j(device, kept_ns, killed_ns)
        for kept_ns, killed_ns in marks
        for device in range(_DEVICES)
    )
    run = json.loads(wrapper.carbontrack("show", "training", "--format", "json").stdout)
    lost = [one["lost_kwh"] for one in run["attempts"] if one["lost_kwh"] is not None]
    return Lost(
        kills=len(marks),
        true_j=true_j,
        told_j=sum(lost) * 3.6e6,
        energy_j=run["energy_kwh"] * 3.6e6,
        attempts=len(run["attempts"]),
    )


def _output(argv: list[str], env: dict[str, str]) -> str:
    out, err = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.run(argv, env=env, stdout=out, stderr=err, text=True, check=False).stdout
