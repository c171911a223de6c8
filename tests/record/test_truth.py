"""The whole way, from the real NVML binding to the ledger, against power that is known exactly.

Compared are the whole seconds that the ledger holds, whenever they began. Where a second begins
between two polls, its energy is off by at most half a period of the wave around the mean power
(`Wave.swing_j`), however far apart the polls were; so waves are fast here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from carbontrack.units import MS_PER_S, NS_PER_MS, monotonic_ns, now_ms
from tests.fixtures.nvml import NvmlStub, StubNode, Wave, default_wave
from tests.fixtures.wrap import Wrapper

FAST_S = (0.011, 0.017, 0.023)


def fast_waves(devices: int) -> list[Wave]:
    return [
        replace(default_wave(index), period_s=FAST_S[index % len(FAST_S)])
        for index in range(devices)
    ]


def record(wrapper: Wrapper, node: StubNode, seconds: int) -> dict[str, Any]:
    wrapper.meter = "nvml"
    wrapper.environ = node.env
    done = wrapper.record(seconds=seconds)
    assert (done.returncode, done.stderr) == (0, "")
    shown: dict[str, Any] = wrapper.json("show")
    return shown


def boot_ms() -> float:
    """What to take from a wall-clock time in ms to get a `monotonic_ns`, in ms."""
    while True:
        before_ns, wall_ms, after_ns = monotonic_ns(), now_ms(), monotonic_ns()
        if after_ns - before_ns < NS_PER_MS:
            return wall_ms - before_ns / NS_PER_MS


def recorded_and_true_j(wrapper: Wrapper, node: StubNode) -> Iterator[tuple[float, float]]:
    """Of each device the energy of its newest run's whole seconds, and what it truly used then."""
    with closing(sqlite3.connect(wrapper.ledger)) as ledger:
        rows = ledger.execute(
            "select uuid, start_ms, energy_j from windows join sensors on sensors.key = sensor_key "
            "join devices on devices.key = device_key where level = 1 and energy_s > 0.999 "
            "and windows.recording_key = (select max(key) from recordings) "
            "order by start_ms"
        ).fetchall()
    offset_ms = boot_ms()
    for index, uuid in enumerate(node.uuids):
        found = [(start_ms - offset_ms, energy_j) for of, start_ms, energy_j in rows if of == uuid]
        assert found, f"nothing of {uuid}"
        true_j = sum(
            node.true_energy_j(
                index, round(at_ms * NS_PER_MS), round((at_ms + MS_PER_S) * NS_PER_MS)
            )
            for at_ms, _ in found
        )
        yield sum(energy_j for _, energy_j in found), true_j


@pytest.mark.parametrize("gpu", ["a100", "h100"])
def test_what_the_ledger_holds_of_eight_gpus_is_the_truth(
    wrapper: Wrapper, nvml_stub: NvmlStub, gpu: str
) -> None:
    node = nvml_stub.start(gpu=gpu, waves=fast_waves(8))
    shown = record(wrapper, node, seconds=4)
    assert [device["uuid"] for device in shown["devices"]] == node.uuids
    pairs = list(recorded_and_true_j(wrapper, node))
    for device, wave, (energy_j, true_j) in zip(shown["devices"], node.waves, pairs, strict=True):
        assert energy_j == pytest.approx(true_j, rel=1e-4, abs=2 * wave.swing_j)
        assert device["energy_kwh"] * 3.6e6 >= energy_j
        assert (device["meter"], device["quality"]) == ("nvml", "counter")


def test_without_a_counter_energy_is_the_integral_of_power_and_says_so(
    wrapper: Wrapper, nvml_stub: NvmlStub
) -> None:
    """Polls are held until the next, so the power may change only slowly here."""
    waves = [Wave("constant", 250.0, 0.0, 1.0), Wave("sine", 250.0, 100.0, 120.0)]
    node = nvml_stub.start(waves=waves, counter=0, samples_ms=0)
    shown = record(wrapper, node, seconds=4)
    assert [device["quality"] for device in shown["devices"]] == ["power", "power"]
    (steady_j, true_steady_j), (slow_j, true_slow_j) = recorded_and_true_j(wrapper, node)
    assert steady_j == pytest.approx(true_steady_j, rel=1e-6)
    assert slow_j == pytest.approx(true_slow_j, rel=0.05)


def test_without_a_counter_the_drivers_own_samples_miss_nothing(
    wrapper: Wrapper, nvml_stub: NvmlStub
) -> None:
    node = nvml_stub.start(waves=fast_waves(3), counter=0)
    shown = record(wrapper, node, seconds=4)
    assert {(d["quality"], d["field"]) for d in shown["devices"]} == {("power", "power_samples")}
    assert [d["update_period_ms"] for d in shown["devices"]] == pytest.approx([20.0] * 3, rel=1e-3)
    for wave, (energy_j, true_j) in zip(
        node.waves, recorded_and_true_j(wrapper, node), strict=True
    ):
        assert energy_j == pytest.approx(true_j, rel=1e-4, abs=2 * wave.swing_j + 1)


def test_a_mean_over_a_second_lies_in_the_second_before(
    wrapper: Wrapper, nvml_stub: NvmlStub
) -> None:
    """Under a power that falls steadily it would be too high by half a second's fall: 13 W."""
    node = nvml_stub.start(gpu="h100", waves=[Wave("sine", 300.0, 250.0, 60.0, 24.0)], counter=0)
    (device,) = record(wrapper, node, seconds=6)["devices"]
    assert device["field"] == "power_average"
    ((energy_j, true_j),) = recorded_and_true_j(wrapper, node)
    assert energy_j == pytest.approx(true_j, rel=0.01)


def test_two_runs_on_the_same_devices_count_once_in_their_total(
    wrapper: Wrapper, nvml_stub: NvmlStub
) -> None:
    node = nvml_stub.start(waves=[Wave("constant", 200.0 + 50 * index, 0, 1) for index in range(4)])
    wrapper.meter, wrapper.environ = "nvml", node.env
    first = wrapper.hold()
    first.until_recorded(2)
    assert wrapper.record(seconds=2).returncode == 0
    first.end()
    table = wrapper.json("table")
    inner, outer = table["rows"]
    assert 0 < inner["energy_kwh"] < outer["energy_kwh"]
    # The first lasted as long as both together, so the total is the first one's.
    assert table["total"]["energy_kwh"] == pytest.approx(outer["energy_kwh"], rel=0.02)
    assert table["total"]["gpu_hours"] == pytest.approx(outer["gpu_hours"], rel=0.02)
    assert "counts once" in " ".join(wrapper.ask("table").stdout.split())
