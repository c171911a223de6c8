"""`carbontrack devices`, as a user sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from tests.fixtures.nvml import NvmlStub, mig_uuid
from tests.fixtures.wrap import PATIENCE_S


def _devices(
    *options: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from carbontrack.cli.app import main; main()", "devices", *options],
        env={**(env or os.environ), "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def _json(*options: str, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    done = _devices(*options, "--format", "json", env=env)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_eight_gpus(nvml_stub: NvmlStub) -> None:
    node = nvml_stub.start(8, d3_limit_w=300, d5_counter=0)
    found = _json(env=node.env)

    assert [device["uuid"] for device in found["devices"]] == node.uuids
    assert found["passed_over"] == []
    for index, device in enumerate(found["devices"]):
        assert device["answers"]
        assert device["kind"] == "gpu"
        assert 50 < device["power_w"] < 450
        assert device["power_limit_w"] == (300 if index == 3 else 400)
        assert device["quality"] == ("power" if index == 5 else "counter")
        assert device["scope"] == "gpu"
    assert "update_period_ms" in found["devices"][0]
    assert found["meters"][0]["note"].startswith("7 of 8 GPUs by their energy counter")


def test_the_page_fits_eighty_columns(nvml_stub: NvmlStub) -> None:
    node = nvml_stub.start(2, d1_mig="3 2 2")
    env = {**node.env, "CUDA_VISIBLE_DEVICES": f"{mig_uuid(1, 0)},{mig_uuid(1, 2)}"}
    done = _devices(env=env)

    assert done.returncode == 0
    assert "MIG-000000a0" in done.stdout
    assert "43% of its GPU" in done.stdout
    assert "apportioned" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_why_nothing_better_was_taken(nvml_stub: NvmlStub) -> None:
    node = nvml_stub.start(2)
    found = _json(env={**node.env, "CUDA_VISIBLE_DEVICES": "-1"})

    assert found["passed_over"][0]["name"] == "nvml"
    assert "none of the 2 GPUs" in found["passed_over"][0]["reason"]
    assert {device["kind"] for device in found["devices"]} <= {"cpu", "dram"}
    everything = _json("--devices", "all", env={**node.env, "CUDA_VISIBLE_DEVICES": "-1"})
    assert len(everything["devices"]) == 2


def test_simulated_devices_say_so() -> None:
    done = _devices("--meter", "sim:h100x2")

    assert done.stdout.count("Simulated NVIDIA H100") == 2
    assert "no real device was read" in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--meter", "nvlm"], "There is no meter 'nvlm'."),
        (["--devices", "some"], "Give job or all."),
        (["--meter", "sim:a100"], "sim:a100x8"),
    ],
)
def test_a_wrong_option_is_one_line(options: list[str], message: str) -> None:
    done = _devices(*options)

    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
