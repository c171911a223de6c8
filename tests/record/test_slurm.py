"""The batch script of docs/slurm.md: three nodes, a node that dies, a preemption, and a requeue."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.nodes import Node, slurm
from tests.fixtures.wrap import CARBONTRACK, PATIENCE_S, Wrapper, stop, wait_until

ROOT = Path(__file__).parents[2]
# Trains to the step at which it is held, or to the end; USR1 makes it write a checkpoint and end.
TRAIN = """
import os, signal, sys, time, carbontrack
node, folder = os.environ["SLURM_NODEID"], sys.argv[1]
def checkpoint(*_):
    if node == "0": open(f"{folder}/checkpoint", "w").write("6")
    os._exit(0)
signal.signal(signal.SIGUSR1, checkpoint)
resumed = os.path.exists(f"{folder}/checkpoint")
for step in range(7, 13) if resumed else range(1, 10):
    if node == "0": carbontrack.log_step(step, loss=1 / step, tokens=8)
    time.sleep(0.05)
if not resumed:
    while True: time.sleep(1)
while not os.path.exists(f"{folder}/go"): time.sleep(0.05)
"""


def script(folder: Path) -> Path:
    (found,) = re.findall(r"```bash\n(.*?)```", (ROOT / "docs/slurm.md").read_text(), re.DOTALL)
    path = folder / "job.sbatch"
    path.write_text(found)
    return path


def stand_ins(folder: Path, wrapper: Wrapper) -> Path:
    """What the script calls: srun, scontrol, carbontrack with simulated GPUs, and its own files."""
    python, carbontrack = shlex.quote(sys.executable), shlex.join(CARBONTRACK)
    programs = {
        "bin/srun": f'PYTHONPATH={ROOT} exec {python} -m tests.fixtures.srun "$@"',
        "bin/scontrol": f'echo "$@" >> {folder}/requeued',
        "bin/carbontrack": f'shift; exec {carbontrack} run --quiet --meter sim:a100x2 "$@"',
        "prepare.sh": "exit 0",
        "train.sh": f"exec {python} {folder}/train.py {folder}",
    }
    (folder / "train.py").write_text(TRAIN)
    (folder / "bin").mkdir()
    for name, code in programs.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{code}\n")
        path.chmod(0o755)
    return folder / "bin"


def run_of(wrapper: Wrapper) -> dict[str, Any]:
    found: dict[str, Any] = wrapper.json("show", "llama2-7b")
    return found


def rows(ledger: Path, query: str) -> list[Any]:
    try:
        with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as connection:
            return connection.execute(query).fetchall()
    except sqlite3.OperationalError:  # it is just being made, or is not there
        return []


RECORDED = """
select count(*) from recordings join runs on runs.key = recordings.run_key
where runs.name = 'llama2-7b' and recordings.restart = {restart}
and (select count(*) from windows where recording_key = recordings.key and level = 1) >= 4
"""


@pytest.fixture
def cluster(wrapper: Wrapper, nodes: Sequence[Node], tmp_path: Path) -> dict[str, str]:
    for node in nodes:
        node.argv()
    path = f"{stand_ins(tmp_path, wrapper)}:{os.environ['PATH']}"
    return {
        **wrapper.env,
        "PATH": path,
        "STAND_IN_NODES": str(tmp_path),
        "ENVIRONMENT": "BATCH",
        "SLURM_JOB_ID": slurm()["SLURM_JOB_ID"],
        "SLURM_CLUSTER_NAME": "alps",
        "SLURM_JOB_NODELIST": "nid[001-003]",
        "SLURM_NNODES": "3",
    }


def test_the_batch_script_of_the_document(
    wrapper: Wrapper, cluster: dict[str, str], tmp_path: Path
) -> None:
    def start(restart: int) -> subprocess.Popen[str]:
        count = {"SLURM_RESTART_COUNT": str(restart)} if restart else {}
        job = ["bash", str(script(tmp_path))]
        return subprocess.Popen(
            job, cwd=tmp_path, env={**cluster, **count}, stderr=subprocess.PIPE, text=True
        )

    def recorded(restart: int, nodes: int) -> bool:
        return rows(wrapper.ledger, RECORDED.format(restart=restart)) == [(nodes,)]

    first = start(0)
    wait_until(lambda: recorded(0, 3))
    kill_node("SLURM_NODEID=2", f"STAND_IN_NODES={tmp_path}")
    first.send_signal(signal.SIGUSR1)
    _, said = first.communicate(timeout=PATIENCE_S)
    assert (tmp_path / "requeued").read_text() == f"requeue {cluster['SLURM_JOB_ID']}\n", said

    second = start(1)
    wait_until(lambda: recorded(1, 3))
    (tmp_path / "go").touch()
    _, said = second.communicate(timeout=PATIENCE_S)
    # An end that finds the ledger locked for long is kept beside it, and written a little later.
    others = [line for line in said.splitlines() if "measurements are in" not in line]
    assert (second.returncode, others) == (0, [])

    # The dead node is known by its heartbeat.
    wait_until(lambda: run_of(wrapper)["attempts"][0]["status"] != "running")
    wait_until(lambda: run_of(wrapper)["status"] != "running")
    run = run_of(wrapper)
    assert [one["status"] for one in run["attempts"]] == ["interrupted", "completed"]
    assert (run["status"], run["exit_code"], run["steps"]) == ("completed", 0, 12)
    assert (run["scheduler"], run["job_id"]) == ("slurm", cluster["SLURM_JOB_ID"])
    assert run["nodes_expected"] == 3
    one, two = run["attempts"]
    hosts = ["nid001", "nid002", "nid003"]
    assert (one["nodes"], two["nodes"]) == (hosts, hosts)
    assert one["energy_kwh"] + two["energy_kwh"] == pytest.approx(run["energy_kwh"], rel=1e-9)
    assert 0 < one["lost_kwh"] < one["energy_kwh"]
    assert two["lost_kwh"] is None
    runs = wrapper.json("runs")["runs"]
    assert sorted(run["name"] for run in runs) == ["llama2-7b", "prepare"]
    (prepare,) = (run["id"] for run in runs if run["name"] == "prepare")
    assert wrapper.json("show", prepare)["nodes_expected"] == 1


def kill_node(*marks: str) -> None:
    """Kill all processes that have these in their environment, all at once as a power cut would."""
    wanted = {mark.encode() for mark in marks}
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            if wanted <= set((entry / "environ").read_bytes().split(b"\0")):
                found.append(int(entry.name))
    stop(*found)
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_torchrun_that_restarts_a_worker_is_two_attempts(wrapper: Wrapper, tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text("""
import os, time, carbontrack
again = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
for step in range(3, 7) if again else range(1, 5):
    carbontrack.log_step(step, loss=1 / step)
    time.sleep(0.4)
if not again: os.kill(os.getpid(), 9)
""")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--max-restarts=1"]
    done = wrapper.run(*launcher, "--nproc-per-node=1", str(worker))
    assert done.returncode == 0, done.stderr
    run = wrapper.json("show")
    first, second = run["attempts"]
    assert (run["steps"], run["status"]) == (6, "completed")
    assert (first["status"], second["status"]) == ("interrupted", "completed")
    assert first["energy_kwh"] + second["energy_kwh"] == pytest.approx(run["energy_kwh"], rel=1e-9)
    # Of steps 3 and 4, 0.4 s each, and torchrun's noticing.
    assert first["lost_kwh"] > 0
    assert second["lost_kwh"] is None
    (event,) = (event for event in run["events"] if event["kind"] == "restarted")
    assert event["data"] == {"restart": 1, "step": 3}
