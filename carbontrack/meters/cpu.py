"""The CPU model: TDP × utilisation of the job's processes. An estimate, and named so.

    energy = CPU seconds of the job × TDP of the CPUs / their hardware threads

Only the CPU seconds that the job used count: no share of the idle power, of memory, or of other
people's processes. So an idle job reads 0 W, and a job on every thread reads the TDP.
`cpu-model:WATTS` gives the TDP of the machine's CPUs together; else it comes from `cpu_tdp.csv`,
else from an assumed power per thread. Without a job (`carbontrack devices`) the whole machine's CPU
time is taken.
"""

from __future__ import annotations

import csv
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from carbontrack.decimals import decimal
from carbontrack.errors import CarbontrackError
from carbontrack.meters.base import Device, Meter, MeterContext, MeterUnavailable, Reading
from carbontrack.meters.host import host_device_uuid
from carbontrack.meters.process_tree import ProcessTree
from carbontrack.units import NS_PER_MS, NS_PER_S, monotonic_ns
from carbontrack.vocabulary import DeviceKind, MeterName, Quality, Scope

# Source: see cpu_tdp.md.
ASSUMED_W_PER_THREAD = 3.5
# CPU times move in ticks of 10 ms and a scan costs some files: twice a second is fine enough for a
# window, and below the second after which readings count as a gap.
REFRESH_NS = 500 * NS_PER_MS


@dataclass(frozen=True, slots=True)
class Cpu:
    """The CPUs of this machine as /proc/cpuinfo shows them."""

    model: str
    threads: int


@dataclass(frozen=True, slots=True)
class ThreadPower:
    """Power of one hardware thread at full load, and where the number comes from."""

    watts: float
    source: str


def check(argument: str) -> None:
    """Raise CarbontrackError for an argument that is not a power in W."""
    if argument:
        _watts(argument)


def open_meter(argument: str, context: MeterContext) -> Meter:
    """The meter of `cpu-model` or `cpu-model:WATTS`.

    Raises MeterUnavailable where /proc does not show CPUs, or the job is gone.
    """
    cpu = read_cpuinfo(context.procfs)
    power = thread_power(cpu, _watts(argument) if argument else context.cpu_tdp_w)
    device = Device(
        uuid=host_device_uuid("CPU", MeterName.CPU_MODEL),
        kind=DeviceKind.CPU,
        name=f"{cpu.model} ({cpu.threads} threads)",
        meter=MeterName.CPU_MODEL,
        quality=Quality.ESTIMATE,
        field="cpu_time*tdp",
        scope=Scope.CPU,
        rated_power_w=power.watts * cpu.threads,
        update_period_ms=REFRESH_NS / NS_PER_MS,
    )
    if context.job_pid is None:
        whose = "the whole machine"
        source = CpuSource(device, _machine_cpu_s(context.procfs), power.watts, lambda: False, 0)
    else:
        whose = "the job's processes"
        tree = ProcessTree(context.job_pid, context.procfs)
        started_ns = tree.root_started_ns()
        if started_ns is None:
            raise MeterUnavailable(f"process {context.job_pid} is gone.")
        source = CpuSource(
            *(device, tree.cpu_s, power.watts, tree.root_has_ended, started_ns, tree.add_root)
        )
    note = (
        f"CPU: TDP × utilisation of {whose}: an estimate, {power.watts:.3g} W per hardware thread "
        f"({power.source}), without idle power and memory."
    )
    return _CpuMeter(source, note)


def read_cpuinfo(procfs: Path) -> Cpu:
    """The CPU model and its hardware threads. Raises MeterUnavailable if none are shown."""
    try:
        text = (procfs / "cpuinfo").read_text(errors="replace")
    except OSError as error:
        raise MeterUnavailable(f"{error.filename}: {error.strerror}.") from error
    fields = [tuple(part.strip() for part in line.split(":", 1)) for line in text.splitlines()]
    threads = sum(1 for name, *_ in fields if name == "processor")
    if threads == 0:
        raise MeterUnavailable(f"{procfs / 'cpuinfo'} shows no processor.")
    models = [value for name, *rest in fields for value in rest if name == "model name"]
    return Cpu(models[0] if models else f"{os.uname().machine} CPU", threads)


def thread_power(cpu: Cpu, tdp_w: float | None) -> ThreadPower:
    """Watts per hardware thread: as given, else by the model's TDP, else assumed."""
    if tdp_w is not None:
        return ThreadPower(tdp_w / cpu.threads, f"given: {tdp_w:g} W")
    words = _words(cpu.model)
    best: tuple[int, ThreadPower] | None = None
    table = files("carbontrack.meters").joinpath("cpu_tdp.csv")
    with table.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            known = _words(row["model"])
            if f" {known} " in f" {words} " and (best is None or len(known) > best[0]):
                watts = float(row["tdp_w"]) / int(row["threads"])
                source = f"{row['model']}: {row['tdp_w']} W, {row['source']}"
                best = len(known), ThreadPower(watts, source)
    if best is not None:
        return best[1]
    return ThreadPower(ASSUMED_W_PER_THREAD, "assumed: Cloud Carbon Footprint's average")


def _words(model: str) -> str:
    """A model name without what vendors put around it, such as `(R)` and `64-Core Processor`."""
    plain = re.sub(r"\((r|tm)\)|\bcpu\b|@.*|[0-9]+-core|\bprocessor\b", " ", model.lower())
    return " ".join(plain.split())


def _watts(argument: str) -> float:
    try:
        watts = decimal(argument)
    except ValueError:
        watts = 0.0
    if not 0 < watts < 1e5:
        raise CarbontrackError(
            f"cpu-model:{argument} is not a TDP.", hint="Give the watts of all CPUs: cpu-model:280."
        )
    return watts


def _machine_cpu_s(procfs: Path) -> Callable[[], float]:
    """Busy CPU seconds of all processes since boot (without idle, I/O wait and stolen time)."""
    ticks_per_s = os.sysconf("SC_CLK_TCK")

    def cpu_s() -> float:
        with (procfs / "stat").open() as file:
            user, nice, system, _idle, _iowait, irq, softirq = map(
                int, file.readline().split()[1:8]
            )
        return (user + nice + system + irq + softirq) / ticks_per_s

    return cpu_s


class CpuSource:
    """Energy from CPU time: a counter that begins with the job at 0 J."""

    def __init__(
        self,
        device: Device,
        cpu_s: Callable[[], float],
        watts_per_thread: float,
        has_ended: Callable[[], bool],
        started_ns: int,
        add_job: Callable[[int, int], None] = lambda pid, since_ns: None,
    ) -> None:
        self.device = device
        self._cpu_s = cpu_s
        self._watts_per_thread = watts_per_thread
        self._has_ended = has_ended
        self._add_job = add_job
        self._ended = False
        self._last = Reading(started_ns, 0.0, None)
        self._lock = threading.Lock()

    def read(self) -> Reading:
        """The newest estimate, dated when the processes were looked at; so it may repeat."""
        with self._lock:
            due = monotonic_ns() - self._last.time_ns >= REFRESH_NS
            if not self._ended and self._has_ended():
                self._ended = due = True  # the job's last CPU time, before it leaves /proc
            if due or self._last.power_w is None:
                self._last = self._measure()
            return self._last

    def add_job(self, pid: int, since_ns: int) -> None:
        """This process and what descends from it counts, too, since a time."""
        with self._lock:
            self._add_job(pid, since_ns)

    def vitals(self) -> None:
        """None: the model knows only CPU time."""

    def _measure(self) -> Reading:
        last = self._last
        energy_j = self._cpu_s() * self._watts_per_thread
        now_ns = monotonic_ns()
        elapsed_s = (now_ns - last.time_ns) / NS_PER_S
        assert last.energy_j is not None
        power_w = (energy_j - last.energy_j) / elapsed_s if elapsed_s > 0 else None
        return Reading(now_ns, energy_j, power_w)


class _CpuMeter:
    name: str = MeterName.CPU_MODEL

    def __init__(self, source: CpuSource, note: str) -> None:
        self.sources = [source]
        self.note = note

    def close(self) -> None:
        """Nothing is held open."""
