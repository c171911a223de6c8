"""The NVML meter through the real binding, against devices whose true power is known."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

from carbontrack.units import NS_PER_S, monotonic_ns
from tests.fixtures.nvml import NvmlStub, StubNode, Wave, mig_uuid
from tests.fixtures.wrap import PATIENCE_S

# Polls at 50 Hz until its stdin closes; a line for the meter, then one for each poll of a device.
_PROGRAM = """
import json, os, select, sys
from dataclasses import asdict
from carbontrack.meters.base import (DeviceLost, MeterContext)
from carbontrack.meters.registry import find_meters
around = MeterContext(job_pid=os.getppid(), environ=os.environ, visible=sys.argv[1])
found = find_meters("nvml", around)
sources = [source for meter in found.meters for source in meter.sources]
first = {
    "note": found.note,
    "devices": [asdict(source.device) for source in sources],
    "recent": [asdict(reading) for source in sources for reading in source.recent()],
}
print(json.dumps(first), flush=True)
while not select.select([sys.stdin], [], [], 0.02)[0]:
    for source in sources:
        try:
            print(json.dumps([source.device.uuid, asdict(source.read())]), flush=True)
        except DeviceLost as lost:
            print(json.dumps([source.device.uuid, str(lost)]), flush=True)
print(json.dumps([asdict(source.vitals()) for source in sources]))
for meter in found.meters:
    meter.close()
"""


@dataclass
class Polled:
    """What the program saw. A poll is a reading, or the message of a DeviceLost."""

    note: str
    devices: list[dict[str, Any]]
    lines: Iterator[str]
    recent: list[dict[str, Any]] = field(default_factory=list)  # what the driver had sampled
    polls: dict[str, list[Any]] = field(default_factory=dict)
    vitals: list[dict[str, Any]] = field(default_factory=list)

    def until(self, seen: Callable[[list[Any]], object], *uuids: str) -> None:
        """Poll until the polls of each of these devices, or of all, are as `seen` wants them."""
        wanted = uuids or tuple(device["uuid"] for device in self.devices)
        while not all(seen(self.polls.get(uuid, [])) for uuid in wanted):
            self.take(next(self.lines))

    def take(self, line: str) -> None:
        uuid, poll = json.loads(line)
        self.polls.setdefault(uuid, []).append(poll)

    def readings(self, uuid: str) -> list[dict[str, Any]]:
        return [poll for poll in self.polls[uuid] if isinstance(poll, dict)]

    def stamped(self, uuid: str) -> list[dict[str, Any]]:
        return [r for r in self.readings(uuid) if r["energy_time_ns"] is not None]


@contextmanager
def _polling(node: StubNode, visible: str = "job", **environ: str) -> Iterator[Polled]:
    """Poll while the block runs; everything is in the yielded object after it."""
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, visible],
        env={**node.env, **environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process:
        first = process.stdout.readline()
        assert first, "the program ended at once"
        polled = Polled(**json.loads(first), lines=iter(process.stdout))
        yield polled
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.close()
        *polls, vitals = polled.lines
    assert process.returncode == 0
    polled.vitals = json.loads(vitals)
    for line in polls:
        polled.take(line)


def _span_s(polls: list[Any]) -> float:
    """From the first counter reading to the last, by the driver's time."""
    at_ns = [poll["energy_time_ns"] for poll in polls if isinstance(poll, dict)]
    known_ns = [one for one in at_ns if one is not None]
    return (known_ns[-1] - known_ns[0]) / NS_PER_S if known_ns else 0.0


def _powers_w(polls: list[Any]) -> list[float]:
    found = [poll["power_w"] for poll in polls if isinstance(poll, dict)]
    return [power_w for power_w in found if power_w is not None]


def _states(polls: list[Any]) -> list[bool]:
    """Whether it answered, poll by poll."""
    return [isinstance(poll, dict) for poll in polls]


def _fell(polls: list[Any]) -> list[bool]:
    """Whether the counter went backwards, from one reading to the next."""
    known = [p["energy_j"] for p in polls if isinstance(p, dict) and p["energy_j"] is not None]
    return [after < before for before, after in pairwise(known)]


def _refusal(node: StubNode, **environ: str) -> str:
    """Why the meter does not open."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, "job"],
        env={**node.env, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode != 0
    return done.stderr.splitlines()[-1]


def _energies(node: StubNode, polled: Polled, uuid: str) -> tuple[float, float]:
    """Energy by the counter from first to last reading, and the true one between its refreshes."""
    first, *_, last = polled.stamped(uuid)
    true_j = node.true_energy_j(
        node.uuids.index(uuid), first["energy_time_ns"], last["energy_time_ns"]
    )
    return last["energy_j"] - first["energy_j"], true_j


@pytest.mark.parametrize(("devices", "gpu"), [(8, "a100"), (2, "h100")])
def test_the_counter_gives_each_device_its_true_energy(
    nvml_stub: NvmlStub, devices: int, gpu: str
) -> None:
    node = nvml_stub.start(devices, gpu)
    with _polling(node) as polled:
        polled.until(lambda polls: _span_s(polls) > 1)

    assert [device["uuid"] for device in polled.devices] == node.uuids
    for device in polled.devices:
        measured_j, true_j = _energies(node, polled, device["uuid"])
        assert true_j > 100
        assert measured_j == pytest.approx(true_j, abs=0.1)  # timestamps come in whole µs
        assert device["quality"] == "counter"
        assert device["field"] == "total_energy+power_instant"
        assert device["rated_power_w"] == (400 if gpu == "a100" else 700)
    assert {v["util_pct"] for v in polled.vitals} == {97}
    assert polled.vitals[0] == {
        "util_pct": 97,
        "memory_used_bytes": 60 * 2**30,
        "temperature_c": 61,
        "sm_clock_mhz": 1410,
        "throttle": 4,
        "is_used": False,
    }


def test_power_is_what_the_sensor_shows(nvml_stub: NvmlStub) -> None:
    waves = [Wave("constant", 250.0, 0, 1), Wave("square", 300.0, 100.0, 1.0)]
    node = nvml_stub.start(waves=waves)
    with _polling(node) as polled:
        polled.until(lambda polls: {200.0, 400.0} <= set(_powers_w(polls)), node.uuids[1])

    steady, square = (_powers_w(polled.polls[uuid]) for uuid in node.uuids)
    assert set(steady) == {250.0}
    assert min(square) == 200.0
    assert max(square) == 400.0


@pytest.mark.parametrize(
    ("gpu", "settings", "quality", "field"),
    [
        ("a100", {"fields": 0}, "counter", "total_energy+power_usage"),
        ("a100", {"counter": 0}, "power", "power_samples"),
        ("a100", {"counter": 0, "samples_ms": 0}, "power", "power_instant"),
        ("a100", {"counter": 0, "samples_ms": 1000}, "power", "power_instant"),
        ("h100", {"counter": 0, "samples_ms": 20}, "power", "power_samples"),
        ("h100", {"counter": 0}, "power", "power_average"),
        ("h100", {"counter": 0, "fields": 0}, "power", "power_usage"),
        ("h100", {"power": 0}, "counter", "total_energy"),
        ("h100", {"power": 0, "fields": 0}, "counter", "total_energy"),
        ("h100", {"module_w": 150}, "counter", "total_energy+power_average"),
    ],
)
def test_each_device_is_read_by_what_it_answers(
    nvml_stub: NvmlStub, gpu: str, settings: dict[str, float], quality: str, field: str
) -> None:
    # Device 1 is like this, device 0 is healthy: neither decides for the other.
    node = nvml_stub.start(2, gpu, **{f"d1_{key}": value for key, value in settings.items()})
    with _polling(node) as polled:
        polled.until(lambda polls: len(polls) >= 5)

    healthy, device = polled.devices
    assert (healthy["quality"], healthy["field"]) == ("counter", "total_energy+power_instant")
    assert (device["quality"], device["field"]) == (quality, field)
    assert device["scope"] == ("gpu-of-module" if "module_w" in settings else "gpu")
    for reading in polled.readings(device["uuid"]):
        assert (reading["energy_j"] is None) == ("counter" in settings)
        assert (reading["power_w"] is None) == ("power" in settings)


def test_the_drivers_own_samples_tell_what_came_before(nvml_stub: NvmlStub) -> None:
    waves = [Wave("square", 300.0, 100.0, 0.5)]
    node = nvml_stub.start(waves=waves)
    began_ns = monotonic_ns()
    while monotonic_ns() - began_ns < 2.5 * NS_PER_S:  # as of a machine that is on for a while
        time.sleep(0.05)
    with _polling(node) as polled:
        pass

    assert len(polled.recent) == 119
    ends = [reading["time_ns"] for reading in polled.recent]
    assert ends == sorted(ends)
    assert ends[-1] - ends[0] == pytest.approx(118 * 0.02 * NS_PER_S, abs=2e5)
    for reading in polled.recent:
        assert reading["span_ns"] == pytest.approx(0.02 * NS_PER_S, rel=1e-3)
        begin_ns = reading["time_ns"] - reading["span_ns"]
        if begin_ns > began_ns:
            true_j = node.true_energy_j(0, begin_ns, reading["time_ns"])
            assert reading["power_w"] == pytest.approx(true_j / 0.02, abs=0.5)


def test_a_device_without_dense_samples_gives_none(nvml_stub: NvmlStub) -> None:
    node = nvml_stub.start(2, d0_samples_ms=1000, d1_samples_ms=0)
    with _polling(node) as polled:
        pass
    assert polled.recent == []


def test_what_fails_by_chance_when_a_device_is_opened_decides_nothing(nvml_stub: NvmlStub) -> None:
    node = nvml_stub.start(8, counter_fail_p=0.2, power_fail_p=0.2)
    with _polling(node) as polled:
        pass
    assert {device["field"] for device in polled.devices} == {"total_energy+power_instant"}


def test_a_mean_over_a_second_says_so_and_when_it_ended(nvml_stub: NvmlStub) -> None:
    node = nvml_stub.start(waves=[Wave("square", 300.0, 100.0, 1.7)], gpu="h100", counter=0)
    with _polling(node) as polled:
        polled.until(lambda polls: len(polls) >= 5)

    for reading in polled.stamped(node.uuids[0]):
        assert reading["span_ns"] == NS_PER_S
        end_ns = reading["energy_time_ns"]
        true_j = node.true_energy_j(0, end_ns - NS_PER_S, end_ns)
        assert reading["power_w"] == pytest.approx(true_j, abs=0.1)


def test_a_device_that_answers_nothing_is_left_out_and_said(nvml_stub: NvmlStub) -> None:
    node = nvml_stub.start(2, d1_counter=0, d1_power=0)
    with _polling(node) as polled:
        pass

    assert [device["uuid"] for device in polled.devices] == node.uuids[:1]
    assert "1 GPUs gave neither energy nor power" in polled.note
    node.set(counter=0, power=0, d1_counter=0, d1_power=0)
    assert "neither energy nor power" in _refusal(node)


def test_power_samples_claim_no_error_that_nvidia_does_not_document(nvml_stub: NvmlStub) -> None:
    """NVML's reference has ±5 % for Fermi and Kepler, and none for what came after them."""
    node = nvml_stub.start(1, counter=0)
    with _polling(node) as polled:
        pass
    assert "Fermi and Kepler only" in polled.note
    assert "±5 %" not in polled.note.replace("for Fermi and Kepler only, as ±5 %", "")


def test_a_lost_device_costs_only_its_own_rows_and_is_found_again(nvml_stub: NvmlStub) -> None:
    node = nvml_stub.start(3)
    with _polling(node) as polled:
        polled.until(lambda polls: len(polls) >= 3)
        node.set(d1_lost_from_s=node.now_s())
        polled.until(lambda polls: not _states(polls)[-1], node.uuids[1])
        node.set(d1_lost_to_s=node.now_s())
        polled.until(lambda polls: _states(polls)[-1] and _span_s(polls) > 0.5)

    states = _states(polled.polls[node.uuids[1]])
    assert "lost" in next(p for p in polled.polls[node.uuids[1]] if isinstance(p, str))
    assert states[0] and states[-1]
    assert not all(states)
    for uuid in (node.uuids[0], node.uuids[2]):
        assert all(isinstance(poll, dict) for poll in polled.polls[uuid])
    for uuid in node.uuids:  # its counter went on meanwhile
        measured_j, true_j = _energies(node, polled, uuid)
        assert measured_j == pytest.approx(true_j, abs=0.1)


def test_unknown_errors_now_and_then_are_missing_values(nvml_stub: NvmlStub) -> None:
    node = nvml_stub.start(2, unknown_p=0.1)
    with _polling(node) as polled:
        polled.until(lambda polls: len(polls) >= 75)

    for uuid in node.uuids:
        readings = polled.readings(uuid)
        assert len(readings) == len(polled.polls[uuid])
        missing = [r for r in readings if r["energy_j"] is None and r["power_w"] is None]
        assert 0 < len(missing) < len(readings) / 2


def test_a_call_that_fails_takes_no_other_value_with_it(nvml_stub: NvmlStub) -> None:
    """Of drivers without the one call for both."""
    node = nvml_stub.start(3, fields=0)
    counter, power, both = node.uuids
    with _polling(node) as polled:
        polled.until(lambda polls: len(polls) >= 1)
        node.set(d0_counter_fail_p=1, d1_power_fail_p=1, d2_counter_fail_p=1, d2_power_fail_p=1)
        polled.until(lambda polls: polls[-1]["energy_j"] is None, counter, both)
        polled.until(lambda polls: polls[-1]["power_w"] is None, power, both)

    assert {device["field"] for device in polled.devices} == {"total_energy+power_usage"}
    known = {
        uuid: (poll["energy_j"] is not None, poll["power_w"] is not None)
        for uuid in node.uuids
        for poll in [polled.polls[uuid][-1]]
    }
    assert known == {counter: (False, True), power: (True, False), both: (False, False)}


def test_a_counter_reset_shows_as_a_fall(nvml_stub: NvmlStub) -> None:
    node = nvml_stub.start(2)
    with _polling(node) as polled:
        polled.until(lambda polls: len(polls) >= 3)
        node.set(d0_reset_at_s=node.now_s())
        polled.until(lambda polls: any(_fell(polls)[:-3]), node.uuids[0])

    assert [sum(_fell(polled.polls[uuid])) for uuid in node.uuids] == [1, 0]


def test_a_driver_reload_is_survived(nvml_stub: NvmlStub) -> None:
    node = nvml_stub.start(2)
    with _polling(node) as polled:
        polled.until(lambda polls: len(polls) >= 3)
        node.set(reload_at_s=node.now_s(), reload_s=1e6)
        polled.until(lambda polls: not _states(polls)[-1])
        node.set(reload_s=0.001)
        polled.until(lambda polls: _states(polls)[-1] and any(_fell(polls)))

    for uuid in node.uuids:
        states = _states(polled.polls[uuid])
        assert states[0] and states[-1]
        assert not all(states)
        assert polled.readings(uuid)[-1]["energy_j"] < polled.readings(uuid)[0]["energy_j"]


def test_a_hanging_or_lost_device_does_not_hold_up_the_opening(nvml_stub: NvmlStub) -> None:
    node = nvml_stub.start(3, d0_hang_from_s=0.001, d0_hang_s=-1, d2_lost_from_s=0.001)
    with _polling(node, CUDA_VISIBLE_DEVICES="1,0,2") as polled:
        polled.until(bool)

    assert [device["uuid"] for device in polled.devices] == [node.uuids[1]]
    assert polled.polls[node.uuids[1]]
    assert "GPU 0 does not answer" in polled.note
    assert "GPU 2 does not answer" in polled.note


def test_seven_hanging_devices_leave_the_eighth(nvml_stub: NvmlStub) -> None:
    """That they are waited for together, tests/meters/test_patience.py shows."""
    hanging = {f"d{i}_hang_from_s": 0.001 for i in range(7)} | {"hang_s": -1}
    with _polling(nvml_stub.start(8, **hanging)) as polled:
        pass
    assert len(polled.devices) == 1


def test_the_drivers_timestamp_may_be_that_of_the_call(nvml_stub: NvmlStub) -> None:
    node = nvml_stub.start(2, stamp_call=1)
    with _polling(node) as polled:
        polled.until(lambda polls: len(polls) >= 10)

    for uuid in node.uuids:
        for reading in polled.stamped(uuid):
            assert 0 <= reading["time_ns"] - reading["energy_time_ns"] < NS_PER_S


def test_visible_devices(nvml_stub: NvmlStub) -> None:
    node = nvml_stub.start(8)
    for value, indices in {"3,1": [3, 1], f"{node.uuids[5]},GPU-8f2": [5, 0]}.items():
        with _polling(node, CUDA_VISIBLE_DEVICES=value) as polled:
            polled.until(bool)
        assert [d["uuid"] for d in polled.devices] == [node.uuids[i] for i in indices]
        assert set(polled.polls) == {node.uuids[i] for i in indices}
    with _polling(node, "all", CUDA_VISIBLE_DEVICES="3") as polled:
        pass
    assert [d["uuid"] for d in polled.devices] == node.uuids


def test_a_device_is_used_where_the_driver_names_a_process_of_the_job(nvml_stub: NvmlStub) -> None:
    """The job is this process here: it, what it started, another one, none, and one of the past."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        node = nvml_stub.start(
            5, d0_pid=os.getpid(), d1_pid=child.pid, d2_pid=os.getppid(), d4_pid=4_000_000_000
        )
        with _polling(node) as polled:
            polled.until(lambda polls: len(polls) >= 1)
        child.communicate()
    assert [v["is_used"] for v in polled.vitals] == [True, True, False, False, False]


def test_mig_instances_read_their_parent_and_own_a_share(nvml_stub: NvmlStub) -> None:
    node = nvml_stub.start(2, d1_mig="3 2 1")
    wanted = [mig_uuid(1, 2), mig_uuid(1, 0)]
    with _polling(node, CUDA_VISIBLE_DEVICES=",".join(wanted)) as polled:
        polled.until(lambda polls: _span_s(polls) > 0.3)

    assert [d["uuid"] for d in polled.devices] == wanted
    assert [d["share"] for d in polled.devices] == [pytest.approx(1 / 7), pytest.approx(3 / 7)]
    assert {d["mig_parent"] for d in polled.devices} == {node.uuids[1]}
    assert polled.devices[1]["rated_power_w"] == pytest.approx(400 * 3 / 7)
    assert polled.devices[0]["name"].endswith("MIG 1g.10gb")
    for uuid in wanted:
        first, *_, last = polled.stamped(uuid)
        parent_j = node.true_energy_j(1, first["energy_time_ns"], last["energy_time_ns"])
        assert last["energy_j"] - first["energy_j"] == pytest.approx(parent_j, abs=0.1)
    assert polled.vitals[0]["memory_used_bytes"] < polled.vitals[1]["memory_used_bytes"]
    assert "apportioned" in polled.note


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"init_error": 9}, "modprobe nvidia"),
        ({"init_error": 4}, "/dev/nvidiactl"),
        ({"init_error": 18}, "reload the driver"),
        ({"init_error": 999}, "cannot be initialised"),
    ],
)
def test_a_driver_that_does_not_start_says_what_to_do(
    nvml_stub: NvmlStub, settings: dict[str, float], advice: str
) -> None:
    assert advice in _refusal(nvml_stub.start(2, **settings))


def test_no_gpu_no_visible_gpu_no_library(nvml_stub: NvmlStub) -> None:
    node = nvml_stub.start(2)
    assert 'CUDA_VISIBLE_DEVICES="" shows the job none of the 2' in _refusal(
        node, CUDA_VISIBLE_DEVICES=""
    )
    node.waves.clear()
    node.set()
    assert "finds no GPU" in _refusal(node)
    if not _has_a_real_driver():
        assert "no NVIDIA driver is installed" in _refusal(node, LD_LIBRARY_PATH="")


def test_a_driver_that_hangs_when_opened_is_given_up(nvml_stub: NvmlStub) -> None:
    assert "did not answer within 5 s" in _refusal(nvml_stub.start(2, init_hang_s=3000))


def _has_a_real_driver() -> bool:
    return any(os.path.exists(path) for path in ("/dev/nvidiactl", "/proc/driver/nvidia"))  # noqa: PTH110
