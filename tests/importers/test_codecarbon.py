"""CodeCarbon's emissions.csv: rows that say more of one run, PUE inside, parts that do not sum."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carbontrack.importers.model import FileOptions
from carbontrack.units import J_PER_KWH
from carbontrack.vocabulary import DeviceKind, Quality
from tests.importers.files import read, refusal

COLUMNS = (
    "timestamp,project_name,run_id,experiment_id,duration,emissions,cpu_energy,gpu_energy,"
    "ram_energy,energy_consumed,country_iso_code,codecarbon_version,cpu_model,gpu_count,gpu_model,"
    "tracking_mode,pue"
)
SAME = "5b0fa12a-3dd7-45bb-9766-cc326314d9f1"  # as experiment_id, for everybody


def row(
    time: str = "10:10:00",
    run: str = "a1",
    seconds: float = 600,
    gpu: float = 0.05,
    total: str | None = None,
    gpus: int = 1,
    pue: float = 1.0,
    project: str = "codecarbon",
) -> str:
    parts = [0.007 * pue, gpu * pue, 0.003 * pue]
    energies = ",".join(map(repr, parts))
    total = repr(sum(parts)) if total is None else total
    return (
        f"2024-05-31T{time},{project},{run},{SAME},{seconds},0.006,{energies},{total},FRA,3.1.0,"
        f'"Intel(R) Xeon(R), 2.20GHz",{gpus},{gpus} x NVIDIA A100,machine,{pue}'
    )


def table(*rows: str, columns: str = COLUMNS) -> str:
    return "\n".join([columns, *rows]) + "\n"


def test_a_run_with_its_parts_as_devices(tmp_path: Path) -> None:
    found = read(tmp_path, table(row(project="meta/llama")))
    assert found.kind == "codecarbon"
    assert (found.first.name, found.first.project) == ("meta/llama", "meta/llama")
    assert found.energy_kwh == pytest.approx(0.06)
    devices = {d.kind: (d.name, d.quality) for d in found.first.devices}
    assert devices == {
        DeviceKind.GPU: ("NVIDIA A100", Quality.COUNTER),
        DeviceKind.CPU: ("Intel(R) Xeon(R), 2.20GHz", Quality.ESTIMATE),
        DeviceKind.DRAM: ("RAM", Quality.ESTIMATE),
    }
    assert found.first.started_ns == 1717149600 * 10**9
    assert found.duration_s == 600
    assert found.first.facts["intensity_kg_per_kwh"] == pytest.approx(0.1)
    assert (found.first.facts["country"], found.first.facts["version"]) == ("FRA", "3.1.0")


def test_rows_of_one_run_are_cumulative_and_the_longest_counts(tmp_path: Path) -> None:
    rows = [
        row("10:05:00", seconds=300, gpu=0.02),
        row("10:10:00", "b2", seconds=200),
        row("10:15:00", seconds=900, gpu=0.07),
        row("10:10:00", seconds=600, gpu=0.05),
    ]
    found = read(tmp_path, table(*rows))
    assert [run.energy_j for run in found.runs] == [
        pytest.approx(0.08 * J_PER_KWH),
        pytest.approx(0.06 * J_PER_KWH),
    ]
    assert found.first.rows == (2, 5)
    assert found.duration_s == 1100


def test_without_a_run_id_the_same_start_is_the_same_run(tmp_path: Path) -> None:
    rows = [
        row("10:05:00", "", seconds=300.4, gpu=0.02),
        row("10:06:01", "", seconds=360.9, gpu=0.03),
        row("10:06:01", "", seconds=90, gpu=0.01),
        row("10:06:01", "", seconds=360.9, gpu=0.03, project="other"),
    ]
    found = read(tmp_path, table(*rows))
    assert [run.energy_j for run in found.runs] == [
        pytest.approx(kwh * J_PER_KWH) for kwh in (0.04, 0.02, 0.04)
    ]


def test_version_1_has_the_experiment_for_the_run_and_no_parts(tmp_path: Path) -> None:
    columns = "timestamp,experiment_id,project_name,duration,emissions,energy_consumed,on_cloud"
    rows = [f"2021-04-18T15:29:14,e{n},codecarbon,210.5,0.004,0.007,N" for n in range(3)]
    found = read(tmp_path, table(*rows, rows[0], columns=columns))
    assert len(found.runs) == 3
    assert found.energy_kwh == pytest.approx(0.021)
    (device,) = found.first.devices
    assert (device.kind, device.quality, device.scope) == (DeviceKind.NODE, Quality.STATED, "node")
    constant = [row.replace("e0", SAME).replace("e1", SAME) for row in rows]
    constant[1] = constant[1].replace("15:29:14", "16:29:14")
    assert len(read(tmp_path, table(*constant, columns=columns)).runs) == 3


@given(pue=st.floats(1.0, 3.0), gpu=st.floats(0.001, 0.2))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
def test_the_pue_is_taken_out(tmp_path: Path, pue: float, gpu: float) -> None:
    found = read(tmp_path, table(row(pue=pue, gpu=gpu)))
    assert found.energy_kwh == pytest.approx(0.01 + gpu)
    assert found.first.facts["reported_kwh"] == pytest.approx(pue * (0.01 + gpu))
    assert bool(found.tally.notes) == (pue != 1)


def test_a_gpu_of_0_is_unknown(tmp_path: Path) -> None:
    found = read(tmp_path, table(row(gpu=0.0)))
    (gpu,) = [bins for device, bins in found.first.devices.items() if device.kind == "gpu"]
    assert not gpu.known
    assert found.energy_kwh == pytest.approx(0.01)


def test_several_gpus_share_their_sum(tmp_path: Path) -> None:
    found = read(tmp_path, table(row(gpus=8)))
    gpus = [bins.energy_j for d, bins in found.first.devices.items() if d.kind == "gpu"]
    assert gpus == [pytest.approx(0.05 * J_PER_KWH / 8)] * 8
    assert "shared evenly" in next(iter(found.tally.notes))


@pytest.mark.parametrize("emissions", ["0.006", "6.0"], ids=["kg", "g"])
def test_wh_under_a_header_in_kwh(tmp_path: Path, emissions: str) -> None:
    """As in a published file, whose emissions were rescaled as well."""
    found = read(tmp_path, table(row(total="60.0").replace(",0.006,", f",{emissions},")))
    assert found.energy_kwh == pytest.approx(0.06)
    assert found.first.facts["reported_kwh"] == pytest.approx(0.06)
    assert found.first.facts["intensity_kg_per_kwh"] == pytest.approx(0.1)
    assert "energy_consumed is in Wh" in next(iter(found.tally.notes))


def test_parts_that_do_not_sum_are_refused(tmp_path: Path) -> None:
    why = refusal(tmp_path, table(row(), row(total="0.09")))
    assert "row 3: energy_consumed is 0.09 kWh, but its parts sum to 0.06 kWh" in why


TASKS = "task_name,timestamp,project_name,run_id,duration,cpu_energy,gpu_energy,energy_consumed"


def task(name: str, end: str, gpu_kwh: float, seconds: float = 3000) -> str:
    return f"{name},2024-05-31T{end},nlp,a1,{seconds},0.05,{gpu_kwh},{0.05 + gpu_kwh}"


def test_each_task_is_a_run_with_its_own_energy(tmp_path: Path) -> None:
    """As `task_out` writes them: all tasks under the run_id of their tracker."""
    tasks = [
        task("load", "10:50:00", 0),
        task("train", "11:40:00", 0.95),
        task("eval", "12:30:00", 0.25),
    ]
    found = read(tmp_path, table(*tasks, tasks[0], columns=TASKS))
    assert found.energy_kwh == pytest.approx(1.35)
    assert [run.name for run in found.runs] == ["nlp load", "nlp train", "nlp eval"]
    assert {run.project for run in found.runs} == {"nlp"}
    assert len({run.identity for run in found.runs}) == 3
    assert [(run.facts["run_id"], run.facts["task"]) for run in found.runs] == [
        ("a1", name) for name in ("load", "train", "eval")
    ]
    assert "that of their run_id in emissions.csv" in next(iter(found.tally.notes))


def test_a_run_whose_only_part_is_0_is_unknown(tmp_path: Path) -> None:
    columns = "timestamp,run_id,duration,gpu_energy,energy_consumed"
    found = read(tmp_path, table("2024-05-31T10:50:00,a,600,0,0", columns=columns))
    assert found.first.energy_j is None
    assert len(found.first.devices) == 1


def test_powers_that_cannot_be_are_refused(tmp_path: Path) -> None:
    assert "gpu_energy of 0.5 kWh in 600 s is 3.0 kW" in refusal(tmp_path, table(row(gpu=0.5)))
    assert "more than can be" in refusal(tmp_path, table(row(gpu=50)))


def test_broken_rows_are_named_and_the_rest_comes_in(tmp_path: Path) -> None:
    rows = [row(), row(run="b", total=""), row(run="c", seconds=-1), row()[:60], row(run="d")]
    rows.append(row(run="e").rpartition(",")[0])  # of a version with fewer columns
    found = read(tmp_path, table(*rows, COLUMNS))
    assert [number for number, _ in found.tally.first] == [3, 4, 5]
    assert len(found.runs) == 3
    assert found.tally.first[0][1] == "energy_consumed is missing"


def test_runs_at_the_same_time_are_said(tmp_path: Path) -> None:
    found = read(tmp_path, table(row(), row("10:12:00", "b", 300), row("10:40:00", "c")))
    assert "1 of 3 runs overlap others in time" in next(iter(found.tally.notes))


def test_its_times_are_local(tmp_path: Path) -> None:
    assert "Give --tz" in refusal(tmp_path, table(row()), FileOptions())
    (run,) = read(tmp_path, table(row()), FileOptions(tz="Europe/Paris")).runs
    assert run.started_ns == 1717142400 * 10**9


def test_only_nvidias_gpus_have_a_counter(tmp_path: Path) -> None:
    found = read(tmp_path, table(row().replace("NVIDIA A100", "Apple M1")))
    assert {device.quality for device in found.first.devices} == {Quality.ESTIMATE}
