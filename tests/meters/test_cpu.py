"""The CPU model: an estimate from the CPU time of real processes."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from carbontrack.errors import CarbontrackError
from carbontrack.meters.base import MeterContext, MeterUnavailable, Reading, Source
from carbontrack.meters.cpu import (
    ASSUMED_W_PER_THREAD,
    REFRESH_NS,
    Cpu,
    read_cpuinfo,
    thread_power,
)
from carbontrack.meters.process_tree import ProcessTree
from carbontrack.meters.registry import find_meters
from carbontrack.units import NS_PER_S, monotonic_ns
from carbontrack.vocabulary import DeviceKind, Quality

Until = Callable[[Callable[[], Any]], Any]

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_BURN = """
import time
def burn(cpu_s):
    end = time.process_time() + cpu_s
    while time.process_time() < end: pass
"""


@contextmanager
def _job(program: str, **pipes: int) -> Iterator[subprocess.Popen[bytes]]:
    """A job that burns as its program says; on leaving it and what it forked are killed."""
    argv = [sys.executable, "-c", _BURN + program]
    with subprocess.Popen(argv, process_group=0, **pipes) as job:
        try:
            yield job
        finally:
            with suppress(ProcessLookupError):
                os.killpg(job.pid, signal.SIGKILL)


def _next_line(job: subprocess.Popen[bytes]) -> bytes:
    assert job.stdout is not None
    line = job.stdout.readline()
    assert line, "the job ended"
    return line


def _until_gone(pid: int) -> None:
    """Until a process that is nobody's child of ours has left /proc, or is a zombie there."""
    while _state_of(pid) not in ("", "Z", "X"):
        time.sleep(0.01)


def _state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _watts_per_thread(source: Source) -> float:
    assert source.device.rated_power_w is not None
    return source.device.rated_power_w / read_cpuinfo(Path("/proc")).threads


def _until_zombie(pid: int) -> None:
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def _source(context: MeterContext, spec: str = "cpu-model:100") -> Source:
    (meter,) = find_meters(spec, context).meters
    (source,) = meter.sources
    return source


def _energy_j(reading: Reading) -> float:
    assert reading.energy_j is not None
    return reading.energy_j


def test_energy_is_cpu_time_times_watts_per_thread() -> None:
    with _job("burn(0.6); time.sleep(0.3); burn(0.6)") as job:
        source = _source(MeterContext(job_pid=job.pid))
        readings = []
        while os.waitid(os.P_PID, job.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            readings.append(source.read())
            time.sleep(0.05)
        readings.append(source.read())
        _, _, used = os.wait4(job.pid, 0)
        job.returncode = 0
    watts = source.device.rated_power_w
    threads = read_cpuinfo(Path("/proc")).threads
    assert watts == pytest.approx(100)

    cpu_s = used.ru_utime + used.ru_stime
    assert cpu_s >= 1.2
    energies = [_energy_j(reading) for reading in readings]
    assert energies == sorted(energies)
    assert energies[-1] == pytest.approx(cpu_s * 100 / threads, abs=0.05 * 100 / threads)
    assert _energy_j(source.read()) == energies[-1]  # a job that has ended uses nothing more
    assert source.device.quality is Quality.ESTIMATE
    assert source.device.kind is DeviceKind.CPU


def test_the_first_power_is_the_mean_since_the_job_started() -> None:
    before_ns = monotonic_ns()
    with _job("burn(0.5); print(flush=True); burn(600)", stdout=subprocess.PIPE) as job:
        _next_line(job)
        source = _source(MeterContext(job_pid=job.pid))
        first = source.read()
        after_ns = monotonic_ns()
        started_ns = ProcessTree(job.pid).root_started_ns()

    assert started_ns is not None and first.power_w is not None
    assert before_ns - NS_PER_S // _TICKS_PER_S <= started_ns < first.time_ns <= after_ns
    assert _energy_j(first) >= (0.5 - 2 / _TICKS_PER_S) * _watts_per_thread(source)
    assert first.power_w * (first.time_ns - started_ns) / NS_PER_S == pytest.approx(
        _energy_j(first)
    )


def test_many_short_children_count() -> None:
    program = (
        "import subprocess, sys\n"
        f"short = {_BURN!r} + 'burn(0.05)'\n"
        "for _ in range(12): subprocess.run([sys.executable, '-S', '-c', short])"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with _job(program) as job:
        tree = ProcessTree(job.pid)
        tree.cpu_s()
        _until_zombie(job.pid)
        seen_s = tree.cpu_s()
        job.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)

    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert used_s >= 12 * 0.05
    assert seen_s == pytest.approx(used_s, abs=0.05)


def test_a_grandchild_whose_parent_died_still_counts() -> None:
    program = (
        "import os, sys, time\n"
        "if os.fork() == 0:\n"
        "    parent = os.getpid()\n"
        "    if os.fork() == 0:\n"
        "        print(os.getpid(), flush=True)\n"
        "        while os.getppid() == parent: time.sleep(0.01)\n"
        "        burn(0.5); print('burned', flush=True); time.sleep(600)\n"
        "    sys.stdin.read(); os._exit(0)\n"
        "os.wait(); time.sleep(600)\n"
    )
    with _job(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as job:
        tree = ProcessTree(job.pid)
        grandchild = int(_next_line(job))
        seen_s = tree.cpu_s()  # all three are there
        assert job.stdin is not None
        job.stdin.close()
        _next_line(job)
        burned_s = tree.cpu_s()
        os.kill(grandchild, signal.SIGKILL)
        _until_gone(grandchild)
        ended_s = tree.cpu_s()

    assert burned_s >= seen_s + 0.5 - 2 / _TICKS_PER_S
    assert ended_s >= burned_s  # whoever waited for it, its time is not lost


def test_children_that_nobody_waits_for_are_kept_as_last_seen() -> None:
    program = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "for _ in range(2):\n"
        "    if os.fork() == 0: burn(0.5); os.write(1, b'%d\\n' % os.getpid()); time.sleep(600)\n"
        "time.sleep(600)\n"
    )
    with _job(program, stdout=subprocess.PIPE) as job:
        tree = ProcessTree(job.pid)
        children = [int(_next_line(job)) for _ in range(2)]
        alive_s = tree.cpu_s()
        for child in children:
            os.kill(child, signal.SIGKILL)
            _until_gone(child)
        gone_s = tree.cpu_s()

    assert alive_s >= 2 * 0.5 - 2 / _TICKS_PER_S
    assert gone_s == pytest.approx(alive_s, abs=0.1), "neither lost nor counted twice"


# Its child is of a thread that goes on, and so in no list of the main thread.
_BURNT = """
import os, sys, threading
def work():
    child = os.fork()
    if child == 0:
        while True: burn(0.5); os.write(1, b'%d\\n' % os.getpid()); sys.stdin.readline()
    os.waitpid(child, 0)
threading.Thread(target=work).start()
"""


def test_of_a_job_that_joins_only_what_follows_counts() -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with _job("time.sleep(600)") as first, _job(_BURNT, **pipes) as other:
        child = int(_next_line(other))
        past_s = ProcessTree(other.pid).cpu_s()
        tree = ProcessTree(first.pid)
        before_s = tree.cpu_s()
        since_ns = monotonic_ns()
        tree.add_root(other.pid, since_ns)
        joined_s = tree.cpu_s()
        now_ns = monotonic_ns()
        assert other.stdin is not None
        other.stdin.write(b"on\n")
        other.stdin.flush()
        _next_line(other)
        burned_s = tree.cpu_s()
        started_ns = ProcessTree(child).root_started_ns()

    assert started_ns is not None
    assert past_s >= 0.5 - 2 / _TICKS_PER_S
    share = (now_ns - since_ns) / (now_ns - started_ns)  # of its life, while it was added
    assert before_s <= joined_s <= before_s + share * past_s + 5 / _TICKS_PER_S
    assert burned_s >= joined_s + 0.5 - 2 / _TICKS_PER_S


def test_a_job_that_is_gone_keeps_its_energy() -> None:
    with _job("burn(0.3)") as job:
        source = _source(MeterContext(job_pid=job.pid))
        _until_zombie(job.pid)
        last = source.read()
        job.wait()
        assert _energy_j(source.read()) == _energy_j(last)
        with pytest.raises(MeterUnavailable, match="gone"):
            _source_of_pid(job.pid)


def _source_of_pid(pid: int) -> None:
    from carbontrack.meters.cpu import open_meter

    open_meter("", MeterContext(job_pid=pid))


def test_without_a_job_the_whole_machine_is_meant(until: Until) -> None:
    (meter,) = find_meters("cpu-model", MeterContext()).meters
    source = meter.sources[0]
    first = source.read()
    assert "whole machine" in meter.note
    until(lambda: source.read() != first)
    second = source.read()
    assert second.time_ns - first.time_ns >= REFRESH_NS, "until then it repeats"
    assert _energy_j(second) >= _energy_j(first)
    assert source.vitals() is None


class FakeProc:
    """A /proc of a kernel without children files: only stat lines."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def process(
        self, pid: int, parent: int, *, own: int, waited: int = 0, started: int = 5
    ) -> None:
        folder = self.root / str(pid)
        folder.mkdir(exist_ok=True)
        fields = [
            "S",
            parent,
            pid,
            pid,
            0,
            -1,
            0,
            0,
            0,
            0,
            0,
            own,
            0,
            waited,
            0,
            20,
            0,
            1,
            0,
            started,
        ]
        text = f"{pid} (a ) name) " + " ".join(str(field) for field in fields) + " 0 0\n"
        (folder / "stat").write_text(text)

    def end(self, pid: int) -> None:
        (self.root / str(pid) / "stat").unlink()
        (self.root / str(pid)).rmdir()


def _ticks(tree: ProcessTree) -> int:
    return round(tree.cpu_s() * _TICKS_PER_S)


def test_ends_and_reused_pids_without_children_files(tmp_path: Path) -> None:
    proc = FakeProc(tmp_path)
    proc.process(100, 1, own=10)
    proc.process(101, 100, own=20)
    proc.process(102, 101, own=30)
    proc.process(200, 1, own=999)  # not the job's
    tree = ProcessTree(100, tmp_path)
    assert _ticks(tree) == 60

    proc.end(101)  # 102 is somebody else's child now, and nobody waited for 101
    proc.process(102, 1, own=35)
    assert _ticks(tree) == 65

    proc.process(102, 1, own=7, started=9)  # the pid was given to a stranger
    assert _ticks(tree) == 65

    proc.process(103, 100, own=40)
    assert _ticks(tree) == 105
    proc.end(103)
    proc.process(100, 1, own=10, waited=50)  # waited for, with what it used after the last look
    assert _ticks(tree) == 115
    proc.end(100)
    assert _ticks(tree) == 115
    assert tree.root_has_ended()


def test_what_belongs_to_the_job_already_counts_once_and_whole_where_more_joins(
    tmp_path: Path,
) -> None:
    long_after_ns = 2 * monotonic_ns()
    proc = FakeProc(tmp_path)
    proc.process(100, 1, own=10)
    tree = ProcessTree(100, tmp_path)
    assert _ticks(tree) == 10

    proc.process(101, 100, own=20)
    tree.add_root(101, long_after_ns)  # a block of the job itself
    assert _ticks(tree) == 30

    proc.process(300, 1, own=400, waited=50)
    proc.process(301, 300, own=60)
    tree.add_root(301, 0)  # it belongs to the job since it began
    assert _ticks(tree) == 90
    tree.add_root(300, long_after_ns)
    assert _ticks(tree) == 90
    proc.process(300, 1, own=407, waited=50)
    assert _ticks(tree) == 97
    proc.end(301)
    proc.process(300, 1, own=407, waited=115)  # waited for, with 5 after the last look
    assert _ticks(tree) == 102
    proc.end(300)
    assert _ticks(tree) == 102
    tree.add_root(300, 0)  # gone
    assert _ticks(tree) == 102


@pytest.mark.parametrize(
    ("model", "watts"),
    [
        ("AMD EPYC 7763 64-Core Processor", 280 / 128),
        ("AMD EPYC 7B13 64-Core Processor", ASSUMED_W_PER_THREAD),
        ("Intel(R) Xeon(R) Platinum 8480+", 350 / 112),
        ("Intel(R) Xeon(R) Gold 6248R CPU @ 3.00GHz", 205 / 48),
        ("Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz", 150 / 40),
        ("Intel(R) Xeon(R) CPU E5-2690 v3 @ 2.60GHz", 135 / 24),
        ("Intel(R) Xeon(R) CPU @ 2.20GHz", ASSUMED_W_PER_THREAD),
    ],
)
def test_watts_per_thread_by_model(model: str, watts: float) -> None:
    power = thread_power(Cpu(model, 2), None)

    assert power.watts == pytest.approx(watts)
    assert ("assumed" in power.source) == (watts == ASSUMED_W_PER_THREAD)


def test_the_tdp_can_be_given(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: X\n\nprocessor\t: 1\n")
    (tmp_path / "stat").write_text("cpu  100 0 100 900 50 0 0 7 0 0\n")
    for context, spec in (
        (MeterContext(procfs=tmp_path, cpu_tdp_w=300), "cpu-model"),
        (MeterContext(procfs=tmp_path), "cpu-model:300"),
    ):
        source = _source(context, spec)
        assert source.device.rated_power_w == 300
        assert source.device.name == "X (2 threads)"
        assert _energy_j(source.read()) * _TICKS_PER_S == pytest.approx(200 * 150)
    for wrong in ("cpu-model:many", "cpu-model:-3", "cpu-model:nan"):
        with pytest.raises(CarbontrackError, match="is not a TDP"):
            find_meters(wrong, MeterContext(procfs=tmp_path))
    (tmp_path / "cpuinfo").unlink()
    with pytest.raises(CarbontrackError, match="cpuinfo"):
        find_meters("cpu-model", MeterContext(procfs=tmp_path))
