"""Finding and opening a meter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from carbontrack.errors import CarbontrackError
from carbontrack.meters.base import MeterContext
from carbontrack.meters.registry import find_meters
from carbontrack.meters.spec import OWN, check_spec
from carbontrack.vocabulary import MeterName
from tests.fixtures.nvml import NvmlStub
from tests.fixtures.powercap import Powercap

_PROGRAM = """
import os, sys
from carbontrack.meters.base import (MeterContext)
from carbontrack.meters.registry import find_meters
found = find_meters(sys.argv[1], MeterContext(environ=os.environ, visible=sys.argv[2]))
print(*[f"{m.name}:{len(m.sources)}" for m in found.meters])
print(*[over.name for over in found.rejected])
print(found.note)
"""


def _choose(stub: NvmlStub, spec: str, visible: str = "job", **environ: str) -> list[str]:
    """Meters with their number of sources, the names passed over, and the note."""
    node = stub.start(2)
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, spec, visible],
        env={**node.env, **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_auto_takes_the_gpus_where_there_are_some(nvml_stub: NvmlStub) -> None:
    assert _choose(nvml_stub, "auto")[:2] == ["nvml:2", ""]
    assert _choose(nvml_stub, "nvml,sim:a100x3")[:2] == ["nvml:2 sim:3", ""]


def test_auto_without_a_visible_gpu_goes_on_to_the_host(nvml_stub: NvmlStub) -> None:
    meters, rejected, note = _choose(nvml_stub, "auto", CUDA_VISIBLE_DEVICES="")
    assert meters.split(":")[0] in ("rapl", "cpu-model")
    assert rejected.split()[0] == "nvml"
    assert 'Not nvml: CUDA_VISIBLE_DEVICES=""' in note
    assert _choose(nvml_stub, "auto", "all", CUDA_VISIBLE_DEVICES="")[0] == "nvml:2"


def test_auto_prefers_counters_to_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = find_meters("auto", MeterContext(sysfs=tmp_path, environ={"CUDA_VISIBLE_DEVICES": ""}))
    assert [meter.name for meter in bare.meters] == ["cpu-model"]
    assert [over.name for over in bare.rejected] == ["nvml", "rapl"]
    assert "estimate" in bare.note

    powercap = Powercap(tmp_path / "sys").two_sockets()
    context = MeterContext(sysfs=powercap.root, environ={"CUDA_VISIBLE_DEVICES": ""})
    found = find_meters("auto", context)
    assert [meter.name for meter in found.meters] == ["rapl"]
    assert [over.name for over in found.rejected] == ["nvml"]


def test_no_meter_at_all_gives_every_reason(tmp_path: Path) -> None:
    context = MeterContext(sysfs=tmp_path, procfs=tmp_path, environ={"CUDA_VISIBLE_DEVICES": ""})
    with pytest.raises(CarbontrackError, match=r"nvml: .* rapl: .* cpu-model: "):
        find_meters("auto", context)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nvm", "Known meters: auto, nvml, rapl, cpu-model, sim"),
        ("", "no meter ''"),
        ("sim:a100x2,auto", "auto stands alone"),
        ("auto,nvml", "auto stands alone"),
        ("auto:x", "auto stands alone"),
        ("sim:a100x2,sim:a100x4", "counts Simulated NVIDIA A100-SXM4-80GB SIM-GPU-.* twice"),
        ("rapl,cpu-model", "count the CPU twice"),
        ("rapl,cpu-model:200", "count the CPU twice"),
        ("sim:a100x2,rapl", "The meter rapl cannot work here: no RAPL packages"),
    ],
)
def test_a_wrong_choice_says_what_is_wrong(tmp_path: Path, spec: str, message: str) -> None:
    with pytest.raises(CarbontrackError, match=message):
        find_meters(spec, MeterContext(sysfs=tmp_path))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nvml:0", "nvml takes no argument"),
        ("rapl:x", "rapl takes no argument"),
        ("cpu-model:many", "cpu-model:many is not a TDP"),
        ("sim", "Unknown simulation sim:"),
        ("sim:a100x2,nvml:0", "nvml takes no argument"),
        ("foo", "no meter 'foo'"),
    ],
)
def test_an_argument_is_checked_before_anything_starts(spec: str, message: str) -> None:
    with pytest.raises(CarbontrackError, match=message):
        check_spec(spec)


@pytest.mark.parametrize("spec", ["auto", "nvml", "nvml,rapl", "cpu-model:280", "sim:a100x8"])
def test_a_spec_that_means_something_is_no_mistake(spec: str) -> None:
    check_spec(spec)


def test_the_meters_that_can_be_named_are_those_of_the_vocabulary() -> None:
    assert tuple(OWN) == tuple(MeterName)


def test_meters_of_other_packages_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wattmeter.py").write_text(
        "class Meter:\n"
        "    name, sources, note = 'wattmeter', (), 'at the wall'\n"
        "    def __init__(self, argument): self.argument = argument\n"
        "    def close(self): pass\n"
        "def open_meter(argument, context): return Meter(argument)\n"
    )
    info = tmp_path / "wattmeter-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wattmeter\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[carbontrack.meters]\nwall = wattmeter:open_meter\n")
    monkeypatch.syspath_prepend(tmp_path)

    meter, simulated = find_meters("wall:10.0.0.7:502,sim:a100x2", MeterContext()).meters
    assert (meter.name, meter.note) == ("wattmeter", "at the wall")
    assert meter.argument == "10.0.0.7:502"  # type: ignore[attr-defined]
    assert len(simulated.sources) == 2
    with pytest.raises(CarbontrackError, match="sim, wall"):
        find_meters("wal", MeterContext())
