"""NVIDIA GPUs through NVML: the meter `nvml`.

Each poll is one `nvmlDeviceGetFieldValues` where the device answers it (energy counter and power in
one call, with the driver's timestamps), else the plain calls. What a device can do is asked of the
device itself when it is opened, not looked up by architecture.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from carbontrack.meters.base import Meter, MeterContext, MeterUnavailable, refuse_argument
from carbontrack.meters.deadline import all_within
from carbontrack.meters.nvml.cuda_visible import Gpu, Instance, Selection, select
from carbontrack.meters.nvml.library import PROBE_S, Library
from carbontrack.meters.nvml.source import NvmlSource, probe
from carbontrack.vocabulary import Devices, MeterName, Quality


def check(argument: str) -> None:
    """Raise CarbontrackError for any argument: nvml takes none."""
    refuse_argument(MeterName.NVML, argument)


def open_meter(argument: str, context: MeterContext) -> Meter:
    """The meter `nvml`: the GPUs that the job can see, or all of them.

    Raises MeterUnavailable, with what to do about it, if there is no driver, no GPU, or none
    visible.
    """
    check(argument)
    library = Library()
    try:
        return _open_visible(library, context)
    except MeterUnavailable:
        library.close()
        raise


def _open_visible(library: Library, context: MeterContext) -> _NvmlMeter:
    gpus = library.gpus()
    selection = select(gpus, context.environ, everything=context.visible == Devices.ALL)
    if not selection.devices:
        value = context.environ.get("CUDA_VISIBLE_DEVICES", "")
        raise MeterUnavailable(
            " ".join(selection.notes)
            or f'CUDA_VISIBLE_DEVICES="{value}" shows the job none of the {len(gpus)} GPUs here '
            "(--devices all records them)."
        )
    sources = _open_sources(library, selection.devices, context.job_pid)
    if not sources:
        raise MeterUnavailable("the GPUs here report neither energy nor power to NVML.")
    return _NvmlMeter(library, sources, selection)


def _open_sources(
    library: Library, devices: Sequence[Gpu | Instance], job_pid: int | None
) -> list[NvmlSource]:
    """The sources of those devices that have energy or power and neither are lost nor hang."""
    opened = all_within(PROBE_S, [partial(probe, library, device, job_pid) for device in devices])
    sources = [library.unless_it_fails(found) for found in opened]
    return [source for source in sources if source is not None]


class _NvmlMeter:
    name: str = MeterName.NVML

    def __init__(
        self, library: Library, sources: Sequence[NvmlSource], selection: Selection
    ) -> None:
        self.sources = sources
        self._library = library
        counted = sum(source.device.quality is Quality.COUNTER for source in sources)
        parts = [f"{counted} of {len(sources)} GPUs by their energy counter, the rest by power."]
        if counted == len(sources):
            parts = ["GPU: its own energy counter, where believed; board with memory (NVML)."]
        elif counted == 0:
            parts = ["GPU: integral of power samples (NVML)."]
            parts.append("NVIDIA documents their error for Fermi and Kepler only, as ±5 %.")
        if any(source.device.mig_parent for source in sources):
            parts.append("MIG instances have their slices' share of the GPU (apportioned).")
        silent = len(selection.devices) - len(sources)
        if silent:
            parts.append(f"{silent} GPUs gave neither energy nor power and are left out.")
        self.note = " ".join([*parts, *selection.notes])

    def close(self) -> None:
        self._library.close()
