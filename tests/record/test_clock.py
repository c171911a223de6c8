"""Clocks that step and machines that sleep: durations stay true and windows never overlap."""

from __future__ import annotations

import json
import math
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from carbontrack.ledger.recorded_rows import Event, Step
from carbontrack.ledger.window import Window
from carbontrack.meters.base import Device, Reading
from carbontrack.record import set_clock
from carbontrack.record.logged import LoggedLines, LoggedStep
from carbontrack.record.reduce import Clock, WindowBuilder
from carbontrack.units import NS_PER_S, wall_ahead_ns
from carbontrack.vocabulary import DeviceKind, EventKind, Quality
from tests.fixtures import tools
from tests.fixtures.wrap import Wrapper

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


def test_what_a_job_logs_after_the_clock_was_set_is_dated_as_its_windows_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ahead_ns = [1_700_000_000 * NS_PER_S]
    monkeypatch.setattr(set_clock, "wall_ahead_ns", lambda: ahead_ns[0])
    looking = set_clock.SetClock(Clock(1_700_000_000_000 + 50, 50_000_000))

    def step(time_ms: int, began_ms: int | None = None) -> LoggedStep:
        return LoggedStep(Step(1, time_ms), began_ms=began_ms)

    lines = LoggedLines([step(9_000, 8_000), step(9_500)], [Event(9_700, "eval", "")])
    assert looking.look() == []
    assert looking.dated(lines) == lines
    ahead_ns[0] -= 499_000_000  # slewed, or read in a bad moment
    assert looking.look() == []
    ahead_ns[0] = (1_700_000_000 - 7) * NS_PER_S
    (event,) = looking.look()
    assert (event.kind, event.data) == (EventKind.CLOCK_SET, {"set_ms": -7_000})
    assert "set back by 7.0 s" in event.message
    dated = looking.dated(lines)
    assert dated.steps == [step(16_000, 15_000), step(16_500)]
    assert [one.time_ms for one in dated.events] == [16_700]
    assert looking.look() == []
    ahead_ns[0] = 1_700_000_000 * NS_PER_S
    (event,) = looking.look()
    assert event.data == {"set_ms": 0}
    assert looking.dated(lines) == lines


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
