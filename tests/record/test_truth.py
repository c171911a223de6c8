"""The whole way, from the real NVML binding to the ledger, against power that is known exactly.

Compared are the whole seconds that the ledger holds, whenever they began. Where a second begins
between two polls, its energy is off by at most half a period of the wave around the mean power
(`Wave.swing_j`), however far apart the polls were; so waves are fast here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from carbontrack.ledger.window import Flag
from carbontrack.units import MS_PER_S, NS_PER_MS
from tests.fixtures.nvml import NvmlStub, StubNode, Wave, default_wave
from tests.fixtures.wrap import Wrapper, wait_until
from tests.record.test_clock import clock_shim  # noqa: F401

FAST_S = (0.011, 0.017, 0.023)


def fast_waves(devices: int) -> list[Wave]:
    return [
        replace(default_wave(index), period_s=FAST_S[index % len(FAST_S)])
        for index in range(devices)
    ]


@dataclass(frozen=True)
class Second:
    """A whole second of one device in the ledger."""

    start_ms: int
    energy_j: float
    samples: int
    flags: Flag


@dataclass(frozen=True)
class Compared:
    """What the ledger holds of some seconds of one device, and what it truly used in them."""

    wave: Wave
    energy_j: float
    true_j: float
    edges: int  # of the seconds' runs: each is off by `Wave.swing_j` at most

    def is_true(self, rel: float = 1e-4, gain: float = 1.0) -> bool:
        """Whether both are the same, where the counter has such a gain over the power."""
        off_j = rel * self.true_j + self.edges * self.wave.swing_j
        return abs(self.energy_j - gain * self.true_j) <= gain * off_j


def whole_seconds(wrapper: Wrapper, uuid: str) -> list[Second]:
    """Those of the newest run that one device has in the ledger, in order."""
    with (
        suppress(sqlite3.OperationalError),  # it is just being made
        closing(sqlite3.connect(f"file:{wrapper.ledger}?mode=ro", uri=True)) as ledger,
    ):
        rows = ledger.execute(
            "select start_ms, energy_j, samples, flags from windows "
            "join sensors on sensors.key = sensor_key "
            "join devices on devices.key = device_key where level = 1 and energy_s = 1 "
            "and windows.recording_key = (select max(key) from recordings) and uuid = ? "
            "order by start_ms",
            (uuid,),
        ).fetchall()
        return [Second(ms, energy_j, samples, Flag(flags)) for ms, energy_j, samples, flags in rows]
    return []


def is_read(second: Second) -> bool:
    """Whether all of it lies between readings: none was filled in at an edge of the run."""
    return Flag.BRIDGED not in second.flags


def compared(
    wrapper: Wrapper, node: StubNode, device: int, which: Callable[[Second], bool] = is_read
) -> Compared:
    """The device's whole seconds of this kind against the truth. There is at least one."""
    seconds = [s for s in whole_seconds(wrapper, node.uuids[device]) if which(s)]
    assert seconds, f"nothing of device {device}"
    starts_ns = [second.start_ms * NS_PER_MS - wrapper.clock.wall_ns(0) for second in seconds]
    true_j = sum(
        node.true_energy_j(device, at_ns, at_ns + MS_PER_S * NS_PER_MS) for at_ns in starts_ns
    )
    breaks = sum(b.start_ms - a.start_ms != MS_PER_S for a, b in pairwise(seconds))
    energy_j = sum(second.energy_j for second in seconds)
    return Compared(node.waves[device], energy_j, true_j, 2 + 2 * breaks)


def is_read_often(second: Second) -> bool:
    """Whether the driver's samples of 20 ms were all read."""
    return is_read(second) and second.samples >= MS_PER_S // 20


def record(
    wrapper: Wrapper,
    node: StubNode,
    seconds: int = 2,
    which: Callable[[Second], bool] = is_read,
) -> list[dict[str, Any]]:
    """The devices of a run that has so many such seconds of each."""
    wrapper.meter = "nvml"
    wrapper.environ = node.env
    job = wrapper.hold()

    def are_there(uuid: str) -> bool:
        return sum(map(which, whole_seconds(wrapper, uuid))) >= seconds

    wait_until(lambda: all(map(are_there, node.uuids)))
    done = job.end()
    assert (done.returncode, done.stderr) == (0, "")
    devices: list[dict[str, Any]] = wrapper.json("show")["devices"]
    return devices


@pytest.mark.parametrize("gpu", ["a100", "h100"])
def test_what_the_ledger_holds_of_eight_gpus_is_the_truth(
    wrapper: Wrapper, nvml_stub: NvmlStub, gpu: str
) -> None:
    node = nvml_stub.start(gpu=gpu, waves=fast_waves(8))
    devices = record(wrapper, node)
    assert [device["uuid"] for device in devices] == node.uuids
    for index, device in enumerate(devices):
        found = compared(wrapper, node, index)
        assert found.is_true(), found
        assert device["energy_kwh"] * 3.6e6 >= found.energy_j
        assert (device["meter"], device["quality"]) == ("nvml", "counter")


def test_without_a_counter_energy_is_the_integral_of_power_and_says_so(
    wrapper: Wrapper, nvml_stub: NvmlStub
) -> None:
    """Polls are held until the next, so the power may change only slowly here."""
    waves = [Wave("constant", 250.0, 0.0, 1.0), Wave("sine", 250.0, 100.0, 120.0)]
    node = nvml_stub.start(waves=waves, counter=0, samples_ms=0)
    devices = record(wrapper, node)
    assert [device["quality"] for device in devices] == ["power", "power"]
    steady, slow = (compared(wrapper, node, index) for index in range(2))
    assert steady.energy_j == pytest.approx(steady.true_j, rel=1e-6)
    assert slow.energy_j == pytest.approx(slow.true_j, rel=0.05)


def test_without_a_counter_the_drivers_own_samples_miss_nothing(
    wrapper: Wrapper, nvml_stub: NvmlStub
) -> None:
    node = nvml_stub.start(waves=fast_waves(3), counter=0)
    devices = record(wrapper, node, which=is_read_often)
    assert {(d["quality"], d["field"]) for d in devices} == {("power", "power_samples")}
    assert [d["update_period_ms"] for d in devices] == pytest.approx([20.0] * 3, rel=1e-3)
    for index in range(3):
        found = compared(wrapper, node, index, is_read_often)
        assert found.is_true(), found


def test_the_drivers_own_samples_are_read_on_after_the_clock_was_set_back(
    wrapper: Wrapper,
    nvml_stub: NvmlStub,
    clock_shim: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    node = nvml_stub.start(waves=fast_waves(2), counter=0)
    shift = tmp_path / "shift"
    shift.write_text("0")
    shim = {"LD_PRELOAD": str(clock_shim), "CLOCK_SHIM_FILE": str(shift)}
    wrapper.meter, wrapper.environ = "nvml", {**node.env, **shim}
    job = wrapper.hold()
    for shift_s in (0, -3600, 3600):
        shift.write_text(str(shift_s))
        before = [sum(map(is_read_often, whole_seconds(wrapper, uuid))) for uuid in node.uuids]

        def are_more(before: list[int] = before) -> bool:
            found = [sum(map(is_read_often, whole_seconds(wrapper, uuid))) for uuid in node.uuids]
            return all(now >= then + 2 for now, then in zip(found, before, strict=True))

        wait_until(are_more)
    assert job.end().returncode == 0
    for index in range(2):
        found = compared(wrapper, node, index, is_read_often)
        assert found.is_true(), found


def test_a_mean_over_a_second_lies_in_the_second_before(
    wrapper: Wrapper, nvml_stub: NvmlStub
) -> None:
    """Under a power that falls steadily it would be too high by half a second's fall: 13 W."""
    node = nvml_stub.start(gpu="h100", waves=[Wave("sine", 300.0, 250.0, 60.0, 24.0)], counter=0)
    (device,) = record(wrapper, node, seconds=3)
    assert device["field"] == "power_average"
    found = compared(wrapper, node, 0)
    assert found.energy_j == pytest.approx(found.true_j, rel=0.01)


def seconds_since_an_end(wrapper: Wrapper) -> int:
    """How many are there of the devices that began after the newest end of a recording."""
    query = (
        "select count(*) from windows where level = 1 "
        "and start_ms >= (select max(ended_ms) from recordings)"
    )
    with closing(sqlite3.connect(wrapper.ledger)) as ledger:
        ((count,),) = ledger.execute(query).fetchall()
    return int(count)


def test_two_runs_on_the_same_devices_count_once_in_their_total(
    wrapper: Wrapper, nvml_stub: NvmlStub
) -> None:
    node = nvml_stub.start(waves=[Wave("constant", 200.0 + 50 * index, 0, 1) for index in range(4)])
    wrapper.meter, wrapper.environ = "nvml", node.env
    first = wrapper.hold()
    first.until_recorded(2)
    assert wrapper.record(seconds=2).returncode == 0
    # Of a second in which both end it is not known whether they overlap.
    wait_until(lambda: seconds_since_an_end(wrapper) >= node.devices)
    first.end()
    table = wrapper.json("table")
    inner, outer = table["rows"]
    assert 0 < inner["energy_kwh"] < outer["energy_kwh"]
    # The first lasted as long as both together, so the total is the first one's, and what the other
    # saw where a busy machine left the first a gap.
    for total in ("energy_kwh", "gpu_hours"):
        assert 0.98 <= table["total"][total] / outer[total] <= 1.02 / outer["coverage"]
    assert "counts once" in " ".join(wrapper.ask("table").stdout.split())
