"""A job of three nodes and two attempts, of which a node dies: the table is the devices' truth,
but for the last moments of the recorder that was killed.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from carbontrack.units import monotonic_ns
from tests.fixtures.nodes import Node, slurm
from tests.fixtures.nvml import NvmlStub, StubNode, Wave
from tests.fixtures.wrap import Held, Wrapper, stop, wait_until

_GPUS = 2  # of each node
_KILLED_LOSES_S = 2.0  # of the energy of its devices
_RECORDED = """
select restart, recordings.host, uuid, sum(energy_j), sum(energy_s), count(*),
       min(start_ms), max(start_ms + 1000), started_ms, ended_ms
from recordings join sensors on sensors.recording_key = recordings.key
join devices on devices.key = device_key
join windows on windows.recording_key = recordings.key and sensor_key = sensors.key and level = 1
group by recordings.key, sensors.key
"""


def gpus_of(number: int, nvml_stub: NvmlStub) -> StubNode:
    """The GPUs of a node, each with a power of its own that never changes."""
    waves = [
        Wave("constant", mean_w=200.0 + 100 * number + 10 * gpu, amplitude_w=0.0, period_s=1.0)
        for gpu in range(_GPUS)
    ]
    uuids = {f"d{gpu}_uuid": f"GPU-{number}-{gpu}" for gpu in range(_GPUS)}
    return nvml_stub.start(waves=waves, **uuids)


def start(wrapper: Wrapper, node: Node, gpus: StubNode, rank: int, restart: int) -> Held:
    scheduled = slurm(rank, nodes=3, SLURM_RESTART_COUNT=str(restart))
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        node.argv(*wrapper.argv("sh", "-c", 'read line; exit "$line"')),
        env={**wrapper.env, **gpus.env, **scheduled, "CARBONTRACK_DB": str(wrapper.ledger)},
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
    )
    return Held(wrapper, process)


def end(held: Held, code: int) -> None:
    assert held.process.stdin is not None
    held.process.stdin.write(f"{code}\n")
    assert held.end().returncode == code, held.said


def kill_node(held: Held, wrapper: Wrapper, node: Node) -> int:
    """Stop all its processes at once, as when it loses its power; when that was, in ms.

    On a busy machine its recorder may be behind; then it has lost more than it may for that reason
    alone, and goes on until it is not.
    """
    pid = held.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    processes = [*map(int, children), pid]

    def stopped_ms() -> int | None:
        stop(*processes)
        now_ms = wrapper.clock.wall_ms(monotonic_ns())
        newest_ms = [one[7] for one in recorded(wrapper) if one[1] == node.name]
        if now_ms - min(newest_ms) < 1000 * _KILLED_LOSES_S:
            return now_ms
        for one in processes:
            os.kill(one, signal.SIGCONT)
        return None

    killed_ms: int = wait_until(stopped_ms)
    for one in processes:
        os.kill(one, signal.SIGKILL)
    held.end()
    return killed_ms


def recorded(wrapper: Wrapper) -> list[tuple[int, str, str, float, float, int, int, int, int, int]]:
    """What each recording has of each device; see `_RECORDED`."""
    try:
        with closing(sqlite3.connect(f"file:{wrapper.ledger}?mode=ro", uri=True)) as ledger:
            return ledger.execute(_RECORDED).fetchall()
    except sqlite3.OperationalError:  # it is just being made, or is not there
        return []


def test_a_job_whose_node_dies_is_counted_to_the_last_second_recorded(
    wrapper: Wrapper, nodes: Sequence[Node], nvml_stub: NvmlStub
) -> None:
    wrapper.meter = "nvml"
    gpus = [gpus_of(number, nvml_stub) for number in range(3)]
    mean_w = {
        f"GPU-{number}-{gpu}": gpus[number].waves[gpu].mean_w
        for number in range(3)
        for gpu in range(_GPUS)
    }
    for restart in (0, 1):
        ranks = [start(wrapper, node, gpus[rank], rank, restart) for rank, node in enumerate(nodes)]

        def all_recorded(restart: int = restart) -> bool:
            counts = [one[5] for one in recorded(wrapper) if one[0] == restart]
            return len(counts) == 3 * _GPUS and min(counts) >= 4

        wait_until(all_recorded)
        if restart == 0:
            killed_ms = kill_node(ranks.pop(1), wrapper, nodes[1])
        for held in ranks:
            end(held, 143 if restart == 0 else 0)
    # What finds the ledger locked for long is written by the next.
    wait_until(lambda: sum(one[9] is not None for one in recorded(wrapper)) == 5 * _GPUS)
    rows = recorded(wrapper)
    true_j = killed_w = 0.0
    for restart, host, uuid, energy_j, energy_s, _, from_ms, to_ms, started_ms, ended_ms in rows:
        assert (ended_ms is None) == ((restart, host) == (0, nodes[1].name))
        until_ms = to_ms if ended_ms is None else ended_ms
        # What each has is what its device used, as long as the energy accounts for.
        assert energy_j == pytest.approx(mean_w[uuid] * energy_s, rel=1e-3), (restart, uuid)
        assert energy_s <= (until_ms - started_ms) / 1000 + 0.01
        assert from_ms >= started_ms // 1000 * 1000
        lasted_ms = (killed_ms if ended_ms is None else ended_ms) - started_ms
        if from_ms > started_ms:  # it began too late for what was before to be filled in
            lasted_ms = 1000 * energy_s + (killed_ms - to_ms if ended_ms is None else 0)
        true_j += mean_w[uuid] * lasted_ms / 1000
        killed_w += mean_w[uuid] if ended_ms is None else 0.0

    # The recorder that was killed is taken for a running one until its heartbeat is old.
    wait_until(lambda: wrapper.json("runs")["runs"][0]["status"] != "running")
    (run,) = wrapper.json("runs")["runs"]
    assert (run["status"], run["exit_code"], run["devices"]) == ("completed", 0, 3 * _GPUS)
    by = {key: wrapper.json("table", "--by", key)["rows"] for key in ("attempt", "host")}
    assert [row["label"] for row in by["attempt"]] == ["1", "2"]
    for rows_by in by.values():
        energies = [row["energy_kwh"] for row in rows_by]
        assert sum(energies) == pytest.approx(run["energy_kwh"], rel=1e-9)
    lost_j = true_j - run["energy_kwh"] * 3.6e6
    # What the devices used, but for the sensors' own 0.1 %.
    assert -1e-3 * true_j <= lost_j <= _KILLED_LOSES_S * killed_w + 1e-3 * true_j
    shown = wrapper.json("show", run["id"])
    assert [one["status"] for one in shown["attempts"]] == ["failed", "completed"]
    assert all(one["nodes"] == [node.name for node in nodes] for one in shown["attempts"])
    assert "3 of 3 nodes here" in wrapper.ask("show", run["id"]).stdout
