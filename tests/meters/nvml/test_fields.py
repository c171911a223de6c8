"""Our one call for several values gives what pynvml's own gives."""

from __future__ import annotations

import json
import subprocess
import sys

import pynvml
import pytest

from carbontrack.meters.nvml.fields import number
from carbontrack.units import NS_PER_S
from tests.fixtures.nvml import NvmlStub, Wave

# Asks at each time that it is told, a line on stdin each; at the last one both calls ask.
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
asked = []
for line in sys.stdin:
    asked.append([ask(handle) for handle in handles])
    print("asked", flush=True)
asked.append([theirs(handle) for handle in handles])
try:
    ask(None)
except pynvml.NVMLError as error:
    refused = error.value
print(json.dumps([list(zip(*asked)), refused]))
"""


def test_the_values_are_those_of_pynvml(nvml_stub: NvmlStub) -> None:
    """At times that the test sets, so that every digit of every answer is known."""
    powers_w = [250.0, 300.0, 350.0]
    node = nvml_stub.start(3, waves=[Wave("constant", watts, 0, 1) for watts in powers_w])
    times_s = [2.0, 3.5]
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM],
        env=node.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdin is not None and program.stdout is not None
        for at_s in times_s:
            node.set(clock_s=at_s)
            program.stdin.write("ask\n")
            program.stdin.flush()
            assert program.stdout.readline() == "asked\n"
        out, _ = program.communicate()
    of_gpus, refused = json.loads(out)
    for index, (answers, watts) in enumerate(zip(of_gpus, powers_w, strict=True)):
        first, second, theirs = answers
        assert second == theirs
        for answer, at_s in ((first, times_s[0]), (second, times_s[1])):
            stamp_us, kind, code, raw = answer[:4]
            assert abs(stamp_us - (node.t0_ns + at_s * NS_PER_S) // 1000) <= 1
            assert code == 0
            assert number(kind, raw) == 1e9 * (index + 1) + 1000 * watts * at_s
            assert number(answer[5], answer[7]) == 1000 * watts
            assert answer[10] != 0, "an A100 has no average"
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
