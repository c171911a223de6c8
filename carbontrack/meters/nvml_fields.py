"""Several values of a GPU in one driver call, as cheaply as ten times a second asks for.

`pynvml.nvmlDeviceGetFieldValues` writes its request anew for each call, and each attribute of its
structures is converted when it is read: together more than the call itself. Here the request is
copied from one that was written once, into structures of the same layout that convert nothing.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from types import ModuleType
from typing import Any


class FieldCall:
    """`nvmlDeviceGetFieldValues` for the same (field, scope) pairs each time."""

    def __init__(self, nvml: ModuleType, fields: Sequence[tuple[int, int]]) -> None:
        class FieldValue(ctypes.Structure):
            _fields_ = nvml.c_nvmlFieldValue_t._fields_

        self._array: Any = FieldValue * len(fields)
        self._request = self._array()
        for value, field in zip(self._request, fields, strict=True):
            value.fieldId, value.scopeId = field
        self._nvml = nvml
        self._call = nvml.nvmlLib.nvmlDeviceGetFieldValues
        self._count = ctypes.c_int(len(fields))

    def __call__(self, handle: Any) -> Any:
        """An array of NVML's `nvmlFieldValue_t`, one for each pair. Raises NVMLError."""
        values = self._array.from_buffer_copy(self._request)  # its own: threads may call at once
        code = self._call(handle, self._count, values)
        if code != self._nvml.NVML_SUCCESS:
            raise self._nvml.NVMLError(code)
        return values
