"""Which of the machine's GPUs a job can see, by CUDA_VISIBLE_DEVICES. Pure.

CUDA's rules: unset means all; each entry is an index, a GPU UUID or an unambiguous beginning of
one, or a MIG instance; the form of the first entry is the form of all; the first entry that names
nothing ends the list; a device named twice makes the whole list void; empty or `-1` means no GPU at
all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_VARIABLE = "CUDA_VISIBLE_DEVICES"
_ORDER = "CUDA_DEVICE_ORDER"


@dataclass(frozen=True, slots=True)
class Instance:
    """A MIG instance: a part of a GPU with its own slices."""

    uuid: str  # MIG-<uuid>
    parent: str  # UUID of the GPU
    name: str
    gpu_instance: int
    compute_instance: int
    share: float  # its slices over all slices of the GPU

    @property
    def old_name(self) -> str:
        """The form that drivers before R470 use: MIG-GPU-<uuid>/<gi>/<ci>."""
        return f"MIG-{self.parent}/{self.gpu_instance}/{self.compute_instance}"


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU in NVML's order, which is the order of the PCI bus."""

    uuid: str
    name: str
    mig: bool = False
    instances: tuple[Instance, ...] = ()


@dataclass(frozen=True, slots=True)
class Selection:
    """The devices to record, each once, and what a reader should know of the choice."""

    devices: tuple[Gpu | Instance, ...]
    notes: tuple[str, ...] = field(default=())


def select(
    gpus: Sequence[Gpu | None], environ: Mapping[str, str], *, everything: bool = False
) -> Selection:
    """The devices that a job with this environment can see.

    `gpus` are the machine's GPUs by index; None is one that does not answer. With `everything` the
    environment is ignored and the whole GPUs are taken, so that no power is counted twice.
    """
    if everything:
        answering = tuple(gpu for gpu in gpus if gpu is not None)
        return Selection(answering, tuple(_silent(i) for i, gpu in enumerate(gpus) if gpu is None))
    value = environ.get(_VARIABLE)
    if value is None:
        return _usable(range(len(gpus)), gpus, ())
    entries = [entry.strip() for entry in value.split(",")]
    if entries[0].startswith("MIG-"):
        return _instances(entries, gpus)
    if entries[0].startswith("GPU-"):
        picked = [_index_of_uuid(entry, gpus) for entry in entries]
        return _usable(_valid(picked), gpus, ())
    picked = [_index(entry, len(gpus)) for entry in entries]
    return _usable(_valid(picked), gpus, _order_notes(gpus, environ))


def _index(entry: str, count: int) -> int | None:
    """An index as CUDA reads it: the digits at the beginning, whatever follows."""
    digits = re.match(r"\+?[0-9]+", entry)
    if digits is None or int(digits[0]) >= count:
        return None
    return int(digits[0])


def _index_of_uuid(entry: str, gpus: Sequence[Gpu | None]) -> int | None:
    found = [i for i, gpu in enumerate(gpus) if gpu is not None and gpu.uuid.startswith(entry)]
    return found[0] if len(found) == 1 and entry.startswith("GPU-") else None


def _valid(picked: Sequence[int | None]) -> list[int]:
    """The picks before the first invalid one; none at all if one of them repeats."""
    valid: list[int] = []
    for index in picked:
        if index is None:
            break
        if index in valid:
            return []
        valid.append(index)
    return valid


def _usable(
    indices: Sequence[int], gpus: Sequence[Gpu | None], notes: tuple[str, ...]
) -> Selection:
    """The GPUs at these indices. One in MIG mode is no CUDA device: its first instance is."""
    devices: list[Gpu | Instance] = []
    for index in indices:
        gpu = gpus[index]
        if gpu is None:
            notes += (_silent(index),)
        elif not gpu.mig:
            devices.append(gpu)
        elif gpu.instances:
            devices.append(gpu.instances[0])
            notes += (f"GPU {index} is in MIG mode: CUDA takes its first instance.",)
        else:
            notes += (f"GPU {index} is in MIG mode without an instance and is left out.",)
    return Selection(tuple(devices), notes)


def _silent(index: int) -> str:
    return f"GPU {index} does not answer and is left out."


def _instances(entries: Sequence[str], gpus: Sequence[Gpu | None]) -> Selection:
    """MIG instances by their names. A process sees only the first; workers may split the list."""
    known = [instance for gpu in gpus if gpu is not None for instance in gpu.instances]
    picked = [
        next((i for i, k in enumerate(known) if entry in (k.uuid, k.old_name)), None)
        for entry in entries
    ]
    return Selection(tuple(known[i] for i in _valid(picked)))


def _order_notes(gpus: Sequence[Gpu | None], environ: Mapping[str, str]) -> tuple[str, ...]:
    """CUDA numbers the fastest GPU first unless set otherwise; NVML does not say which one is."""
    names = {gpu.name for gpu in gpus if gpu is not None}
    if environ.get(_ORDER) == "PCI_BUS_ID" or len(names) <= 1:
        return ()
    return (
        f"The indices in {_VARIABLE} are assumed to follow the PCI bus, "
        f"but these GPUs differ: set {_ORDER}=PCI_BUS_ID to make it so.",
    )
