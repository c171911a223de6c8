"""Several values of a GPU in one driver call, as cheaply as ten times a second asks for.

`pynvml.nvmlDeviceGetFieldValues` writes its request again for each call, and each attribute of its
structures is converted when it is read: together more than the call itself. Here the request is
copied from one that was written once, and the answer is unpacked at one go. After a tenth of a
second's sleep the processor's caches hold nothing of ours, so few steps count more than fast ones.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from struct import Struct
from types import ModuleType
from typing import Any

# NVML's nvmlFieldValue_t: (field, scope), timestamp, (latency), type, return code, value.
_LAYOUT = "8x q 8x i i Q"
# nvmlValueType_t: how the eight bytes of the value are to be read, where they are not unsigned.
_TYPES = {0: Struct("d"), 4: Struct("q"), 5: Struct("i 4x")}
_UNSIGNED = {1: 0xFFFF_FFFF, 6: 0xFFFF}  # of those that do not fill them
_WHOLE = Struct("Q")

Answer = tuple[int, ...]


class FieldCall:
    """`nvmlDeviceGetFieldValues` for the same (field, scope) pairs each time."""

    def __init__(self, nvml: ModuleType, fields: Sequence[tuple[int, int]]) -> None:
        request = (nvml.c_nvmlFieldValue_t * len(fields))()
        for value, field in zip(request, fields, strict=True):
            value.fieldId, value.scopeId = field
        self._request = bytes(request)
        self._block: Any = ctypes.c_char * len(self._request)
        self._unpack = Struct("@" + len(fields) * _LAYOUT).unpack_from
        self._error = nvml.NVMLError
        self._call = nvml.nvmlLib.nvmlDeviceGetFieldValues
        self._count = ctypes.c_int(len(fields))

    def __call__(self, handle: Any) -> Answer:
        """Timestamp in µs, value type, return code and raw value: of the first pair, of the next.

        Raises NVMLError.
        """
        block = self._block.from_buffer_copy(self._request)  # its own: threads may call at once
        code = self._call(handle, self._count, block)
        if code:
            raise self._error(code)
        return self._unpack(block)


def number(kind: int, raw: int) -> float:
    """A raw value as one of its type."""
    if kind in _TYPES:
        value: float = _TYPES[kind].unpack(_WHOLE.pack(raw))[0]
        return value
    return raw & _UNSIGNED.get(kind, raw)
