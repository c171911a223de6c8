"""Faults of one GPU of eight, and what they may cost: its own rows, and nothing of the job."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from carbontrack.ledger.window import Flag
from tests.fixtures.nvml import NvmlStub, StubNode, Wave
from tests.fixtures.wrap import Held, Wrapper, wait_until
from tests.record.test_truth import Second, compared, fast_waves, is_read, whole_seconds


class Machine:
    """Eight GPUs, some of which misbehave while a job runs."""

    def __init__(self, wrapper: Wrapper, node: StubNode) -> None:
        self.wrapper = wrapper
        self.node = node
        self.bad: set[int] = set()  # those that misbehave
        wrapper.meter = "nvml"
        wrapper.environ = node.env

    def start(self, **settings: Any) -> Held:
        """A job of which the ledger holds the first whole second of each."""
        self.node.set(**settings)
        job = self.wrapper.hold("sh", "-c", "exit 9")
        wait_until(lambda: all(map(self.compares, range(self.node.devices))))
        return job

    def compares(self, device: int) -> bool:
        """Whether the ledger holds a second of this device that can be compared with the truth."""
        return any(map(is_read, whole_seconds(self.wrapper, self.node.uuids[device])))

    def at_once(self, name: str, *devices: int) -> None:
        """Let a fault of these GPUs begin, or end, now."""
        self.bad.update(devices)
        self.node.set(**{f"d{device}_{name}": self.node.now_s() for device in devices})

    def events(self, *kinds: str) -> list[tuple[str, str]]:
        """Of these kinds, in the ledger so far, with the device. On a machine that is too busy, a
        device may be found silent for a moment that is not.
        """
        with closing(sqlite3.connect(f"file:{self.wrapper.ledger}?mode=ro", uri=True)) as db:
            rows = db.execute("select kind, device_uuid from events order by time_ms").fetchall()
        return [(kind, uuid) for kind, uuid in rows if kind in kinds]

    def doubts(self) -> set[tuple[int, str]]:
        """Which device's sensor is doubted, and by which rule, in the ledger so far."""
        found = f"file:{self.wrapper.ledger}?mode=ro"
        try:
            with closing(sqlite3.connect(found, uri=True)) as db:
                rows = db.execute("select kind, device_uuid, data from events").fetchall()
        except sqlite3.OperationalError:  # it is just being made
            return set()
        return {
            (self.node.uuids.index(uuid), json.loads(data)["rule"])
            for kind, uuid, data in rows
            if kind == "sensor-doubted"
        }

    def until_it_is(self, device: int, kind: str, *, then: str = "") -> None:
        """Wait until this GPU has such an event, and `then` another one after it."""

        def there() -> bool:
            events = self.events(kind, then)
            of_it = [found for found, uuid in events if uuid == self.node.uuids[device]]
            return kind in of_it and (not then or then in of_it[of_it.index(kind) :])

        wait_until(there)

    def until_it_has_missed(self, device: int) -> None:
        """Wait until this GPU is further behind the healthy ones than a counter's difference is
        spread over (`energy.MAX_HOLE_NS`), and than what is not given yet.
        """
        healthy = [uuid for i, uuid in enumerate(self.node.uuids) if i not in self.bad]

        def behind_ms() -> int:
            found = self.wrapper.seconds()
            return min(found[uuid][-1] for uuid in healthy) - found[self.node.uuids[device]][-1]

        wait_until(lambda: behind_ms() >= 4000)

    def until_the_others_have(self, seconds: int) -> None:
        """Wait until the healthy ones have so many seconds more in the ledger."""
        healthy = [uuid for i, uuid in enumerate(self.node.uuids) if i not in self.bad]

        def fewest() -> int:
            found = self.wrapper.seconds()
            return min(len(found[uuid]) for uuid in healthy)

        enough = fewest() + seconds
        wait_until(lambda: fewest() >= enough)

    def end(self, job: Held) -> tuple[list[dict[str, Any]], float]:
        """What `show` says of each GPU, and the least coverage of the healthy ones."""
        done = job.end()
        assert (done.returncode, done.stderr) == (9, "")
        shown: dict[str, Any] = self.wrapper.json("show")
        devices: list[dict[str, Any]] = shown["devices"]
        assert [device["uuid"] for device in devices] == self.node.uuids
        return devices, min(d["coverage"] for i, d in enumerate(devices) if i not in self.bad)

    def no_energy_is_missing(self) -> None:
        for index in range(self.node.devices):
            found = compared(self.wrapper, self.node, index)
            assert found.is_true(), found


@pytest.fixture
def machine(wrapper: Wrapper, nvml_stub: NvmlStub) -> Machine:
    return Machine(wrapper, nvml_stub.start(gpu="a100", waves=fast_waves(8)))


def test_a_lost_gpu_costs_its_own_coverage_and_may_be_found_again(machine: Machine) -> None:
    back, gone, reset = 3, 6, 1
    job = machine.start()
    machine.at_once("lost_from_s", back, gone)
    machine.at_once("reset_at_s", reset)
    machine.until_it_is(gone, "device-lost")
    machine.until_it_is(back, "device-lost")
    machine.until_it_has_missed(back)
    machine.at_once("lost_to_s", back)
    machine.until_it_is(back, "device-lost", then="device-found")
    machine.until_it_is(reset, "counter-reset")
    machine.until_the_others_have(2)
    devices, least = machine.end(job)
    for device in (back, gone):
        assert devices[device]["coverage"] < least
    uuids = machine.node.uuids
    assert {uuid for _, uuid in machine.events("device-lost")} == {uuids[back], uuids[gone]}
    assert {uuid for _, uuid in machine.events("counter-reset")} == {uuids[reset]}
    assert devices[gone]["energy_kwh"] > 0  # what was measured stays
    # A counter runs on while its GPU is away; where one is reset, no energy is negative.
    for index in range(machine.node.devices):
        assert index == reset or compared(machine.wrapper, machine.node, index).is_true()
    with closing(sqlite3.connect(machine.wrapper.ledger)) as db:
        assert db.execute("select min(energy_j) from windows").fetchone()[0] >= 0
    seconds = machine.wrapper.seconds()[uuids[reset]]
    assert len(seconds) == len(set(seconds))


def test_a_hanging_call_holds_up_neither_the_others_nor_the_job(machine: Machine) -> None:
    for_a_while, for_ever = 3, 5
    job = machine.start(**{f"d{device}_hang_s": -1 for device in (for_a_while, for_ever)})
    machine.at_once("hang_from_s", for_a_while, for_ever)
    machine.until_the_others_have(3)  # while they hang
    machine.until_it_is(for_a_while, "device-silent")
    machine.until_it_is(for_ever, "device-silent")
    machine.until_it_has_missed(for_a_while)
    machine.node.set(**{f"d{for_a_while}_hang_s": 0.001})
    machine.until_it_is(for_a_while, "device-silent", then="device-found")
    machine.until_the_others_have(2)
    devices, least = machine.end(job)
    assert devices[for_a_while]["coverage"] < least
    assert devices[for_ever]["coverage"] < least


def test_calls_that_fail_now_and_then_cost_nothing(machine: Machine) -> None:
    job = machine.start(unknown_p=0.1)
    machine.until_the_others_have(2)
    machine.end(job)
    machine.no_energy_is_missing()
    assert machine.events("device-lost", "counter-reset") == []


def is_counted(second: Second) -> bool:
    return second.flags == Flag.COUNTER


def is_watched(second: Second) -> bool:
    """Whether no stretch of it was without any reading: there no sensor can be judged."""
    return is_read(second) and Flag.GAP not in second.flags


def test_every_gpu_has_a_fault_of_its_own_and_none_costs_the_truth(
    wrapper: Wrapper, nvml_stub: NvmlStub
) -> None:
    """Values and calls that fail by chance, a counter that lies, a power that cannot be.

    The power sensor sees two whole periods of the square waves, so what it gives a hole of the
    counter as shape is flat, and energy is off by `Wave.swing_j` however long a hole is. That the
    counters are believed shows in their gain. It is small, for power stands from a counter's
    refresh to the poll that reads it.
    """
    square = [Wave("square", 240.0, 140.0, 0.0125, 0.004 * i) for i in range(3)]
    constant = [Wave("constant", 200.0 + 10 * i, 0.0, 1.0) for i in range(4)]
    gains = [1.01, 1.01, 1.01, 1.0, 1.0, 1.0, 1.0]
    node = nvml_stub.start(waves=[*square, *constant])
    machine = Machine(wrapper, node)
    node.set(
        **{f"d{index}_counter_scale": gains[index] for index in range(3)},
        d3_frozen_from_s=0.001,
        d5_counter_scale=0.001,
        d6_counter=0,
    )
    job = wrapper.hold("sh", "-c", "exit 9")
    job.until_recorded(2)
    # Not before: by how they answer when they are opened it is chosen how they are read.
    node.set(d0_counter_fail_p=0.5, d1_power_fail_p=0.5, d2_call_fail_p=0.5)
    # The jump and the impossible samples come while the job runs.
    now_s = node.now_s()
    node.set(d4_jump_at_s=now_s, d4_jump_j=1e6, d6_absurd_from_s=now_s, d6_absurd_w=3.7e6)
    doubted = {
        (3, "counter-frozen"),
        (4, "counter-jump"),
        (5, "counter-slow"),
        (6, "power-impossible"),
    }
    wait_until(lambda: machine.doubts() >= doubted)
    node.set(d6_absurd_to_s=node.now_s())
    kinds = [*[is_counted] * 3, *[is_watched] * 4]

    def fewest() -> int:
        """Of the seconds of any device that can be compared."""
        found = [whole_seconds(wrapper, uuid) for uuid in node.uuids]
        return min(sum(map(kind, of_it)) for kind, of_it in zip(kinds, found, strict=True))

    wait_until(lambda: fewest() >= 4)
    assert job.end().returncode == 9
    assert machine.doubts() == doubted
    qualities = [device["quality"] for device in wrapper.json("show")["devices"]]
    assert qualities == [*["counter"] * 3, "power", "counter", "power", "power"]
    for index, kind in enumerate(kinds):
        found = compared(wrapper, node, index, kind)
        assert found.is_true(rel=1e-3, gain=gains[index]), (index, found)


def test_a_power_that_the_gpu_cannot_draw_is_unknown_and_its_coverage_says_so(
    wrapper: Wrapper, nvml_stub: NvmlStub
) -> None:
    """593 W, steadily, on a laptop's GPU that is limited to 150 W, at 0 % utilisation."""
    node = nvml_stub.start(2, d0_counter=0, d0_limit_w=150, d0_util_pct=0)
    node.waves[0] = Wave("constant", 593.0, 0.0, 1.0)
    machine = Machine(wrapper, node)
    node.set()
    job = wrapper.hold()
    wait_until(lambda: machine.doubts() == {(0, "power-impossible")})
    assert job.end().returncode == 0
    doubted, _ = wrapper.json("show")["devices"]
    assert (doubted["energy_kwh"], doubted["coverage"]) == (None, 0)


def test_a_driver_reload_is_survived(machine: Machine) -> None:
    job = machine.start()
    machine.node.set(reload_at_s=machine.node.now_s(), reload_s=1e6)
    wait_until(lambda: len(machine.events("device-lost")) == 8)
    machine.node.set(reload_s=0.001)
    wait_until(lambda: len(machine.events("device-found")) >= 8)
    machine.until_the_others_have(2)
    devices, _ = machine.end(job)
    assert all(device["energy_kwh"] > 0 for device in devices)


def test_only_what_the_job_can_see_is_recorded(machine: Machine) -> None:
    uuids = machine.node.uuids
    machine.wrapper.environ = {
        **machine.node.env,
        "CUDA_VISIBLE_DEVICES": f"{uuids[5]},{uuids[2][:12]}",
    }
    assert machine.wrapper.record().returncode == 0
    shown = machine.wrapper.json("show")
    assert {d["uuid"] for d in shown["devices"]} == {uuids[5], uuids[2]}


def test_a_meter_that_was_asked_for_and_does_not_work_is_said(
    wrapper: Wrapper, nvml_stub: NvmlStub
) -> None:
    wrapper.meter = "nvml"
    wrapper.environ = nvml_stub.start(2, init_error=9).env
    done = wrapper.run("sh", "-c", "exit 3")  # --quiet
    assert done.returncode == 3
    assert "no power is recorded: The meter nvml cannot work here" in done.stderr
    (run,) = wrapper.json("runs")["runs"]
    assert (run["exit_code"], run["devices"], run["energy_kwh"]) == (3, 0, None)


def test_a_meter_without_a_device_is_said(wrapper: Wrapper, nvml_stub: NvmlStub) -> None:
    wrapper.meter = "nvml"
    wrapper.environ = {**nvml_stub.start(2).env, "CUDA_VISIBLE_DEVICES": ""}
    done = wrapper.run("sh", "-c", "exit 3")
    assert done.returncode == 3
    assert "no power is recorded: " in done.stderr


@pytest.mark.parametrize("meter", ["nvml", "auto", "nvml,cpu-model"])
def test_a_required_meter_that_is_missing_keeps_the_job_from_starting(
    wrapper: Wrapper, nvml_stub: NvmlStub, meter: str
) -> None:
    wrapper.meter = meter
    wrapper.environ = nvml_stub.start(2, init_error=9).env
    done = wrapper.run("touch", str(wrapper.folder / "started"), options=("-q", "--require-meter"))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "--require-meter: " in done.stderr
    assert sorted(wrapper.folder.iterdir()) == []


def test_a_required_meter_that_is_there_is_used(wrapper: Wrapper, nvml_stub: NvmlStub) -> None:
    wrapper.meter = "auto"
    wrapper.environ = nvml_stub.start(2).env
    done = wrapper.run("sh", "-c", "exit 3", options=("-q", "--require-meter"))
    assert (done.returncode, done.stderr) == (3, "")


def test_which_devices_the_job_uses_is_recorded(wrapper: Wrapper, nvml_stub: NvmlStub) -> None:
    wrapper.meter = "nvml"
    node = nvml_stub.start(3)
    wrapper.environ = node.env
    job = wrapper.hold("sh", "-c", "echo $PPID > pid", cwd=wrapper.folder)
    pid = wait_until(lambda: (text := _text(wrapper.folder / "pid")) and int(text))
    node.set(d0_pid=pid, d2_pid=pid)

    def used() -> set[str]:
        try:
            with closing(sqlite3.connect(f"file:{wrapper.ledger}?mode=ro", uri=True)) as ledger:
                return {uuid for (uuid,) in ledger.execute(_USED, [int(Flag.USED)])}
        except sqlite3.OperationalError:  # it is just being made, or is not there
            return set()

    job.until_recorded()
    wait_until(lambda: len(used()) == 2)
    assert job.end().returncode == 0
    assert used() == {node.uuids[0], node.uuids[2]}


_USED = """
select devices.uuid from windows
join sensors
    on sensors.recording_key = windows.recording_key and sensors.key = windows.sensor_key
join devices on devices.key = sensors.device_key
where windows.flags & ?
"""


def _text(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def test_a_driver_that_hangs_when_opened_does_not_hold_up_a_job_that_ends(
    wrapper: Wrapper, nvml_stub: NvmlStub
) -> None:
    wrapper.meter = "nvml"
    wrapper.environ = nvml_stub.start(2, init_hang_s=100_000).env
    done = wrapper.run("sh", "-c", "exit 3", options=())
    assert done.returncode == 3
    # A machine that is very busy may be too late to say so, but not to record it.
    wait_until(lambda: [run["exit_code"] for run in wrapper.json("runs")["runs"]] == [3])
    (run,) = wrapper.json("runs")["runs"]
    assert (run["status"], run["exit_code"], run["energy_kwh"]) == ("failed", 3, None)


def test_whoever_opens_and_closes_the_ledger_meanwhile_takes_nothing_from_it(
    wrapper: Wrapper,
) -> None:
    assert wrapper.run("true").returncode == 0
    job = wrapper.hold(options=("--quiet", "--name", "long"))
    for number in range(3):
        job.until_recorded(2 * number + 1)
        # SQLite's last user removes the write-ahead log; it must see that the recorder is there.
        with closing(sqlite3.connect(wrapper.ledger)) as other:
            other.execute("create table if not exists theirs (x)")
            other.execute("insert into theirs values (1)")
            other.commit()
    before = wrapper.seconds()
    assert job.end().returncode == 0
    shown = wrapper.json("show", "long")
    assert (shown["status"], shown["exit_code"]) == ("completed", 0)
    for uuid, seconds in wrapper.seconds().items():
        assert seconds == list(range(seconds[0], seconds[-1] + 1, 1000))
        assert seconds[: len(before[uuid])] == before[uuid]
