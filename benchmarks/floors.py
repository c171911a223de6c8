"""What no code of ours can save: the start of what we are made of, and the polling by itself."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from benchmarks.answer import Bench
from benchmarks.table import Table, spread
from tests.fixtures.nvml import NvmlStub

_STARTS = (
    "pass",
    "import subprocess",
    "import pynvml",
    "import carbontrack.record.recorder, carbontrack.report.summary",
)
# As a recorder must at least: field values of all devices, ten times a second.
_POLL = """
import sys, threading, time
import pynvml
pynvml.nvmlInit()
handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
fields = [pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION, pynvml.NVML_FI_DEV_POWER_INSTANT]
pause, seconds = threading.Event(), float(sys.argv[1])
began_s, began_cpu_s = time.monotonic(), time.process_time()
while time.monotonic() - began_s < seconds:
    for handle in handles:
        pynvml.nvmlDeviceGetFieldValues(handle, fields)
    pause.wait(0.1)
print((time.process_time() - began_cpu_s) / (time.monotonic() - began_s))
"""


def start_polling(stub: NvmlStub, seconds: float) -> subprocess.Popen[str]:
    """A process that only polls 8 stand-in GPUs so long; its share of a core is what it prints."""
    return subprocess.Popen(
        [sys.executable, "-c", _POLL, str(seconds)],
        env=stub.start(8).env,
        stdout=subprocess.PIPE,
        text=True,
    )


def floors(bench: Bench, polling: subprocess.Popen[str]) -> Table:
    """Processes that only import, and one that only polls."""
    share = float(polling.communicate()[0])
    took_ms: dict[str, list[float]] = {code: [] for code in _STARTS}
    for _ in range(1 if bench.quick else 7):
        for code, found in took_ms.items():
            began_s = time.perf_counter()
            subprocess.run([sys.executable, "-P", "-c", code], check=True)
            found.append(1000 * (time.perf_counter() - began_s))
    recorder_ms = statistics.median(took_ms[_STARTS[-1]])
    return Table(
        title="What carbontrack stands on",
        how="Whole processes that only import, in turn, median (range): `subprocess` is what a "
        "bare wrapper needs before the job. The recorder imports its own modules beside the job: "
        f"one that ends within {recorder_ms:.0f} ms of its start waits for it. And the CPU of a "
        "process that polls 8 stand-in GPUs ten times a second by pynvml and does nothing else, "
        "beside the watchers of the table above, in the same seconds; the stand-in library's own "
        "work is in it.",
        columns=["", "at least"],
        rows=[
            *([f"`{code}`, ms", spread(found, "{:.0f}")] for code, found in took_ms.items()),
            ["polling by pynvml, % of one core", f"{100 * share:.2f}"],
        ],
        raw={"took_ms": took_ms, "poll_cpu_share": share},
    )
