"""GPUs that a scheduler hides from the recorder of a node: each is recorded, and once."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from carbontrack.meters.base import Device
from carbontrack.record.claims import Claims
from carbontrack.vocabulary import DeviceKind, Quality
from tests.fixtures.nodes import slurm
from tests.fixtures.nvml import NvmlStub
from tests.fixtures.tools import OF_THE_MACHINE
from tests.fixtures.wrap import Held, Wrapper, processes_of, wait_until
from tests.record.test_truth import fast_waves

_APART = ["unshare", "--mount"]  # as a container: what it can open may be other devices


def start_rank(wrapper: Wrapper, rank: int, shown: str) -> Held:
    """A task of a step, from which all GPUs but `shown` are hidden; to CUDA its first is 0."""
    env = {**wrapper.env, **slurm(rank, local=rank)}
    env |= {"NVML_STUB_SHOWN": shown, "CUDA_VISIBLE_DEVICES": "0"}
    argv = [*_APART, *wrapper.argv("sh", "-c", "read line; exit $SLURM_PROCID")]
    pipe = subprocess.PIPE
    process = subprocess.Popen(argv, env=env, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    return Held(wrapper, process)


def sensors(wrapper: Wrapper) -> list[tuple[str, int]]:
    """(device, how many of its seconds) of each sensor in the ledger."""
    try:
        with closing(sqlite3.connect(f"file:{wrapper.ledger}?mode=ro", uri=True)) as ledger:
            return ledger.execute(
                "select uuid, count(start_ms) from sensors "
                "join devices on devices.key = device_key left join windows on level = 1 "
                "and sensor_key = sensors.key group by sensors.key order by uuid"
            ).fetchall()
    except sqlite3.OperationalError:  # it is just being made, or is not there
        return []


@pytest.fixture
def apart() -> None:
    if subprocess.run([*_APART, "true"], capture_output=True, check=False).returncode:
        pytest.skip(f"{OF_THE_MACHINE}: namespaces are not allowed")


@pytest.mark.usefixtures("apart")
def test_each_gpu_that_a_rank_alone_can_see_is_recorded_once(
    wrapper: Wrapper, nvml_stub: NvmlStub
) -> None:
    node = nvml_stub.start(waves=fast_waves(3))
    wrapper.meter = "nvml"
    wrapper.environ.update(node.env)
    shown = {0: "0", 1: "1", 2: "2", 3: "1"}  # two ranks share one
    ranks = {rank: start_rank(wrapper, rank, gpu) for rank, gpu in shown.items()}

    def all_recorded() -> bool:
        found = sensors(wrapper)
        return {uuid for uuid, _ in found} == set(node.uuids) and all(n >= 3 for _, n in found)

    wait_until(all_recorded)
    assert len(sensors(wrapper)) == 3
    codes = [ranks[rank].end().returncode for rank in (0, 3, 1, 2)]
    assert codes == [0, 3, 1, 2]
    wait_until(lambda: processes_of(wrapper.folder) == {})
    (run,) = wrapper.json("runs")["runs"]
    assert (run["status"], run["devices"]) == ("failed", 3)
    shown_run = wrapper.json("show", run["id"])
    assert [one["nodes"] for one in shown_run["attempts"]] == [[os.uname().nodename]]
    assert all(device["energy_kwh"] > 0 for device in shown_run["devices"])


@pytest.mark.usefixtures("apart")
def test_what_the_first_recorder_can_read_stays_with_it(
    wrapper: Wrapper, nvml_stub: NvmlStub
) -> None:
    node = nvml_stub.start(waves=fast_waves(2))
    wrapper.meter = "nvml"
    wrapper.environ.update(node.env)
    first = start_rank(wrapper, 0, "0,1")
    first.until_recorded()
    second = start_rank(wrapper, 1, "0,1")

    def has_looked() -> bool:
        """Whether a recorder of its own has ended, for it had nothing to record."""
        pid = second.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        states = [Path(f"/proc/{child}/stat").read_text().rpartition(")")[2] for child in children]
        return any(state.split()[0] == "Z" for state in states)

    wait_until(has_looked)
    for held in (first, second):
        held.end()
    wait_until(lambda: processes_of(wrapper.folder) == {})
    assert [uuid for uuid, _ in sensors(wrapper)] == node.uuids[:1]


class Read:
    """A device that is read."""

    def __init__(self, uuid: str, kind: DeviceKind = DeviceKind.GPU) -> None:
        self.device = Device(uuid, kind, uuid, "nvml", Quality.COUNTER, "energy", "gpu")


def test_one_recorder_of_a_run_has_a_device() -> None:
    run = f"run {os.getpid()}"  # the whole machine knows it
    first, second, other = Claims(run), Claims(run), Claims(f"another {run}")
    gpus = [Read("GPU-0"), Read("GPU-1"), Read("CPU-0", DeviceKind.CPU)]
    first.take_first(gpus[:1])  # type: ignore[arg-type]
    assert second.take_hidden(gpus, lambda: False) == gpus[1:2]  # type: ignore[arg-type]
    assert not first.take("GPU-1")
    assert other.take("GPU-0")
    first.release()
    assert second.take("GPU-0")
    for claims in (second, other):
        claims.release()
