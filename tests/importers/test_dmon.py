"""`nvidia-smi dmon` and `dcgmi dmon`: headers that repeat, missing values, counters, no times."""

from __future__ import annotations

from pathlib import Path

import pytest

from carbontrack.importers.model import FileOptions
from carbontrack.vocabulary import Quality
from tests.importers.files import read, refusal

DMON = "# gpu    pwr  gtemp     sm\n# Idx      W      C      %\n"
DATED = "#Date       Time        gpu   pwr gtemp\n#YYYYMMDD   HH:MM:SS    Idx     W     C\n"
DCGMI = "#Entity   POWER      TOTEC     GPUTL\nID         W          mJ              \n"
GIVEN = FileOptions(tz="UTC", start="2026-01-31T12:00:00", interval_s=2.0)


def test_times_of_their_own(tmp_path: Path) -> None:
    rows = "".join(f" 20210102   19:12:{s:02d}      0    {37 + s}    19\n" for s in range(5))
    found = read(tmp_path, DATED + rows + DATED + rows.replace(":12:", ":13:"))
    assert found.kind == "dmon"
    assert found.energy_j == pytest.approx(2 * 4 * 39)
    assert found.first.started_ns == 1609614720 * 10**9


def test_without_times_each_sample_is_of_its_interval(tmp_path: Path) -> None:
    rows = "".join(f"    {gpu}    {100 + gpu}     52      5\n" for _ in range(5) for gpu in (0, 1))
    text = DMON + rows + DMON + rows.replace("101", "  -")
    assert "Give --start" in refusal(tmp_path, text)
    found = read(tmp_path, text, GIVEN)
    assert found.by_device == {"GPU 0": 2000, "GPU 1": 1010}  # of 1 the later ones are missing
    assert found.duration_s == 20


def test_a_counter_is_better_than_watts(tmp_path: Path) -> None:
    rows = [
        f"GPU {gpu}   56.4   {10**10 + s * (gpu + 1) * 30_000}   0"
        for s in range(4)
        for gpu in (0, 1)
    ]
    rows.insert(3, "GPU 0   N/A   N/A   N/A")
    found = read(
        tmp_path, DCGMI + "\n".join(rows), FileOptions(tz="UTC", start=GIVEN.start, interval_s=1)
    )
    assert found.by_device == {"GPU 0": pytest.approx(90), "GPU 1": pytest.approx(180)}
    assert {device.quality for device in found.first.devices} == {Quality.COUNTER}


def test_times_of_day_go_on_over_midnight(tmp_path: Path) -> None:
    head = "#Time        gpu   pwr\n#HH:MM:SS    Idx     W\n"
    text = head + "23:59:59 0 50\n00:00:00 0 50\n00:00:01 0 50\n"
    assert "times without a date" in refusal(tmp_path, text)
    found = read(tmp_path, text, GIVEN)
    assert found.energy_j == pytest.approx(100)
    assert found.first.started_ns == 1769903999 * 10**9


def test_broken_lines_are_named(tmp_path: Path) -> None:
    rows = "    0    100     52      5\n" * 3 + "    0    100\n" + "    0    1oo     52      5\n"
    found = read(tmp_path, DMON + rows, GIVEN)
    assert [row for row, _ in found.tally.first] == [6, 7]
    assert found.energy_j == 600


def test_what_is_refused(tmp_path: Path) -> None:
    assert "no power column" in refusal(tmp_path, "# gpu  sm\n# Idx  %\n 0 5\n 0 5\n")
    assert "one sample" in refusal(tmp_path, DMON + "    0    100     52      5\n", GIVEN)
    never = FileOptions(tz="UTC", start=GIVEN.start, interval_s=0)
    assert "must be above 0" in refusal(tmp_path, DMON + "    0    100     52      5\n" * 2, never)


def test_a_power_that_cannot_be_read_is_named_where_none_can(tmp_path: Path) -> None:
    lines = "".join(f"2025013{n} 12:00:00 0 {w}\n" for n, w in enumerate(("3,5", "3_0"), start=0))
    why = refusal(tmp_path, "#Date Time gpu pwr\n#YYYYMMDD HH:MM:SS Idx W\n" + lines)
    assert "Row 3: '3,5' is not a number: write 3.5." in why
