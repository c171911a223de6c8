"""How fast and in how much memory does a large log of nvidia-smi become a run?"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from benchmarks.answer import Bench
from benchmarks.table import Table

_GPUS = 8
_BYTES, _QUICK_BYTES = 1_000_000_000, 300_000
_SECONDS_AT_ONCE = 2_000
_HEAD = (
    "timestamp, index, uuid, name, power.draw [W], utilization.gpu [%], memory.used [MiB], "
    "temperature.gpu\n"
)


def ask(bench: Bench) -> list[Table]:
    """MB/s and the largest resident memory of `carbontrack import`."""
    size = _QUICK_BYTES if bench.quick else _BYTES
    path = bench.folder / "power.csv"
    with path.open("w") as file:
        written = file.write(_HEAD)
        for part in _parts():
            written += file.write(part)
            if written >= size:
                break
    seconds, peak_mb = _imported(path, bench.folder / "imported.db")
    speed = path.stat().st_size / 1e6 / seconds
    return [
        Table(
            title="A log of nvidia-smi",
            how=f"{path.stat().st_size / 1e6:,.0f} MB: a sample a second of {_GPUS} GPUs, with "
            "units. Until the run is in the ledger; memory is the largest resident set.",
            columns=["", "MB/s", "s", "MB"],
            rows=[["carbontrack import", f"{speed:.1f}", f"{seconds:.1f}", f"{peak_mb:.0f}"]],
            raw={"mb_per_s": speed, "seconds": seconds, "peak_mb": peak_mb},
        )
    ]


def _imported(path: Path, ledger: Path) -> tuple[float, float]:
    """How long it took, and the most memory that it had, in MB."""
    began_s = time.perf_counter()
    words = ["-m", "carbontrack", "import", str(path), "--tz", "UTC", "--db", str(ledger)]
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"carbontrack import ended with {process.returncode}")
    return time.perf_counter() - began_s, usage.ru_maxrss * 1024 / 1e6


def _parts() -> Iterator[str]:
    at = datetime(2024, 3, 1)
    while True:
        lines = []
        for second in range(_SECONDS_AT_ONCE):
            at += timedelta(seconds=1)
            lines += [
                f"{at:%Y/%m/%d %H:%M:%S}.125, {gpu}, GPU-0000000{gpu}-0000-0000-0000-000000000000, "
                f"NVIDIA A100-SXM4-80GB, {300 + second % 97}.{second % 89:02d} W, 98 %, "
                "70000 MiB, 61\n"
                for gpu in range(_GPUS)
            ]
        yield "".join(lines)
