"""Our one call for several values gives what pynvml's own gives."""

from __future__ import annotations

import json
import subprocess
import sys

import pynvml
import pytest

from carbontrack.meters.nvml.fields import number
from tests.fixtures.nvml import NvmlStub, Wave

_PROGRAM = """
import json, sys
import pynvml
from carbontrack.meters.nvml.fields import FieldCall

pynvml.nvmlInit()
fields = [
    (pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION, pynvml.NVML_POWER_SCOPE_GPU),
    (pynvml.NVML_FI_DEV_POWER_INSTANT, pynvml.NVML_POWER_SCOPE_GPU),
    (pynvml.NVML_FI_DEV_POWER_AVERAGE, pynvml.NVML_POWER_SCOPE_GPU),
]
ask = FieldCall(pynvml, fields)

def theirs(handle):
    return [
        number
        for v in pynvml.nvmlDeviceGetFieldValues(handle, fields)
        for number in (v.timestamp, v.valueType, v.nvmlReturn, v.value.ullVal)
    ]

handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
asked = [[call(handle) for handle in handles] for call in (ask, ask, theirs)]
try:
    ask(None)
except pynvml.NVMLError as error:
    refused = error.value
print(json.dumps([list(zip(*asked)), refused]))
"""


def test_the_values_are_those_of_pynvml(nvml_stub: NvmlStub) -> None:
    powers_w = [250.0, 300.0, 350.0]
    node = nvml_stub.start(3, waves=[Wave("constant", watts, 0, 1) for watts in powers_w])
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], env=node.env, capture_output=True, text=True, check=True
    )
    of_gpus, refused = json.loads(done.stdout)
    for answers, watts in zip(of_gpus, powers_w, strict=True):
        energies, instants, averages = (
            [answer[at : at + 4] for answer in answers] for at in (0, 4, 8)
        )
        assert energies == sorted(energies), "an answer stays as it was given"
        assert energies[0][1:3] == energies[2][1:3]
        assert [number(kind, raw) for _, kind, _, raw in instants] == 3 * [1000 * watts]
        assert all(code != 0 for _, _, code, _ in averages), "an A100 has no average"
    assert refused != 0


@pytest.mark.parametrize(
    ("kind", "member", "value"),
    [
        (pynvml.NVML_VALUE_TYPE_DOUBLE, "dVal", 312.5),
        (pynvml.NVML_VALUE_TYPE_UNSIGNED_INT, "uiVal", 2**32 - 1),
        (pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG, "ulVal", 2**40),
        (pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG, "ullVal", 2**64 - 1),
        (pynvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG, "sllVal", -7),
        (pynvml.NVML_VALUE_TYPE_SIGNED_INT, "siVal", -7),
        (pynvml.NVML_VALUE_TYPE_UNSIGNED_SHORT, "usVal", 2**16 - 1),
    ],
)
def test_each_type_of_value_is_read_as_what_it_is(kind: int, member: str, value: float) -> None:
    union = pynvml.c_nvmlValue_t(
        ullVal=2**64 - 1
    )  # a driver may leave the unused bytes as they were
    setattr(union, member, value)
    assert number(kind, int.from_bytes(bytes(union), sys.byteorder)) == value
