"""W&B, carbontracker, Zeus, eco2AI and MLPerf: each in the layout that it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from carbontrack.importers.carbontracker import PUE
from carbontrack.importers.model import FileOptions
from carbontrack.units import J_PER_KWH
from carbontrack.vocabulary import DeviceKind, Quality
from tests.importers.files import read, refusal

GIVEN = FileOptions(tz="UTC", start="2026-01-31T12:00:00")


def wandb_row(at: int, runtime: int, *watts: float | None) -> str:
    powers = {f"system.gpu.{n}.powerWatts": w for n, w in enumerate(watts)}
    return json.dumps({**powers, "system.gpu.0.temp": 50, "_timestamp": at, "_runtime": runtime})


def test_a_row_of_wandb_is_the_mean_of_the_time_before_it(tmp_path: Path) -> None:
    rows = [wandb_row(1_582_070_941 + s, 28 + s, 30 + s, 10) for s in (0, 30, 60)]
    rows.insert(1, "not json")
    found = read(tmp_path, "\n".join(rows), FileOptions())
    assert found.kind == "wandb"
    assert found.by_device == {"gpu.0": 28 * 30 + 30 * 60 + 30 * 90, "gpu.1": 880}
    assert found.duration_s == 88
    assert [row for row, _ in found.tally.first] == [2]


def test_a_pause_or_a_missing_value_of_wandb_is_a_gap(tmp_path: Path) -> None:
    at = [0, 30, 60, 90, 5000, 5030]
    rows = [wandb_row(1_582_070_941 + s, 30 + s, None if s == 60 else 10) for s in at]
    assert read(tmp_path, "\n".join(rows)).energy_j == 5 * 300
    assert "no gpu.N.powerWatts" in refusal(tmp_path, wandb_row(1_582_070_941, 2))


BLOCK = """Actual consumption for {epochs} epoch(s):
\tTime:\t{time}
\tEnergy:\t{kwh} kWh
\tCO2eq:\t0.357451 g
"""


def test_only_what_carbontracker_measured_counts(tmp_path: Path) -> None:
    stamp = "2022-11-14 15:43:37 - CarbonTracker: \n"
    actual = BLOCK.format(epochs=1, time="0:00:53", kwh="0.003504")
    text = f"{stamp}{actual}{stamp}{actual.replace('Actual', 'Predicted')}{stamp}Finished.\n"
    found = read(tmp_path, text)
    assert found.kind == "carbontracker"
    assert found.energy_kwh == pytest.approx(0.003504 / PUE)
    assert found.first.facts["reported_kwh"] == 0.003504
    assert found.first.started_ns == (1668440617 - 53) * 10**9
    assert "Give --tz" in refusal(tmp_path, text, FileOptions())


def test_several_runs_in_one_output_follow_one_another(tmp_path: Path) -> None:
    blocks = [("8:00:33", "2.8"), ("1 day, 1:00:00", "4.3")]
    text = "CarbonTracker:\n".join(BLOCK.format(epochs=1, time=t, kwh=kwh) for t, kwh in blocks)
    assert "Give --start" in refusal(tmp_path, text)
    found = read(tmp_path, text, GIVEN)
    assert found.energy_kwh == pytest.approx(7.1 / PUE)
    first, second = found.runs
    assert first.ended_ns == second.started_ns
    assert second.ended_ns - second.started_ns == 25 * 3600 * 10**9


ZEUS = "start_time,window_name,elapsed_time,gpu0_energy,gpu1_energy\n"


def test_the_windows_of_zeus_are_one_run(tmp_path: Path) -> None:
    text = ZEUS + "13585625.5,a,10.0,2000,1000\n13585640.5,b,5.0,500,oops\n13585650.5,c,5,500,250\n"
    assert "Give --start" in refusal(tmp_path, text)
    found = read(tmp_path, text, GIVEN)
    assert found.by_device == {"gpu0": 2500, "gpu1": 1250}
    assert found.duration_s == 30
    assert found.first.started_ns == 1769860800 * 10**9
    assert [row for row, _ in found.tally.first] == [3]


def test_a_window_within_another_is_not_counted_again(tmp_path: Path) -> None:
    text = ZEUS + "1700000000,step,2,200,0\n1700000000,epoch,10,1000,0\n1700000003,step,2,200,0\n"
    assert read(tmp_path, text, FileOptions()).energy_j == 1000
    partly = text.replace("1700000003,step,2", "1700000003,step,20")
    assert "overlaps that of row 3 in part" in refusal(tmp_path, partly)


ECO = "id,project_name,epoch,start_time,duration(s),power_consumption(kWh),CPU_name,GPU_name\n"


def test_the_runs_of_eco2ai(tmp_path: Path) -> None:
    rows = [
        'a,Default project name,"epoch: 1, ",2024-04-18 09:27:22,600,0.01,"i5, TDP:28", A100\n',
        "b,nlp,,2024-04-18 09:27:30,300,0.005,i5, 0 device(s)\n",
        "b,nlp,,2024-04-18 09:27:30,400,0.006,i5, 0 device(s)\n",
        "c,nlp,,yesterday,400,0.006,i5, 0 device(s)\n",
    ]
    found = read(tmp_path, ECO + "".join(rows))
    assert found.kind == "eco2ai"
    assert [run.energy_j for run in found.runs] == [
        pytest.approx(0.01 * J_PER_KWH),
        pytest.approx(0.006 * J_PER_KWH),
    ]
    assert [run.name for run in found.runs] == [None, "nlp"]
    assert [device.name for device in found.first.devices] == ["i5, TDP:28, A100"]
    assert [row for row, _ in found.tally.first] == [5]


def test_the_epochs_of_eco2ai_are_one_run(tmp_path: Path) -> None:
    """Each has its own row, start and energy; a row that comes again, longer, is the same epoch."""
    epochs = [
        'a,x,"epoch: 1, ",2024-04-18 09:27:22,600.4,0.01,i5,\n',
        'a,x,"epoch: 2, ",2024-04-18 09:37:22,300.5,0.02,i5,\n',
        'a,x,"epoch: 2, ",2024-04-18 09:37:22,600.5,0.04,i5,\n',
        'a,x,"epoch: 3, ",2024-04-18 09:57:22,600,0.03,i5,\n',
    ]
    found = read(tmp_path, ECO + "".join(epochs))
    (run,) = found.runs
    assert found.energy_kwh == pytest.approx(0.08)
    assert run.ended_ns - run.started_ns == 2400 * 10**9
    assert run.rows == (2, 5)
    assert "epoch: 3" in run.facts["epoch"]


def test_kilowatt_hours_that_cannot_be_are_refused(tmp_path: Path) -> None:
    rows = "".join(f"r{n},x,,2023-10-23 23:12:{n:02d},6.5,1.5,CPU,\n" for n in range(10, 40))
    assert "830.8 kW, more than can be" in refusal(tmp_path, ECO + rows)


def test_the_readings_of_mlperf_are_at_the_wall(tmp_path: Path) -> None:
    lines = [
        f':::MLLOG {{"time_ms": {1_715_928_176_939 + 2000 * n}, "key": "power_reading", '
        f'"value": {5000 + 1000 * n}, "metadata": ""}}'
        for n in range(3)
    ]
    start = ':::MLLOG {"time_ms": 1715928176939, "key": "power_measurement_start", "value": null}'
    found = read(tmp_path, "\n".join([start, *lines, ':::MLLOG {"key": "power_reading"', "x"]))
    assert found.kind == "mlperf"
    assert found.energy_j == 24_000
    (device,) = found.first.devices
    assert (device.kind, device.quality) == (DeviceKind.NODE, Quality.POWER)
    assert [row for row, _ in found.tally.first] == [5]


def test_a_clock_that_was_not_set_is_a_row_of_every_kind(tmp_path: Path) -> None:
    good = [wandb_row(1_582_070_941 + s, 30 + s, 10) for s in (0, 30, 60)]
    for at in (10**12, 10**300, 5):
        found = read(tmp_path, "\n".join([*good, wandb_row(at, 90, 10)]))
        assert found.tally.rejected == 1
        assert found.duration_s == 90
    windows = "1700000000,step,2,200,0\n{at},step,2,200,0\n"
    for at in ("9e9", "1e300"):
        found = read(tmp_path, ZEUS + windows.format(at=at))
        assert (found.tally.rejected, found.duration_s) == (1, 2)


@pytest.mark.parametrize("power", [1e308, 2000.0, float("inf")])
def test_a_power_that_cannot_be_is_a_gap(tmp_path: Path, power: float) -> None:
    watts = [10.0, 10.0, power, 10.0, 10.0]
    rows = [wandb_row(1_582_070_941 + 30 * n, 30 + 30 * n, w) for n, w in enumerate(watts)]
    assert read(tmp_path, "\n".join(rows)).energy_j == 4 * 300
    lines = [f"20250131 12:00:0{n} 0 {w}\n" for n, w in enumerate(watts)]
    found = read(tmp_path, "#Date Time gpu pwr\n#YYYYMMDD HH:MM:SS Idx W\n" + "".join(lines))
    assert found.energy_j == 20
