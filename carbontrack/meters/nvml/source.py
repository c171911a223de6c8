"""How one NVIDIA GPU is read: what it answers to, and a poll of it.

`pynvml` is reached only through the `Library` of `library.py`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carbontrack.meters.base import Device, DeviceLost, Reading, Vitals
from carbontrack.meters.nvml.cuda_visible import Gpu, Instance
from carbontrack.meters.nvml.fields import number
from carbontrack.units import NS_PER_S, monotonic_ns
from carbontrack.vocabulary import DeviceKind, MeterName, Quality, Scope

if TYPE_CHECKING:
    from carbontrack.meters.nvml.library import Library

_MAX_STAMP_AGE_NS = 1 * NS_PER_S  # an older timestamp is a stepped wall clock, not a slow sensor
_MAX_CLOCKS_APART_NS = 100_000


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a device answers to, and so how it is polled."""

    fields: tuple[tuple[int, int], ...]  # (field, scope) for the one call; empty: plain calls
    energy: str | None  # "field", "call", or None: no counter
    power: str | None
    power_name: str  # power_instant, power_average, power_usage
    scope: str


def probe(library: Library, device: Gpu | Instance) -> NvmlSource | None:
    """The source for a device; None if it has neither energy nor power. NVMLError if it is lost."""
    nvml = library.nvml
    board = device.parent if isinstance(device, Instance) else device.uuid
    handle = library.insist(lambda: library.find(board))
    can = _abilities(library, handle)
    if can.energy is None and can.power is None:
        return None
    rated_mw = library.ask(lambda: nvml.nvmlDeviceGetPowerManagementDefaultLimit(handle))
    limit_mw = library.ask(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle))
    share = device.share if isinstance(device, Instance) else 1.0
    names = ["total_energy"] if can.energy else []
    row = Device(
        uuid=device.uuid,
        kind=DeviceKind.GPU,
        name=device.name,
        meter=MeterName.NVML,
        quality=Quality.COUNTER if can.energy else Quality.POWER,
        field="+".join([*names, can.power_name] if can.power else names),
        scope=can.scope,
        rated_power_w=None if rated_mw is None else share * rated_mw / 1000,
        power_limit_w=None if limit_mw is None else share * limit_mw / 1000,
        mig_parent=board if isinstance(device, Instance) else None,
        share=share,
    )
    return NvmlSource(library, row, board, can)


def _abilities(library: Library, handle: Any) -> Abilities:
    nvml = library.nvml
    energy = (nvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION, nvml.NVML_POWER_SCOPE_GPU)
    instant = (nvml.NVML_FI_DEV_POWER_INSTANT, nvml.NVML_POWER_SCOPE_GPU)
    average = (nvml.NVML_FI_DEV_POWER_AVERAGE, nvml.NVML_POWER_SCOPE_GPU)
    module = (nvml.NVML_FI_DEV_POWER_AVERAGE, nvml.NVML_POWER_SCOPE_MODULE)
    answered = _answered(library, handle, (energy, instant, average, module))
    scope = Scope.GPU_OF_MODULE if module in answered else Scope.GPU

    energy_by = None
    if energy in answered:
        energy_by = "field"
    elif library.ask(lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) is not None:
        energy_by = "call"
    counter = (energy,) if energy_by == "field" else ()
    # With a counter, power is for shape: instant. Without one it is the energy: the average, which
    # misses nothing, whereas an instant power may see 25 of every 100 ms. On a Grace Hopper module
    # the instant power was found to include the CPU (doi 10.1109/SC41406.2024.00028).
    wanted = [(instant, "power_instant"), (average, "power_average")]
    if energy_by is None or module in answered:
        wanted.reverse()
    for field, name in wanted:
        if field in answered:
            return Abilities((*counter, field), energy_by, "field", name, scope)
    plain = library.ask(lambda: nvml.nvmlDeviceGetPowerUsage(handle)) is not None
    return Abilities(counter, energy_by, "call" if plain else None, "power_usage", scope)


def _answered(
    library: Library, handle: Any, asked: Sequence[tuple[int, int]]
) -> set[tuple[int, int]]:
    """Those of the fields that the device gives a value for."""
    nvml = library.nvml

    def ask_once() -> set[tuple[int, int]]:
        answered = set()
        for field, value in zip(asked, nvml.nvmlDeviceGetFieldValues(handle, asked), strict=True):
            if value.nvmlReturn == nvml.NVML_SUCCESS:
                answered.add(field)
            elif not library.is_unsupported(error := nvml.NVMLError(value.nvmlReturn)):
                raise error  # it may well answer the next time
        return answered

    return library.ask(ask_once) or set()


class NvmlSource:
    """One GPU, or a MIG instance: that reads its parent, and `Device.share` of it is its own."""

    def __init__(self, library: Library, device: Device, board: str, can: Abilities) -> None:
        self.device = device
        self._library = library
        self._board = board  # UUID of the GPU that is read
        self._can = can
        self._fields = library.field_call(can.fields) if can.fields else None
        self._found: Any = None  # its handle, until it is lost

    def read(self) -> Reading:
        """Poll once. A call that only failed this time gives None; DeviceLost as in `Source`."""
        try:
            return self._poll(self._handle())
        except self._library.Error as error:
            self._lose_if_lost(error)
            return Reading(monotonic_ns(), None, None)

    def vitals(self) -> Vitals:
        """Utilisation, memory, temperature, clock, throttle reasons; None where not supported."""
        ask, nvml = self._library.ask, self._library.nvml
        try:
            gpu = self._handle()
            memory_of = (
                gpu if self.device.mig_parent is None else self._library.find(self.device.uuid)
            )
            use = ask(lambda: nvml.nvmlDeviceGetUtilizationRates(gpu))
            memory = ask(lambda: nvml.nvmlDeviceGetMemoryInfo(memory_of))
            reasons = ask(lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(gpu))
            if reasons is None:  # drivers before R535 know it by its older name
                reasons = ask(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu))
            return Vitals(
                util_pct=None if use is None else use.gpu,
                memory_used_bytes=None if memory is None else memory.used,
                temperature_c=ask(
                    lambda: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU)
                ),
                sm_clock_mhz=ask(lambda: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM)),
                throttle=reasons or 0,
            )
        except self._library.Error as error:
            self._lose_if_lost(error)
            return Vitals()

    def _poll(self, gpu: Any) -> Reading:
        can = self._can
        energy_mj: float | None = None
        power_mw: float | None = None
        energy_time_ns: int | None = None
        if self._fields is not None:
            answer = self._fields(gpu)
            if can.energy == "field":
                energy_mj = self._value(*answer[1:4])
                energy_time_ns = _on_our_clock(answer[0])
            if can.power == "field":
                power_mw = self._value(*answer[-3:])
        if can.energy == "call":
            energy_mj = self._library.nvml.nvmlDeviceGetTotalEnergyConsumption(gpu)
        now_ns = monotonic_ns()
        if can.power == "call":
            power_mw = self._library.nvml.nvmlDeviceGetPowerUsage(gpu)
        return Reading(
            now_ns,
            None if energy_mj is None else energy_mj / 1000,
            None if power_mw is None else power_mw / 1000,
            None if energy_mj is None else energy_time_ns,
        )

    def _value(self, kind: int, code: int, raw: int) -> float | None:
        """The value of one field. Raises NVMLError if the field says that the device is lost."""
        if code:
            error = self._library.nvml.NVMLError(code)
            if self._library.is_lost(error):
                raise error
            return None
        return number(kind, raw)

    def _handle(self) -> Any:
        if self._found is None:
            self._found = self._library.find(self._board)
        return self._found

    def _lose_if_lost(self, error: Exception) -> None:
        if self._library.is_lost(error):
            self._found = None
            raise DeviceLost(str(error)) from error


def _on_our_clock(stamp_us: int) -> int | None:
    """The driver's wall-clock timestamp as `monotonic_ns()`; None if it cannot be told."""
    now_ns, wall_ns, then_ns = monotonic_ns(), time.time_ns(), monotonic_ns()
    age_ns = wall_ns - stamp_us * 1000
    read_together = then_ns - now_ns < _MAX_CLOCKS_APART_NS
    return now_ns - age_ns if read_together and 0 <= age_ns < _MAX_STAMP_AGE_NS else None
