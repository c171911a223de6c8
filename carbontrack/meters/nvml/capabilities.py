"""What a GPU answers to, asked of the GPU itself: which counter, which power, how it is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carbontrack.meters.nvml.samples import sample_period_ms
from carbontrack.units import NS_PER_S
from carbontrack.vocabulary import Scope

if TYPE_CHECKING:
    from carbontrack.meters.nvml.library import Library

AVERAGE_NS = 1 * NS_PER_S  # what the field "power average" is the mean over, by NVML's document
_Field = tuple[int, int]  # number and scope
_ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a device answers to, and so how it is polled."""

    fields: tuple[_Field, ...]  # for the one call; empty: plain calls
    energy: str | None  # "field", "call", or None: no counter
    power: str | None
    power_name: str  # power_instant, power_average, power_usage, power_samples
    scope: str
    sample_period_ms: float | None = None  # of the driver's own samples of power; None: none

    @property
    def by_samples(self) -> bool:
        """Whether the energy is made of the driver's own samples."""
        return self.energy is None and self.sample_period_ms is not None

    @property
    def power_span_ns(self) -> int:
        """What a power is the mean over; 0 if it is that of a moment, or only gives the shape."""
        return AVERAGE_NS if self.energy is None and self.power_name == "power_average" else 0


def capabilities(library: Library, handle: Any) -> Capabilities:
    """Ask a device what it has. Raises NVMLError if it is lost."""
    nvml = library.nvml
    energy = (nvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION, nvml.NVML_POWER_SCOPE_GPU)
    instant = (nvml.NVML_FI_DEV_POWER_INSTANT, nvml.NVML_POWER_SCOPE_GPU)
    average = (nvml.NVML_FI_DEV_POWER_AVERAGE, nvml.NVML_POWER_SCOPE_GPU)
    module = (nvml.NVML_FI_DEV_POWER_AVERAGE, nvml.NVML_POWER_SCOPE_MODULE)
    answered = _answered(library, handle, (energy, instant, average, module))
    scope = Scope.GPU_OF_MODULE if module in answered else Scope.GPU
    samples_ms = sample_period_ms(library, handle)

    energy_by = None
    if energy in answered:
        energy_by = "field"
    elif library.optional(lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) is not None:
        energy_by = "call"
    counter = (energy,) if energy_by == "field" else ()
    # With a counter, power is for shape: instant. Without one it is the energy: the average, which
    # misses nothing, whereas an instant power may see 25 of every 100 ms. On a Grace Hopper module
    # the instant power was found to include the CPU (doi 10.1109/SC41406.2024.00028).
    wanted = [(instant, "power_instant"), (average, "power_average")]
    if energy_by is None or module in answered:
        wanted.reverse()
    sampled = energy_by is None and samples_ms is not None
    for field, name in wanted:
        if field in answered:
            name = "power_samples" if sampled else name
            return Capabilities((*counter, field), energy_by, "field", name, scope, samples_ms)
    plain = library.optional(lambda: nvml.nvmlDeviceGetPowerUsage(handle)) is not None
    name = "power_samples" if sampled else "power_usage"
    return Capabilities(counter, energy_by, "call" if plain else None, name, scope, samples_ms)


def _answered(library: Library, handle: Any, asked: Sequence[_Field]) -> set[_Field]:
    """Those of the fields that the device gives a value for, in one of some attempts."""
    nvml = library.nvml
    answered: set[_Field] = set()
    open_fields = list(asked)
    for _ in range(_ATTEMPTS):
        values = library.optional(lambda: nvml.nvmlDeviceGetFieldValues(handle, open_fields))
        if values is None:
            break  # it does not know the call, or fails all the time
        for field, value in zip(list(open_fields), values, strict=True):
            if value.nvmlReturn == nvml.NVML_SUCCESS:
                answered.add(field)
            elif not library.is_unsupported(nvml.NVMLError(value.nvmlReturn)):
                continue  # it may well answer the next time
            open_fields.remove(field)
        if not open_fields:
            break
    return answered
