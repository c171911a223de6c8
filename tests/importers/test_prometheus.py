"""Range answers of Prometheus and long tables of DCGM.

No published example of a range answer was found: these are made after the API's documentation.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from carbontrack.errors import CarbontrackError
from carbontrack.importers.model import FileOptions
from carbontrack.vocabulary import Quality
from tests.importers.files import read, refusal

UUID = "GPU-0000000{}-1111-2222-3333-444444444444"
POWER, ENERGY = "DCGM_FI_DEV_POWER_USAGE", "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"
BLANK = "9223372036854775794"


def series(values: list[float | str], *, metric: str = POWER, gpu: int = 0, **labels: str) -> Any:
    of = {"__name__": metric, "UUID": UUID.format(gpu), "modelName": "NVIDIA H100", **labels}
    times = [1_772_826_000.5 + 15 * n for n in range(len(values))]
    return {"metric": of, "values": [[t, str(v)] for t, v in zip(times, values, strict=True)]}


def answer(*found: Any, kind: str = "matrix") -> str:
    return json.dumps({"status": "success", "data": {"resultType": kind, "result": found}})


def test_power_by_device(tmp_path: Path) -> None:
    text = answer(series([100, 200, 300], Hostname="a"), series([50] * 3, gpu=1, hostname="b"))
    found = read(tmp_path, text, FileOptions())
    assert found.kind == "prometheus"
    assert found.by_device == {UUID.format(0): 6000, UUID.format(1): 1500}
    assert [device.host for device in found.first.devices] == ["a", "b"]
    assert found.duration_s == 30


def test_the_counter_in_millijoules_is_better(tmp_path: Path) -> None:
    text = answer(series([100] * 4), series([5e9, 5e9 + 4e6, BLANK, 5e9 + 9e6], metric=ENERGY))
    found = read(tmp_path, text)
    assert found.energy_j == pytest.approx(9000)
    assert next(iter(found.first.devices)).quality is Quality.COUNTER


def test_labels_of_pods_and_instances_change_within_a_gpu(tmp_path: Path) -> None:
    first, second = series([100] * 6, pod="a"), series([100] * 6, pod="b")
    first["values"], second["values"] = first["values"][:3], second["values"][3:]
    instance = series([100] * 6, GPU_I_ID="1")
    found = read(tmp_path, answer(second, first, instance))
    assert found.by_device == {UUID.format(0): 7500}


def test_what_is_blank_is_a_gap(tmp_path: Path) -> None:
    assert read(tmp_path, answer(series([100, 100, BLANK, 100, 100]))).energy_j == 3000


def test_any_other_exporter_with_its_unit(tmp_path: Path) -> None:
    text = answer(series([2000, 2000], metric="pdu_outlet_load", UUID="", outlet="7"))
    why = refusal(tmp_path, text)
    assert "it has pdu_outlet_load" in why
    assert "--unit" in why
    found = read(tmp_path, text, FileOptions(unit="mW", device_column="outlet"))
    assert found.by_device == {"7": 30}
    assert read(tmp_path, answer(series([2, 2], metric="node_power_watts"))).energy_j == 30
    with pytest.raises(CarbontrackError, match="Known: W"):
        read(tmp_path, text, FileOptions(unit="hp"))


def test_series_that_no_label_tells_apart_are_refused(tmp_path: Path) -> None:
    supplies = [
        series([power] * 3, metric="ipmi_power_watts", UUID="", modelName="", id=id_, host="a")
        for id_, power in (("17", 700), ("18", 650))
    ]
    why = refusal(tmp_path, answer(*supplies))
    assert "several series of ipmi_power_watts have no label that names a device" in why
    assert "Give --device-column LABEL" in why
    found = read(tmp_path, answer(*supplies), FileOptions(device_column="id"))
    assert found.by_device == {"a 17": 21_000, "a 18": 19_500}
    assert read(tmp_path, answer(supplies[0])).energy_j == 21_000


def test_a_series_that_goes_on_under_other_labels_is_one_device(tmp_path: Path) -> None:
    first, second = (series([100] * 6, metric="x_power_watts", UUID="", pod=pod) for pod in "ab")
    first["values"], second["values"] = first["values"][:3], second["values"][3:]
    assert read(tmp_path, answer(second, first)).by_device == {"GPU": 7500}


def test_gpus_of_amd_are_known_by_their_number(tmp_path: Path) -> None:
    gpus = [series([600] * 3, metric="gpu_package_power", UUID="", gpu_id=str(n)) for n in range(8)]
    found = read(tmp_path, answer(*gpus), FileOptions(unit="W"))
    assert found.energy_j == 8 * 600 * 30
    assert len(found.by_device) == 8


@pytest.mark.parametrize("turn_ms", [0, 3])
def test_a_long_table_without_devices_is_of_one_only(tmp_path: Path, turn_ms: int) -> None:
    def table(gpus: int) -> str:
        rows = [
            f"2026-01-31T12:00:{s:02d}.{turn_ms * gpu:03d}Z,{POWER},100"
            for s in range(30)
            for gpu in range(gpus)
        ]
        return "\n".join(["timestamp,metric,value", *rows])

    assert "several series" in refusal(tmp_path, table(8))
    assert read(tmp_path, table(1)).by_device == {"GPU": 2900}


def test_what_is_of_one_moment_is_refused(tmp_path: Path) -> None:
    assert "one moment" in refusal(tmp_path, answer(kind="vector"))
    assert "one scrape" in refusal(tmp_path, f'{POWER}{{gpu="0"}} 67.6\n')
    assert "one sample" in refusal(tmp_path, answer(series([100])))
    assert "more than can be" in refusal(tmp_path, answer(series([70_000] * 3)))
    assert "not valid JSON" in refusal(tmp_path, answer(series([1, 2]))[:-4])


def test_a_long_table(tmp_path: Path) -> None:
    rows = [
        f"2026-01-31T12:00:{s:02d}Z,{UUID.format(gpu)},{metric},{value}"
        for s in range(3)
        for gpu in range(2)
        for metric, value in ((POWER, 100), ("DCGM_FI_DEV_GPU_TEMP", 40))
    ]
    found = read(tmp_path, "\n".join(["timestamp,UUID,metric,value", *rows, "2026-01,x,y"]))
    assert found.kind == "dcgm"
    assert found.by_device == {UUID.format(0): 200, UUID.format(1): 200}
    assert found.tally.rejected == 1
