"""Clocks that step and machines that sleep: durations stay true and windows never overlap."""

from __future__ import annotations

import json
import math
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from carbontrack.ledger.window import Window
from carbontrack.meters.base import Device, Reading
from carbontrack.record import clock
from carbontrack.record.clock import Clock
from carbontrack.record.reduce import WindowBuilder
from carbontrack.units import NS_PER_S, wall_ahead_ns
from carbontrack.vocabulary import DeviceKind, EventKind, Quality
from tests.fixtures import tools
from tests.fixtures.wrap import PATIENCE_S, Wrapper

Until = Callable[[Callable[[], Any]], Any]
SHIM = Path(__file__).resolve().parent.parent / "clock_shim" / "clock_shim.c"


@pytest.fixture(scope="module")
def clock_shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that shifts the wall clock of whoever loads it."""
    tools.need(tools.COMPILER)
    library = tmp_path_factory.mktemp("clock") / "clock_shim.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, SHIM, "-ldl"], check=True)
    return library


@pytest.mark.parametrize("step_s", [3600, -3600], ids=["an hour forward", "an hour back"])
def test_a_step_of_the_wall_clock_changes_no_duration(
    wrapper: Wrapper, until: Until, clock_shim: Path, tmp_path: Path, step_s: int
) -> None:
    shift = tmp_path / "shift"
    shift.write_text("0")
    wrapper.environ = {"LD_PRELOAD": str(clock_shim), "CLOCK_SHIM_FILE": str(shift)}
    began_s = time.monotonic()
    job = wrapper.hold()
    before = max(map(len, job.until_recorded(2).values()))
    shift.write_text(str(step_s))
    # The heartbeat goes on by the clock as it was; what looks has the one that was set.
    until(lambda: shown_by_their_clock(wrapper)["status"] == "running")
    job.until_recorded(before + 3)
    going = shown_by_their_clock(wrapper)
    assert going["status"] == "running"
    assert before + 3 - 1 <= going["duration_s"] <= time.monotonic() - began_s
    assert going["coverage"] > 0.5
    done = job.end()
    assert (done.returncode, done.stderr) == (0, "")

    shown = shown_by_their_clock(wrapper)
    assert shown["status"] == "completed"
    assert before + 3 - 1 <= shown["duration_s"] <= time.monotonic() - began_s
    every_second_once(wrapper, shown)
    own_ms = abs(wrapper.clock.set_ms(wall_ahead_ns()))  # of the machine itself, meanwhile
    sets = [one for one in shown["events"] if one["kind"] == EventKind.CLOCK_SET]
    (event,) = sets if own_ms < 100 else sets[:1]
    assert event["data"]["set_ms"] == pytest.approx(step_s * 1000, abs=100 + own_ms)
    assert shown["started"] <= event["time"] <= shown["ended"]


def test_a_clock_that_was_set_is_an_event_and_what_was_written_then_may_be_of_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ahead_ns = [1_700_000_000 * NS_PER_S]
    monkeypatch.setattr(clock, "wall_ahead_ns", lambda: ahead_ns[0])
    looking = clock.SetClock(Clock(1_700_000_000_000 + 50, 50_000_000))
    assert looking.look() == []
    ahead_ns[0] -= 499_000_000  # slewed, or read in a bad moment
    assert looking.look() == []
    assert looking.sets_ms == (0,)
    ahead_ns[0] = (1_700_000_000 - 7) * NS_PER_S
    (event,) = looking.look()
    assert (event.kind, event.data) == (EventKind.CLOCK_SET, {"set_ms": -7_000})
    assert "set back by 7.0 s" in event.message
    assert looking.sets_ms == (-7_000, 0)
    assert looking.look() == []
    assert looking.sets_ms == (-7_000,)
    ahead_ns[0] = 1_700_000_000 * NS_PER_S
    (event,) = looking.look()
    assert event.data == {"set_ms": 0}
    assert looking.sets_ms == (0, -7_000)


LOGS_STEPS = """
import os, sys, time, carbontrack
step = 0
while not os.path.exists(sys.argv[1]):
    step += 1
    carbontrack.log_step(step, before_ms=time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000)
    time.sleep(0.05)
"""


@pytest.mark.parametrize("step_s", [3600, -3600], ids=["an hour forward", "an hour back"])
def test_steps_are_dated_as_the_windows_are_whenever_the_clock_is_set(
    wrapper: Wrapper, until: Until, clock_shim: Path, tmp_path: Path, step_s: int
) -> None:
    shift, stop = tmp_path / "shift", tmp_path / "stop"
    shift.write_text("0")
    wrapper.environ = {"LD_PRELOAD": str(clock_shim), "CLOCK_SHIM_FILE": str(shift)}
    job = wrapper.start(sys.executable, "-c", LOGS_STEPS, str(stop))
    until(lambda: len(steps_of(wrapper)) > 10)
    shift.write_text(str(step_s))
    since = len(steps_of(wrapper))
    until(lambda: len(steps_of(wrapper)) > since + 50)
    stop.touch()
    _, said = job.communicate(timeout=PATIENCE_S)
    assert "not within the run" not in said
    steps = steps_of(wrapper)
    # Of each the moment is known to lie between its own and that of the next.
    began_ms = [time_ms - before_ms for time_ms, before_ms in steps]
    before_next_ms = [time_ms - after_ms for (time_ms, _), (_, after_ms) in pairwise(steps)]
    assert max(before_next_ms) <= min(began_ms) + 5
    assert wrapper.json("show")["steps"] == len(steps)


# Sets the clock while a block goes on, once seconds before it are recorded, and then after it.
BLOCK = """
import os, sqlite3, sys, time, carbontrack
def last_ms():
    try:
        with sqlite3.connect(f"file:{os.environ['CARBONTRACK_DB']}?mode=ro", uri=True) as ledger:
            return ledger.execute("select max(start_ms) from windows where level = 1").fetchone()[0]
    except sqlite3.OperationalError:  # it is just being made, or is not there
        return 0
def record(ms):
    until_ms = (last_ms() or 0) + ms
    while (last_ms() or 0) < until_ms: time.sleep(0.05)
def boot_s():
    return time.clock_gettime(time.CLOCK_BOOTTIME)
def set_clock(text):
    with open(os.environ["CLOCK_SHIM_FILE"], "w") as file: file.write(text)
record(2000)
before_s, block = boot_s(), carbontrack.track("block").start()
begun_s = boot_s()
record(3000)
set_clock(sys.argv[1])
record(5000)
ending_s = boot_s()
block.stop()
ended_s = boot_s()
set_clock("0")
record(3000)
print(ending_s - begun_s, block._measure().estimate.duration_s, ended_s - before_s)
print(block.energy_kwh, block.coverage)
"""


@pytest.mark.parametrize("step_s", [3600, -3600], ids=["an hour forward", "an hour back"])
def test_a_block_is_measured_in_its_time_whenever_the_clock_is_set(
    wrapper: Wrapper, clock_shim: Path, tmp_path: Path, step_s: int
) -> None:
    shift = tmp_path / "shift"
    shift.write_text("0")
    wrapper.environ = {"LD_PRELOAD": str(clock_shim), "CLOCK_SHIM_FILE": str(shift)}
    done = wrapper.run(sys.executable, "-c", BLOCK, str(step_s))
    assert done.returncode == 0, done.stderr
    times, used = done.stdout.splitlines()
    least_s, duration_s, most_s = map(float, times.split())
    assert least_s - 0.01 <= duration_s <= most_s + 0.01
    energy_kwh, coverage = map(float, used.split())
    assert energy_kwh > 0 and coverage > 0.5
    (run,) = wrapper.json("runs")["runs"]
    assert energy_kwh < run["energy_kwh"]


def steps_of(wrapper: Wrapper) -> list[tuple[int, int]]:
    """When each step was logged: as the ledger has it, and by a clock that is never set; in ms."""
    with closing(sqlite3.connect(wrapper.ledger)) as ledger, suppress(sqlite3.OperationalError):
        return ledger.execute(
            "select time_ms, json_extract(extra, '$.before_ms') from steps order by step"
        ).fetchall()
    return []


@pytest.mark.parametrize(
    ("zone", "change"),
    [
        ("Europe/Berlin", datetime(2027, 3, 28, 1, tzinfo=UTC)),
        ("America/New_York", datetime(2027, 11, 7, 6, tzinfo=UTC)),
    ],
    ids=["clocks go forward", "clocks go back"],
)
def test_a_run_through_the_night_of_the_clock_change_is_as_long_as_any(
    until: Until,
    clock_shim: Path,
    tmp_path: Path,
    zone: str,
    change: datetime,
) -> None:
    shift = tmp_path / "shift"
    environ = {"TZ": zone, "LD_PRELOAD": str(clock_shim), "CLOCK_SHIM_FILE": str(shift)}
    lead_s = 3
    for attempt in range(4):  # a machine may be so busy that the run begins after the change
        wrapper = Wrapper(tmp_path / str(attempt), environ=environ)
        wrapper.folder.mkdir()
        shift.write_text(str(round(change.timestamp() - time.time()) - lead_s))
        began_s = time.monotonic()
        job = wrapper.hold()
        until(partial(is_recorded_until, wrapper, change.timestamp() * 1000 + 1000))
        assert job.end().returncode == 0
        longest_s = time.monotonic() - began_s
        shown = wrapper.json("show")
        begun, ended = (datetime.fromisoformat(shown[name]) for name in ("started", "ended"))
        if begun < change:
            break
        lead_s = 2 * (lead_s + math.ceil((begun - change).total_seconds()))
    assert begun < change < ended
    assert (ended - begun).total_seconds() == pytest.approx(shown["duration_s"], abs=0.01)
    assert shown["duration_s"] <= longest_s
    every_second_once(wrapper, shown)
    local = begun.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M:%S")
    assert local in wrapper.carbontrack("show").stdout, "people read their own clock"


def shown_by_their_clock(wrapper: Wrapper) -> dict[str, Any]:
    """The run as a command shows it that loads the shim, too."""
    done = wrapper.carbontrack("show", "--format", "json")
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


def is_recorded_until(wrapper: Wrapper, time_ms: float) -> bool:
    return any(second_ms > time_ms for of_it in wrapper.seconds().values() for second_ms in of_it)


def every_second_once(wrapper: Wrapper, shown: dict[str, Any]) -> None:
    """From the first reading to the end, without a gap and without two at the same time."""
    recorded = wrapper.seconds()
    assert len(recorded) == 2
    ended_ms = datetime.fromisoformat(shown["ended"]).timestamp() * 1000
    for starts_ms in recorded.values():
        assert [b - a for a, b in pairwise(starts_ms)] == [1000] * (len(starts_ms) - 1)
        assert starts_ms[-1] <= ended_ms


@pytest.mark.parametrize("counter", [True, False], ids=["counter", "power only"])
def test_a_suspend_is_a_gap_and_not_zero_power(counter: bool) -> None:
    """Ten minutes asleep at 100 W: the counter knows that energy, the power samples do not."""
    start_ns, asleep_s, power_w = 7 * NS_PER_S, 600.0, 100.0
    awake = [i / 10 for i in range(51)]
    times_s = [*awake, *(asleep_s + at for at in awake if asleep_s + at > awake[-1])]
    device = Device(
        uuid="GPU-1",
        kind=DeviceKind.GPU,
        name="test",
        meter="test",
        quality=Quality.COUNTER if counter else Quality.POWER,
        field="test",
        scope="gpu",
    )
    builder = WindowBuilder(device, Clock(1_700_000_000_000, start_ns), start_ns=start_ns)
    windows: list[Window] = []
    for at_s in times_s:
        energy_j = power_w * at_s if counter else None
        windows += builder.add(Reading(start_ns + round(at_s * NS_PER_S), energy_j, power_w))
    windows += builder.finish(start_ns + round(times_s[-1] * NS_PER_S), None)

    energy_j = sum(w.energy_j for w in windows if w.energy_j is not None)
    sampled_s = sum(w.sampled_s for w in windows)
    assert sampled_s == pytest.approx(10, abs=1.1)  # a reading is held for a second at most
    if counter:
        assert energy_j == pytest.approx(power_w * times_s[-1])
    else:
        assert energy_j == pytest.approx(power_w * sampled_s)
    starts_ms = [w.start_ms for w in windows]
    assert starts_ms == sorted(set(starts_ms))
    assert all(0 <= w.sampled_s <= 1 and w.energy_s >= 0 for w in windows)
    power_means_w = [w.energy_j / w.energy_s for w in windows if w.energy_j and w.energy_s]
    assert power_means_w == pytest.approx([power_w] * len(power_means_w))
