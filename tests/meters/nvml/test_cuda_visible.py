"""Which GPUs a job can see: every form of CUDA_VISIBLE_DEVICES."""

from __future__ import annotations

from dataclasses import replace

import pytest

from carbontrack.meters.nvml.cuda_visible import Gpu, Instance, select


def _gpu(index: int, name: str = "NVIDIA A100-SXM4-80GB") -> Gpu:
    # 2 and 3 begin alike, so that a short prefix is ambiguous.
    head = ("11aa0000", "22bb0000", "8f2a0000", "8f2b0000")[index]
    return Gpu(f"GPU-{head}-5742-4ab5-8c01-00000000000{index}", name)


def _with_mig(gpu: Gpu, slices: tuple[int, ...]) -> Gpu:
    instances = tuple(
        Instance(
            uuid=f"MIG-{gpu.uuid[4:12]}-000{place}",
            parent=gpu.uuid,
            name=f"{gpu.name} MIG {size}g",
            gpu_instance=place + 1,
            compute_instance=0,
            share=size / 7,
        )
        for place, size in enumerate(slices)
    )
    return replace(gpu, mig=True, instances=instances)


GPUS = [_gpu(index) for index in range(4)]
MIG = [_gpu(0), _with_mig(_gpu(1), (3, 2, 1)), _with_mig(_gpu(2), ()), _gpu(3)]


def _seen(value: str | None, gpus: list[Gpu] = GPUS, **environ: str) -> list[str]:
    environ |= {} if value is None else {"CUDA_VISIBLE_DEVICES": value}
    return [device.uuid for device in select(gpus, environ).devices]


@pytest.mark.parametrize(
    ("value", "indices"),
    [
        (None, [0, 1, 2, 3]),
        ("0,1,2,3", [0, 1, 2, 3]),
        ("2,1", [2, 1]),
        (" 3 , 0 ", [3, 0]),
        ("+1", [1]),
        ("1gpu,2", [1, 2]),
        ("", []),
        ("-1", []),
        ("none", []),
        ("NoDevFiles", []),
        ("0,2,-1,1", [0, 2]),
        ("0,9,1", [0]),
        ("0,,1", [0]),
        ("1,0,1", []),
        ("1,9,1", [1]),
        ("0,GPU-22bb", [0]),
        (GPUS[2].uuid, [2]),
        (f"{GPUS[3].uuid},{GPUS[0].uuid}", [3, 0]),
        ("GPU-22", [1]),
        ("GPU-8f2a,GPU-11aa", [2, 0]),
        ("GPU-8f2", []),
        ("GPU-11,GPU-8f2,GPU-22", [0]),
        ("GPU-11,GPU-11aa", []),
        ("GPU-ffff", []),
        ("GPU-22,0", [1]),
        ("GPU-22,MIG-1", [1]),
    ],
)
@pytest.mark.parametrize("order", [None, "PCI_BUS_ID", "FASTEST_FIRST"])
def test_forms(value: str | None, indices: list[int], order: str | None) -> None:
    environ = {} if order is None else {"CUDA_DEVICE_ORDER": order}

    assert _seen(value, **environ) == [GPUS[index].uuid for index in indices]


@pytest.mark.parametrize(
    ("value", "uuids"),
    [
        ("MIG-22bb0000-0001", ["MIG-22bb0000-0001"]),
        ("MIG-22bb0000-0002,MIG-22bb0000-0000", ["MIG-22bb0000-0002", "MIG-22bb0000-0000"]),
        (f"MIG-{MIG[1].uuid}/2/0", ["MIG-22bb0000-0001"]),
        (f"MIG-{MIG[1].uuid}/2/1", []),
        ("MIG-22bb0000-0001,MIG-22bb0000-0001", []),
        ("MIG-22bb0000-0000,0", ["MIG-22bb0000-0000"]),
        ("MIG-22bb", []),
        # A GPU in MIG mode stands for its first instance, and for nothing if it has none.
        ("1", ["MIG-22bb0000-0000"]),
        ("GPU-22bb", ["MIG-22bb0000-0000"]),
        ("2,3", [MIG[3].uuid]),
        (None, [MIG[0].uuid, "MIG-22bb0000-0000", MIG[3].uuid]),
    ],
)
def test_mig_forms(value: str | None, uuids: list[str]) -> None:
    assert _seen(value, MIG) == uuids


def test_what_cannot_be_known_is_said() -> None:
    mixed = [_gpu(0), _gpu(1, "NVIDIA H100 80GB HBM3")]

    assert "assumed" in select(mixed, {"CUDA_VISIBLE_DEVICES": "0"}).notes[0]
    assert not select(mixed, {"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}).notes
    assert not select(mixed, {"CUDA_VISIBLE_DEVICES": mixed[0].uuid}).notes
    assert not select(GPUS, {"CUDA_VISIBLE_DEVICES": "0"}).notes
    assert "MIG mode" in select(MIG, {"CUDA_VISIBLE_DEVICES": "1"}).notes[0]


def test_everything_is_each_physical_gpu_once_whatever_the_job_sees() -> None:
    selection = select(MIG, {"CUDA_VISIBLE_DEVICES": "0"}, everything=True)

    assert [device.uuid for device in selection.devices] == [gpu.uuid for gpu in MIG]


def test_a_silent_gpu_keeps_its_place_in_the_numbering() -> None:
    gpus = [GPUS[0], None, GPUS[2]]

    seen = select(gpus, {"CUDA_VISIBLE_DEVICES": "2,1"})
    assert [device.uuid for device in seen.devices] == [GPUS[2].uuid]
    assert seen.notes == ("GPU 1 does not answer and is left out.",)
    assert select(gpus, {}, everything=True).notes == seen.notes
