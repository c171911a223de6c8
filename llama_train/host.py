"""The process and its machine: threads, memory, signals, and the launcher's variables.

Imports no torch, for the environment of its threads must be set before that is loaded.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from llama_train.errors import TrainError

WAITING = {"GOMP_SPINCOUNT": "3000"}
"""Environment for GNU OpenMP, which reads it once, when torch loads it.

Its default is to wait awake for milliseconds. That doubles a step on a CPU that others use too: the
waiting thread holds the core that the one it waits for needs. To sleep at once costs a twentieth of
a step on a CPU that is free, and a third of a small model's. Awake for some 0.1 ms does neither.
"""

# What torch needs to find the other ranks.
_RANK_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

# The number of processes, as launchers give it: torch's own, Slurm's srun, Open MPI, MPICH.
_SIZE_VARIABLES = ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")

_PR_SET_PDEATHSIG = 1

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's mallopt


def set_thread_waiting() -> None:
    """Put WAITING into the environment, unless the user has chosen."""
    if "OMP_WAIT_POLICY" not in os.environ:
        for name, value in WAITING.items():
            os.environ.setdefault(name, value)


def hold_freed_memory() -> None:
    """Let malloc hold what is freed, as torch's allocator for GPUs does.

    glibc gives each large block back to the kernel, which clears every page of the next one: a
    tenth of a training step on a CPU. Where there is no mallopt, nothing happens.
    """
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)


def memory_bytes() -> int:
    """Of this machine, or what the process is limited to, if that is less."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    address_space = resource.getrlimit(resource.RLIMIT_AS)[0]
    if address_space != resource.RLIM_INFINITY:
        limits.append(address_space)
    for place in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            limits.append(int((Path("/sys/fs/cgroup") / place).read_text()))
        except (OSError, ValueError):  # none, or "max"
            continue
    return min(limits)


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM or SIGUSR1 has come, which is how schedulers announce a preemption."""
    came = False

    def note(_number: int, _frame: object) -> None:
        nonlocal came
        came = True

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield lambda: came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


def ranks() -> tuple[int, int]:
    """How many there are, and how many of them on this machine."""
    if not is_launched():
        return 1, 1
    count = int(os.environ["WORLD_SIZE"])
    return count, int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def is_launched() -> bool:
    """Whether a launcher gave the addresses of the other ranks.

    Raises TrainError if it started others and did not: all would write into one folder.
    """
    missing = [name for name in _RANK_VARIABLES if name not in os.environ]
    if not missing:
        return True
    for name in _SIZE_VARIABLES:
        if os.environ.get(name, "1") != "1":
            raise TrainError(
                f"{name} is {os.environ[name]}, but {', '.join(missing)} are not set: this process "
                "cannot reach the others.",
                hint="Start the ranks with torchrun.",
            )
    return False


def end_with_torchrun() -> None:
    """If torchrun dies, stop as at its signal, so that no orphan holds the devices."""
    if "TORCHELASTIC_RUN_ID" in os.environ and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def report_to_torchrun(line: str) -> None:
    """For its table of failures, which has only a link without it."""
    if file := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        content = {"message": line, "timestamp": int(time.time())}
        Path(file).write_text(json.dumps(content))
