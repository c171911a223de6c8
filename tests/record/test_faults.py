"""Faults of one GPU of eight, and what they may cost: its own rows, and nothing of the job."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import Any

import pytest

from tests.fixtures.nvml import NvmlStub, StubNode
from tests.fixtures.wrap import PATIENCE_S, Wrapper
from tests.record.test_truth import true_kwh

BAD = 3


class Machine:
    """Eight GPUs, one of which misbehaves while a job runs."""

    def __init__(self, wrapper: Wrapper, node: StubNode) -> None:
        self.wrapper = wrapper
        self.node = node
        wrapper.meter = "nvml"
        wrapper.environ = node.env

    def run(self, length_s: float, **faults: Any) -> dict[str, Any]:
        """Run a job of this length; times of faults are seconds from now."""
        now_s = self.node.now_s()
        timed = {
            k: v + now_s if k.endswith(("from_s", "to_s", "at_s")) else v for k, v in faults.items()
        }
        self.node.set(**timed)
        started_s = time.monotonic()
        done = self.wrapper.run("sh", "-c", f"sleep {length_s}; exit 9")
        self.added_s = time.monotonic() - started_s - length_s
        assert (done.returncode, done.stderr) == (9, "")
        shown: dict[str, Any] = self.wrapper.json("show")
        return shown

    def healthy(self, shown: dict[str, Any]) -> list[dict[str, Any]]:
        return [d for d in shown["devices"] if d["uuid"] != self.node.uuids[BAD]]

    def bad(self, shown: dict[str, Any]) -> dict[str, Any]:
        (device,) = (d for d in shown["devices"] if d["uuid"] == self.node.uuids[BAD])
        return device

    def error(self, shown: dict[str, Any]) -> float:
        """Relative error of the whole run's energy."""
        truth = sum(true_kwh(self.wrapper, self.node, index) for index in range(8))
        energy: float = shown["energy_kwh"]
        return energy / truth - 1


@pytest.fixture
def machine(wrapper: Wrapper, nvml_stub: NvmlStub) -> Machine:
    return Machine(wrapper, nvml_stub.start(8, "a100"))


def kinds(shown: dict[str, Any]) -> list[str]:
    return [event["kind"] for event in shown["events"]]


def test_a_lost_gpu_costs_its_own_coverage_and_is_found_again(machine: Machine) -> None:
    shown = machine.run(8, **{f"d{BAD}_lost_from_s": 2.5, f"d{BAD}_lost_to_s": 5})
    assert kinds(shown) == ["device-lost", "device-found"]
    assert all(event["device_uuid"] == machine.node.uuids[BAD] for event in shown["events"])
    assert 0.4 < machine.bad(shown)["coverage"] < 0.8
    assert min(d["coverage"] for d in machine.healthy(shown)) > 0.97
    # Its counter ran on while it was away, so no energy is missing.
    assert abs(machine.error(shown)) < 0.01


def test_a_gpu_lost_for_good_keeps_what_was_measured(machine: Machine) -> None:
    shown = machine.run(5, **{f"d{BAD}_lost_from_s": 3, f"d{BAD}_lost_to_s": 1e6})
    assert kinds(shown) == ["device-lost"]
    assert machine.bad(shown)["energy_kwh"] > 0
    assert min(d["coverage"] for d in machine.healthy(shown)) > 0.97


@pytest.mark.parametrize("hang_s", [3, 1e6], ids=["for three seconds", "for ever"])
def test_a_hanging_call_holds_up_neither_the_others_nor_the_job(
    machine: Machine, hang_s: float
) -> None:
    shown = machine.run(6, **{f"d{BAD}_hang_from_s": 2.5, f"d{BAD}_hang_s": hang_s})
    assert kinds(shown)[0] == "device-silent"
    assert ("device-found" in kinds(shown)) == (hang_s == 3)
    assert min(d["coverage"] for d in machine.healthy(shown)) > 0.97
    assert machine.bad(shown)["coverage"] < 0.9
    assert machine.added_s < 3, "one second is the promise; the rest is a busy test machine"


def test_a_counter_reset_never_makes_energy_negative(machine: Machine) -> None:
    shown = machine.run(5, **{f"d{BAD}_reset_at_s": 3})
    assert kinds(shown) == ["counter-reset"]
    assert machine.bad(shown)["energy_kwh"] > 0
    assert abs(machine.error(shown)) < 0.01


def test_calls_that_fail_now_and_then_cost_nothing(machine: Machine) -> None:
    shown = machine.run(5, unknown_p=0.1)
    assert abs(machine.error(shown)) < 0.01
    assert kinds(shown) == []


def test_a_driver_reload_is_survived(machine: Machine) -> None:
    shown = machine.run(8, reload_at_s=3, reload_s=1.5)
    assert set(kinds(shown)) >= {"device-lost", "device-found"}
    assert len(shown["devices"]) == 8
    assert min(d["coverage"] for d in shown["devices"]) > 0.5
    assert all(d["energy_kwh"] > 0 for d in shown["devices"])


def test_only_what_the_job_can_see_is_recorded(machine: Machine) -> None:
    uuids = machine.node.uuids
    machine.wrapper.environ = {
        **machine.node.env,
        "CUDA_VISIBLE_DEVICES": f"{uuids[5]},{uuids[2][:12]}",
    }
    shown = machine.run(1)
    assert {d["uuid"] for d in shown["devices"]} == {uuids[5], uuids[2]}


def test_a_meter_that_was_asked_for_and_does_not_work_is_said(
    wrapper: Wrapper, nvml_stub: NvmlStub
) -> None:
    wrapper.meter = "nvml"
    wrapper.environ = nvml_stub.start(2, init_error=9).env
    done = wrapper.run("sh", "-c", "exit 3", options=())
    assert done.returncode == 3
    assert "no power is recorded: The meter nvml cannot work here" in done.stderr
    (run,) = wrapper.json("runs")["runs"]
    assert (run["exit_code"], run["devices"], run["energy_kwh"]) == (3, 0, None)


def test_a_driver_that_hangs_when_opened_does_not_hold_up_a_job_that_ends(
    wrapper: Wrapper, nvml_stub: NvmlStub
) -> None:
    wrapper.meter = "nvml"
    wrapper.environ = nvml_stub.start(2, init_hang_s=60).env
    began_s = time.monotonic()
    done = wrapper.run("sh", "-c", "exit 3", options=())
    assert time.monotonic() - began_s < 4, "a second is the promise; the rest is a busy machine"
    assert done.returncode == 3
    assert "no power is recorded: the meter had not opened after" in done.stderr
    assert "in the background" not in done.stderr
    (run,) = wrapper.json("runs")["runs"]
    assert (run["status"], run["exit_code"], run["energy_kwh"]) == ("failed", 3, None)


def test_whoever_opens_and_closes_the_ledger_meanwhile_takes_nothing_from_it(
    wrapper: Wrapper,
) -> None:
    assert wrapper.run("true").returncode == 0
    job = wrapper.start("sleep", "8", options=("--quiet", "--name", "long"))
    for _ in range(3):
        time.sleep(2)
        # SQLite's last user removes the write-ahead log; it must see that the recorder is there.
        with closing(sqlite3.connect(wrapper.ledger)) as other:
            other.execute("create table if not exists theirs (x)")
            other.execute("insert into theirs values (1)")
            other.commit()
    job.communicate(timeout=PATIENCE_S)
    shown = wrapper.json("show", "long")
    assert (shown["status"], shown["exit_code"]) == ("completed", 0)
    assert shown["coverage"] > 0.97
