"""Our one call for several values gives what pynvml's own gives."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.fixtures.nvml import NvmlStub, Wave

_PROGRAM = """
import json
import pynvml
from carbontrack.meters.nvml_fields import FieldCall

pynvml.nvmlInit()
fields = [
    (pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION, pynvml.NVML_POWER_SCOPE_GPU),
    (pynvml.NVML_FI_DEV_POWER_INSTANT, pynvml.NVML_POWER_SCOPE_GPU),
    (pynvml.NVML_FI_DEV_POWER_AVERAGE, pynvml.NVML_POWER_SCOPE_GPU),
]
ask = FieldCall(pynvml, fields)

def told(values):
    energy, *powers = [(v.fieldId, v.scopeId, v.valueType, v.nvmlReturn) for v in values]
    return [energy, *powers, values[1].value.uiVal]

handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
first = [ask(handle) for handle in handles]
again = [ask(handle) for handle in handles]
theirs = [pynvml.nvmlDeviceGetFieldValues(handle, fields) for handle in handles]
energies = [[v[0].value.ullVal for v in of_gpu] for of_gpu in zip(first, again, theirs)]
try:
    ask(None)
except pynvml.NVMLError as error:
    refused = error.value
print(json.dumps([list(map(told, again)), list(map(told, theirs)), energies, refused]))
"""


def test_the_values_are_those_of_pynvml(nvml_stub: NvmlStub) -> None:
    powers_w = [250.0, 300.0, 350.0]
    node = nvml_stub.start(3, waves=[Wave("constant", watts, 0, 1) for watts in powers_w])
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], env=node.env, capture_output=True, text=True, check=True
    )
    ours, theirs, energies, refused = json.loads(done.stdout)
    assert ours == theirs
    assert [told[-1] for told in ours] == [1000 * watts for watts in powers_w]
    assert all(told[2][-1] != 0 for told in ours), "an A100 has no average"
    assert all(of_gpu == sorted(of_gpu) for of_gpu in energies), "an answer stays as it was given"
    assert refused != 0
