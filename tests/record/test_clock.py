"""Clocks that step and machines that sleep: durations stay true and windows never overlap."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from carbontrack.meters.base import Device, Kind, Quality, Reading
from carbontrack.record.window import Clock, Window, WindowBuilder
from carbontrack.units import NS_PER_S
from tests.fixtures.wrap import PATIENCE_S, Wrapper

Until = Callable[[Callable[[], Any]], Any]
SHIM = Path(__file__).resolve().parent.parent / "clock_shim" / "clock_shim.c"


@pytest.fixture(scope="module")
def clock_shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that shifts the wall clock of whoever loads it."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here to build the stand-in clock")
    library = tmp_path_factory.mktemp("clock") / "clock_shim.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, SHIM, "-ldl"], check=True)
    return library


@pytest.mark.parametrize("step_s", [3600, -3600], ids=["an hour forward", "an hour back"])
def test_a_step_of_the_wall_clock_changes_no_duration(
    wrapper: Wrapper, until: Until, clock_shim: Path, tmp_path: Path, step_s: int
) -> None:
    shift = tmp_path / "shift"
    shift.write_text("0")
    wrapper.environ = {"LD_PRELOAD": str(clock_shim), "CLOCK_SHIM_FILE": str(shift)}
    job = wrapper.start("sleep", "7")
    time.sleep(3)
    shift.write_text(str(step_s))
    time.sleep(0.5)
    # The heartbeat steps with the clock that it is compared with: at the next one at the latest.
    until(lambda: wrapper.json("runs")["runs"][0]["status"] == "running")
    assert job.poll() is None
    _, err = job.communicate(timeout=PATIENCE_S)
    assert (job.returncode, err) == (0, "")

    shown = wrapper.json("show")
    assert shown["status"] == "completed"
    assert shown["duration_s"] == pytest.approx(7, abs=1)
    assert shown["coverage"] > 0.95
    for starts_ms in seconds_of(wrapper.ledger):
        assert [b - a for a, b in pairwise(starts_ms)] == [1000] * (len(starts_ms) - 1)


@pytest.mark.parametrize(
    ("zone", "change"),
    [
        ("Europe/Berlin", datetime(2027, 3, 28, 1, tzinfo=UTC)),
        ("America/New_York", datetime(2027, 11, 7, 6, tzinfo=UTC)),
    ],
    ids=["clocks go forward", "clocks go back"],
)
def test_a_run_through_the_night_of_the_clock_change_is_as_long_as_any(
    wrapper: Wrapper, clock_shim: Path, tmp_path: Path, zone: str, change: datetime
) -> None:
    shift = tmp_path / "shift"
    shift.write_text(str(round(change.timestamp() - time.time()) - 3))
    wrapper.environ = {
        "TZ": zone,
        "LD_PRELOAD": str(clock_shim),
        "CLOCK_SHIM_FILE": str(shift),
    }
    assert wrapper.run("sleep", "6").returncode == 0
    shown = wrapper.json("show")
    begun, ended = (datetime.fromisoformat(shown[name]) for name in ("started", "ended"))
    assert begun < change < ended
    assert shown["duration_s"] == pytest.approx(6, abs=1)
    assert shown["coverage"] > 0.95
    for starts_ms in seconds_of(wrapper.ledger):
        assert [b - a for a, b in pairwise(starts_ms)] == [1000] * (len(starts_ms) - 1)
    local = begun.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M:%S")
    assert local in wrapper.carbontrack("show").stdout, "people read their own clock"


def seconds_of(ledger: Path) -> list[list[int]]:
    """The starts of the windows of 1 s, device by device."""
    connection = sqlite3.connect(ledger)
    rows = connection.execute(
        "select device_key, start_ms from windows where level = 1 order by device_key, start_ms"
    ).fetchall()
    connection.close()
    devices = sorted({device for device, _ in rows})
    assert len(devices) == 2
    return [[start for device, start in rows if device == wanted] for wanted in devices]


@pytest.mark.parametrize("counter", [True, False], ids=["counter", "power only"])
def test_a_suspend_is_a_gap_and_not_zero_power(counter: bool) -> None:
    """Ten minutes asleep at 100 W: the counter knows that energy, the power samples do not."""
    start_ns, asleep_s, power_w = 7 * NS_PER_S, 600.0, 100.0
    awake = [i / 10 for i in range(51)]
    times_s = [*awake, *(asleep_s + at for at in awake if asleep_s + at > awake[-1])]
    device = Device(
        uuid="GPU-1",
        kind=Kind.GPU,
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
