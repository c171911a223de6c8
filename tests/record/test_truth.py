"""The whole way, from the real NVML binding to the ledger, against power that is known exactly."""

from __future__ import annotations

import time
from typing import Any

import pytest

from carbontrack.units import J_PER_KWH, NS_PER_MS, monotonic_ns
from tests.fixtures.nvml import NvmlStub, StubNode
from tests.fixtures.wrap import PATIENCE_S, Wrapper


def record(wrapper: Wrapper, node: StubNode, *command: str) -> dict[str, Any]:
    wrapper.meter = "nvml"
    wrapper.environ = node.env
    done = wrapper.run(*command)
    assert (done.returncode, done.stderr) == (0, "")
    shown: dict[str, Any] = wrapper.json("show")
    return shown


def true_kwh(wrapper: Wrapper, node: StubNode, device: int) -> float:
    """What the device truly used while the run lasted."""
    import sqlite3

    connection = sqlite3.connect(wrapper.ledger)
    started_ms, ended_ms = connection.execute("select started_ms, ended_ms from runs").fetchone()
    connection.close()
    offset_ns = time.time_ns() - monotonic_ns()
    from_ns, to_ns = (ms * NS_PER_MS - offset_ns for ms in (started_ms, ended_ms))
    return node.true_energy_j(device, from_ns, to_ns) / J_PER_KWH


@pytest.mark.parametrize("gpu", ["a100", "h100"])
def test_a_wrapped_sleep_reads_within_one_per_cent_of_the_truth(
    wrapper: Wrapper, nvml_stub: NvmlStub, gpu: str
) -> None:
    node = nvml_stub.start(8, gpu)
    shown = record(wrapper, node, "sleep", "5")
    assert [device["uuid"] for device in shown["devices"]] == node.uuids
    truth = [true_kwh(wrapper, node, index) for index in range(8)]
    assert shown["energy_kwh"] == pytest.approx(sum(truth), rel=0.01)
    for device, expected in zip(shown["devices"], truth, strict=True):
        assert device["energy_kwh"] == pytest.approx(expected, rel=0.02)
        assert device["coverage"] > 0.97
        assert (device["meter"], device["quality"]) == ("nvml", "counter")
        assert device["update_period_ms"] == pytest.approx(20, rel=0.25)  # measured


def test_without_a_counter_energy_is_the_integral_of_power_and_says_so(
    wrapper: Wrapper, nvml_stub: NvmlStub
) -> None:
    node = nvml_stub.start(2, "a100", counter=0)
    shown = record(wrapper, node, "sleep", "5")
    for index, device in enumerate(shown["devices"]):
        assert device["quality"] == "power"
        if device["update_period_ms"] is not None:  # a constant power shows no period
            assert device["update_period_ms"] == pytest.approx(100, rel=0.25)
        assert device["energy_kwh"] == pytest.approx(true_kwh(wrapper, node, index), rel=0.1)


def test_two_runs_on_the_same_devices_count_once_in_their_total(
    wrapper: Wrapper, nvml_stub: NvmlStub
) -> None:
    node = nvml_stub.start(4, "a100")
    wrapper.meter, wrapper.environ = "nvml", node.env
    first = wrapper.start("sleep", "6")
    time.sleep(2)
    assert wrapper.run("sleep", "2").returncode == 0
    first.communicate(timeout=PATIENCE_S)
    table = wrapper.json("table")
    inner, outer = (row["energy_kwh"] for row in table["rows"])
    assert 0 < inner < outer
    # The first lasted as long as both together, so the total is the first one's.
    assert table["total"]["energy_kwh"] == pytest.approx(outer, rel=0.02)
    assert table["total"]["gpu_hours"] == pytest.approx(table["rows"][1]["gpu_hours"], rel=0.05)
    assert "counts once" in wrapper.carbontrack("table").stdout
