"""What the tools wrote down is read in the units that they wrote it in."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.tools import tools
from carbontrack.units import J_PER_KWH

_CODECARBON = (
    "timestamp,project_name,gpu_energy,cpu_energy\n2026-01-01,a,{first},9\n2026,a,{last},9\n"
)
_CARBONTRACKER = """
2026-01-01 10:00:00 - Epoch 1:
2026-01-01 10:00:00 - Duration: 1:00:30.50
2026-01-01 10:00:00 - Average power usage (W) for gpu: 200.0
2026-01-01 10:00:00 - Average power usage (W) for cpu: 900.0
"""


def written(folder: Path, tool: str, files: dict[str, str]) -> float | None:
    """What is read of a tool that left these files."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (found,) = (one for one in tools(folder / "peers") if one.name == tool)
    return found.energy_j(folder)


def test_codecarbons_last_line_counts_and_is_kwh(tmp_path: Path) -> None:
    text = _CODECARBON.format(first=1, last=0.5)
    assert written(tmp_path, "CodeCarbon", {"emissions.csv": text}) == 0.5 * J_PER_KWH


def test_carbontrackers_is_mean_power_times_duration(tmp_path: Path) -> None:
    energy_j = written(tmp_path, "carbontracker", {"logs/1_carbontracker.log": _CARBONTRACKER})
    assert energy_j == pytest.approx(200 * 3630.5)


def test_zeus_has_joules_for_each_gpu(tmp_path: Path) -> None:
    files = {"zeus.json": json.dumps({"0": 10.5, "1": 4.5})}
    assert written(tmp_path, "Zeus", files) == 15.0


def test_trackios_last_reading_of_each_gpu_counts(tmp_path: Path) -> None:
    folder = tmp_path / "trackio"
    folder.mkdir()
    with closing(sqlite3.connect(folder / "bench.db")) as database:
        database.execute("create table system_metrics (metrics)")
        for row in (
            {"gpu/0/energy_consumed": 1.0, "gpu/1/energy_consumed": 2.0},
            {"cpu/utilization": 9.0},
            {"gpu/0/energy_consumed": 10.5, "gpu/1/energy_consumed": 4.5},
        ):
            database.execute("insert into system_metrics values (?)", [json.dumps(row).encode()])
        database.commit()
    assert written(tmp_path, "Trackio", {}) == 15.0


@pytest.mark.parametrize("tool", ["carbontrack", "CodeCarbon", "carbontracker", "Zeus", "Trackio"])
def test_what_wrote_nothing_has_no_energy(tmp_path: Path, tool: str) -> None:
    assert written(tmp_path, tool, {}) is None
