"""How one NVIDIA GPU is read: a poll of it, its vitals, and the driver's own samples.

`pynvml` is reached only through the `Library` of `library.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from carbontrack.meters.base import Device, DeviceLost, Reading, Vitals
from carbontrack.meters.nvml.capabilities import Capabilities, capabilities
from carbontrack.meters.nvml.cuda_visible import Gpu, Instance
from carbontrack.meters.nvml.fields import number
from carbontrack.meters.nvml.samples import PowerSamples
from carbontrack.meters.process_tree import descends
from carbontrack.units import NS_PER_MS, NS_PER_S, monotonic_ns
from carbontrack.vocabulary import DeviceKind, MeterName, Quality

if TYPE_CHECKING:
    from carbontrack.meters.nvml.library import Library

T = TypeVar("T")

_NS_PER_US = 1000
_MAX_STAMP_AGE_NS = 1 * NS_PER_S  # an older timestamp is a stepped wall clock, not a slow sensor
_APART_NS = 1 * NS_PER_MS  # by which a look at both clocks may be out of date
_LIMIT_EVERY = 10  # vitals
_USE_EVERY = 4  # vitals
_DRY_CALLS = 3  # by then the driver has overwritten what it held


def probe(library: Library, device: Gpu | Instance, job_pid: int | None) -> NvmlSource | None:
    """The source for a device; None if it has neither energy nor power. NVMLError if it is lost."""
    nvml = library.nvml
    board = device.parent if isinstance(device, Instance) else device.uuid
    handle = library.retry(lambda: library.find(board))
    can = capabilities(library, handle)
    if can.energy is None and can.power is None:
        return None
    rated_mw = library.optional(lambda: nvml.nvmlDeviceGetPowerManagementDefaultLimit(handle))
    limit_mw = library.optional(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle))
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
        update_period_ms=can.sample_period_ms if can.by_samples else None,
        mig_parent=board if isinstance(device, Instance) else None,
        share=share,
    )
    return NvmlSource(library, row, board, can, job_pid)


class NvmlSource:
    """One GPU, or a MIG instance: that reads its parent, and `Device.share` of it is its own."""

    def __init__(
        self,
        library: Library,
        device: Device,
        board: str,
        can: Capabilities,
        job_pid: int | None = None,
    ) -> None:
        self.device = device
        self._jobs = set() if job_pid is None else {job_pid}
        self._library = library
        self._board = board  # UUID of the GPU that is read
        self._can = can
        self._fields = library.field_call(can.fields) if can.fields else None
        period_ms = can.sample_period_ms
        self._samples = None if period_ms is None else PowerSamples(library, period_ms)
        self.buffered = can.by_samples
        self._dry = 0  # calls for samples that gave none
        self._limit_due = _LIMIT_EVERY  # vitals until the limit is asked for again
        self._use_due = 0  # vitals until it is asked again whether the job uses it
        self._found: Any = None  # its handle, until it is lost

    def read(self) -> Reading:
        """Poll once. A call that only failed this time gives None; DeviceLost as in `Source`."""
        try:
            return self._poll(self._handle())
        except self._library.Error as error:
            self._lose_if_lost(error)
            return Reading(monotonic_ns(), None, None)

    def recent(self) -> list[Reading]:
        """As in `BufferedSource`. If the driver has stopped sampling, a poll takes its place."""
        if self._samples is None:
            return []
        try:
            readings = self._samples.read(self._handle())
        except self._library.Error as error:
            self._lose_if_lost(error)
            readings = []
        self._dry = 0 if readings else self._dry + 1
        return [self.read()] if self.buffered and self._dry >= _DRY_CALLS else readings

    def add_job(self, pid: int, since_ns: int) -> None:
        """This process and what descends from it belongs to the job, too; it is of no matter since
        when, for the GPU's energy is counted from its first reading on.
        """
        self._jobs.add(pid)
        self._use_due = min(self._use_due, _USE_EVERY)

    def vitals(self) -> Vitals:
        """Utilisation, memory, temperature, clock, throttle reasons; None where not supported."""
        optional, nvml = self._library.optional, self._library.nvml
        try:
            gpu = self._handle()
            memory_of = (
                gpu if self.device.mig_parent is None else self._library.find(self.device.uuid)
            )
            use = optional(lambda: nvml.nvmlDeviceGetUtilizationRates(gpu))
            memory = optional(lambda: nvml.nvmlDeviceGetMemoryInfo(memory_of))
            reasons = optional(lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(gpu))
            if reasons is None:  # drivers before R535 know it by its older name
                reasons = optional(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu))
            self._refresh_limit(gpu)
            return Vitals(
                util_pct=None if use is None else use.gpu,
                memory_used_bytes=_used_bytes(memory),
                temperature_c=optional(
                    lambda: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU)
                ),
                sm_clock_mhz=optional(lambda: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM)),
                throttle=reasons or 0,
                is_used=self._is_used(memory_of),
            )
        except self._library.Error as error:
            self._lose_if_lost(error)
            return Vitals()

    def _is_used(self, device: Any) -> bool:
        """Whether the driver names a process of the job on it, asked every few vitals until it has
        done so once. In a container it names none, for it knows them by the host's pids.
        """
        self._use_due -= 1
        if self._use_due > 0 or not self._jobs:
            return False
        self._use_due = _USE_EVERY
        nvml = self._library.nvml
        named = self._library.optional(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(device))
        if not any(descends(process.pid, self._jobs) for process in named or ()):
            return False
        self._jobs = set()
        return True

    def _refresh_limit(self, gpu: Any) -> None:
        """Ask for the limit enforced now, every few vitals: it may be changed while a job runs."""
        self._limit_due -= 1
        if self._limit_due > 0:
            return
        self._limit_due = _LIMIT_EVERY
        nvml = self._library.nvml
        limit_mw = self._library.optional(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(gpu))
        if limit_mw:
            limit_w = self.device.share * limit_mw / 1000
            if limit_w != self.device.power_limit_w:
                self.device = replace(self.device, power_limit_w=limit_w)

    def _poll(self, gpu: Any) -> Reading:
        can = self._can
        energy_mj: float | None = None
        power_mw: float | None = None
        energy_time_ns: int | None = None
        now_ns = asked_ns = monotonic_ns()
        answer = None if self._fields is None else self._unless_it_fails(self._fields, gpu)
        if answer is not None:
            now_ns = monotonic_ns()
            if can.energy == "field":
                stamp_us, kind, code, raw = answer[:4]
                energy_mj = self._value(kind, code, raw)
                energy_time_ns = self._on_our_clock(stamp_us, asked_ns, now_ns)
            if can.power == "field":
                stamp_us, kind, code, raw = answer[-4:]
                power_mw = self._value(kind, code, raw)
                if can.power_span_ns and power_mw is not None:
                    energy_time_ns = self._on_our_clock(stamp_us, asked_ns, now_ns)
        if can.energy == "call":
            counter = self._library.nvml.nvmlDeviceGetTotalEnergyConsumption
            energy_mj = self._unless_it_fails(counter, gpu)
            now_ns = monotonic_ns()
        if can.power == "call":
            power_mw = self._unless_it_fails(self._library.nvml.nvmlDeviceGetPowerUsage, gpu)
        return Reading(
            now_ns,
            None if energy_mj is None else energy_mj / 1000,
            None if power_mw is None else power_mw / 1000,
            energy_time_ns if energy_mj is not None or can.power_span_ns else None,
            can.power_span_ns,
        )

    def _unless_it_fails(self, call: Callable[[Any], T], gpu: Any) -> T | None:
        """The answer of a call; None if it only failed, for another one may have been answered.
        Raises NVMLError if the device is lost.
        """
        try:
            return call(gpu)
        except self._library.Error as error:
            if self._library.is_lost(error):
                raise
            return None

    def _on_our_clock(self, stamp_us: int, asked_ns: int, now_ns: int) -> int | None:
        """The driver's wall-clock timestamp as `monotonic_ns()`; None if it cannot be of an answer
        to what was asked then, however long it took.
        """
        at_ns = stamp_us * _NS_PER_US - self._library.wall_ahead_ns(now_ns)
        if asked_ns - _MAX_STAMP_AGE_NS < at_ns <= now_ns + _APART_NS:
            return min(at_ns, now_ns)
        return None

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


def _used_bytes(memory: Any) -> int | None:
    """Memory in use; None if unknown, or if it were more than there is."""
    return memory.used if memory is not None and memory.used <= memory.total else None
