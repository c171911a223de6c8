"""What any program may ask: `carbontrack.estimate` and `carbontrack.hardware`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import carbontrack
from carbontrack import CarbontrackError


def test_the_reports_70b_comes_out() -> None:
    estimate = carbontrack.estimate(1_720_320, power_w=400, pue=1.1, intensity=0.385)
    assert estimate.energy_kwh == pytest.approx(688_128)
    assert estimate.facility_kwh == pytest.approx(756_940.8)
    assert estimate.tco2e == pytest.approx(291.42, abs=0.005)


def test_power_is_that_of_the_gpu_and_the_factors_are_the_reports() -> None:
    estimate = carbontrack.estimate(10, gpu="A100", price_per_gpu_hour=2.5)
    assert (estimate.energy_kwh, estimate.pue, estimate.intensity_kg_per_kwh) == (4.0, 1.1, 0.385)
    assert (estimate.cost, estimate.currency) == (25.0, "USD")


def test_no_configuration_and_no_environment_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "carbontrack.toml").write_text("pue = 4.0")
    monkeypatch.setenv("CARBONTRACK_PUE", "3.0")
    monkeypatch.chdir(tmp_path)
    assert carbontrack.estimate(10, gpu="A100").pue == 1.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gpu_hours": -1.0, "gpu": "A100"}, "negative"),
        ({"gpu_hours": 1.0}, "neither --power nor --gpu"),
        ({"gpu_hours": 1.0, "gpu": "abacus"}, "no rated power is known for 'abacus'"),
        ({"gpu_hours": 1.0, "gpu": "A100", "pue": 0.9}, "below 1"),
        ({"gpu_hours": 1.0, "gpu": "A100", "puee": 1.1}, "no factor is named puee"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(CarbontrackError, match=message):
        carbontrack.estimate(**arguments)  # type: ignore[arg-type]


def test_hardware_is_known_by_the_drivers_name_and_by_an_alias() -> None:
    a100 = carbontrack.hardware("NVIDIA A100-SXM4-80GB")
    assert carbontrack.hardware("a100") == a100
    assert (a100.rated_power_w, a100.memory_bytes) == (400, 80 * 2**30)
    assert a100.peak_bf16_flops == pytest.approx(312e12)
    assert a100.source
    with pytest.raises(AttributeError):
        a100.name = "B200"  # type: ignore[misc]


@pytest.mark.parametrize("name", ["NVIDIA B200", "RTX4090", "T4", "MI300X", "NVIDIA A10G"])
def test_what_a_vendor_does_not_publish_is_none(name: str) -> None:
    found = carbontrack.hardware(name)
    assert found.memory_bytes is not None
    assert (found.peak_bf16_flops is None) == (name == "T4")


def test_an_unknown_accelerator_names_the_nearest() -> None:
    with pytest.raises(CarbontrackError, match=r"named 'A101'.*Did you mean .*A10"):
        carbontrack.hardware("A101")


def test_they_are_imported_only_when_they_are_asked_for() -> None:
    program = (
        "import sys, carbontrack; early = set(sys.modules); carbontrack.hardware('A100');"
        "late = set(sys.modules); print('carbontrack.factors.catalog' in early, "
        "'carbontrack.factors.catalog' in late, 'sqlalchemy' in late, 'pandas' in late)"
    )
    found = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert found == ["False", "True", "False", "False"]
    with pytest.raises(AttributeError, match="no attribute 'hardwear'"):
        carbontrack.hardwear  # type: ignore[attr-defined]  # noqa: B018
