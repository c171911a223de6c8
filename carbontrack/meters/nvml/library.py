"""The NVML library: the only module that imports `pynvml`, and only when it is opened."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any, TypeVar

from carbontrack.meters.base import MeterUnavailable
from carbontrack.meters.deadline import all_within, within
from carbontrack.meters.nvml.cuda_visible import Gpu, Instance
from carbontrack.meters.nvml.fields import FieldCall
from carbontrack.units import NS_PER_MS, wall_ahead_ns

T = TypeVar("T")

_INIT_S = 5.0  # a driver that takes longer is hung
PROBE_S = 2.0  # so is a GPU
_CLOSE_S = 1.0
_LOOK_NS = 50 * NS_PER_MS  # a round of polls takes less
_ATTEMPTS = 10  # a device that says "unknown error" now and then is asked again when it is opened


class Library:
    """The loaded binding. Initialised again when a driver reload has made it forget everything."""

    def __init__(self) -> None:
        import pynvml

        self.nvml: ModuleType = pynvml
        self.Error: type[Exception] = pynvml.NVMLError
        self._lock = threading.Lock()
        self._looked_ns = -_LOOK_NS
        self._ahead_ns = 0
        self._field_calls: dict[tuple[tuple[int, int], ...], FieldCall] = {}
        # What these mean: the handle is worth nothing now; later the device may be found again.
        self._lost = {
            pynvml.NVML_ERROR_GPU_IS_LOST,
            pynvml.NVML_ERROR_GPU_NOT_FOUND,
            pynvml.NVML_ERROR_NOT_FOUND,
            pynvml.NVML_ERROR_RESET_REQUIRED,
            pynvml.NVML_ERROR_INVALID_ARGUMENT,
        }
        self._forgotten = {
            pynvml.NVML_ERROR_UNINITIALIZED,
            pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
            pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
        }
        self._unsupported = {
            pynvml.NVML_ERROR_INVALID_ARGUMENT,
            pynvml.NVML_ERROR_NOT_SUPPORTED,
            pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
            pynvml.NVML_ERROR_NO_PERMISSION,
        }
        try:
            within(_INIT_S, pynvml.nvmlInit)
        except TimeoutError:
            raise MeterUnavailable(
                f"the NVIDIA driver did not answer within {_INIT_S:g} s; see dmesg for Xid errors."
            ) from None
        except pynvml.NVMLError as error:
            raise MeterUnavailable(_init_advice(pynvml, error)) from error

    def gpus(self) -> list[Gpu | None]:
        """The machine's GPUs by index, at least one; None is one that is lost or hangs.

        Raises MeterUnavailable if there are none.
        """
        calls = [partial(self._describe, index) for index in range(self._count())]
        return [self.unless_it_fails(found) for found in all_within(PROBE_S, calls)]

    def _count(self) -> int:
        try:
            count: int = self.retry(self.nvml.nvmlDeviceGetCount)
        except self.Error as error:
            raise MeterUnavailable(_init_advice(self.nvml, error)) from error
        if count == 0:
            raise MeterUnavailable(
                "the NVIDIA driver is loaded but finds no GPU; a container needs --gpus."
            )
        return count

    def field_call(self, fields: tuple[tuple[int, int], ...]) -> FieldCall:
        """The one call for these fields; devices share it, for what is shared is in the caches."""
        if fields not in self._field_calls:
            self._field_calls[fields] = FieldCall(self.nvml, fields)
        return self._field_calls[fields]

    def wall_ahead_ns(self, now_ns: int) -> int:
        """How far the wall clock, by which the driver dates, is ahead of ours: one look at both for
        a round of polls.
        """
        if now_ns - self._looked_ns >= _LOOK_NS:
            self._ahead_ns, self._looked_ns = wall_ahead_ns(), now_ns
        return self._ahead_ns

    def find(self, uuid: str) -> Any:
        """The handle of a device. Raises NVMLError if it is not there."""
        try:
            return self.nvml.nvmlDeviceGetHandleByUUID(uuid)
        except self.Error as error:
            if _code(error) not in self._forgotten:
                raise
        with self._lock:
            try:
                return self.nvml.nvmlDeviceGetHandleByUUID(uuid)  # another thread was faster
            except self.Error:
                self.nvml.nvmlInit()
        return self.nvml.nvmlDeviceGetHandleByUUID(uuid)

    def is_lost(self, error: Exception) -> bool:
        """Whether a handle is worth nothing any more, rather than one call having failed."""
        return _code(error) in self._lost or _code(error) in self._forgotten

    def is_unsupported(self, error: Exception) -> bool:
        """Whether asking again is pointless: this device or driver does not have it."""
        return _code(error) in self._unsupported

    def unless_it_fails(self, result: T | Exception) -> T | None:
        """A device's answer; None for one that hangs or is lost. Raises any other error."""
        if isinstance(result, TimeoutError | self.Error):
            return None
        if isinstance(result, Exception):
            raise result
        return result

    def retry(self, call: Callable[[], T]) -> T:
        """The answer of a device that says "unknown error" now and then. Else raises NVMLError."""
        for _ in range(_ATTEMPTS - 1):
            try:
                return call()
            except self.Error as error:
                if self.is_lost(error) or self.is_unsupported(error):
                    raise
        return call()

    def optional(self, call: Callable[[], T]) -> T | None:
        """As `retry`, but None for what the device does not support. NVMLError if it is lost."""
        try:
            return self.retry(call)
        except self.Error as error:
            if self.is_lost(error) and not self.is_unsupported(error):
                raise
            return None

    def close(self) -> None:
        """Let go of the driver, unless it hangs."""
        with contextlib.suppress(TimeoutError, self.Error):
            within(_CLOSE_S, self.nvml.nvmlShutdown)

    def _describe(self, index: int) -> Gpu:
        nvml = self.nvml
        handle = self.retry(lambda: nvml.nvmlDeviceGetHandleByIndex(index))
        uuid = self.retry(lambda: nvml.nvmlDeviceGetUUID(handle))
        name = self.retry(lambda: nvml.nvmlDeviceGetName(handle))
        mode = self.optional(lambda: nvml.nvmlDeviceGetMigMode(handle))
        mig = mode is not None and mode[0] == nvml.NVML_DEVICE_MIG_ENABLE
        return Gpu(uuid, name, mig, tuple(self._instances(handle, uuid)) if mig else ())

    def _instances(self, gpu: Any, parent: str) -> Iterator[Instance]:
        slices = self.retry(lambda: self.nvml.nvmlDeviceGetMaxMigDeviceCount(gpu))
        for place in range(slices):
            find = partial(self.nvml.nvmlDeviceGetMigDeviceHandleByIndex, gpu, place)
            try:
                handle = self.retry(find)
            except self.Error:
                continue  # not every place is taken
            yield self.retry(partial(self._instance, handle, parent, slices))

    def _instance(self, handle: Any, parent: str, slices: int) -> Instance:
        nvml = self.nvml
        own = nvml.nvmlDeviceGetAttributes(handle)
        return Instance(
            uuid=nvml.nvmlDeviceGetUUID(handle),
            parent=parent,
            name=nvml.nvmlDeviceGetName(handle),
            gpu_instance=nvml.nvmlDeviceGetGpuInstanceId(handle),
            compute_instance=nvml.nvmlDeviceGetComputeInstanceId(handle),
            share=own.computeInstanceSliceCount / slices,
        )


def _code(error: Exception) -> int:
    code: int = error.value  # type: ignore[attr-defined]
    return code


def _init_advice(nvml: ModuleType, error: Exception) -> str:
    """What to do about a driver that cannot be initialised."""
    advice = {
        nvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVIDIA driver is installed here "
        "(libnvidia-ml.so.1 is not found); a container needs --gpus or the NVIDIA runtime.",
        nvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA kernel driver is not loaded: "
        "run `modprobe nvidia` as root, and see dmesg if that fails.",
        nvml.NVML_ERROR_NO_PERMISSION: "this user may not talk to the NVIDIA driver: "
        "allow read and write on /dev/nvidiactl and /dev/nvidia*.",
        nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the NVIDIA library and the loaded kernel driver "
        "differ in version: reload the driver or reboot.",
    }
    return advice.get(_code(error), f"the NVIDIA driver cannot be initialised: {error}.")
