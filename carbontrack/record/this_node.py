"""This node, this boot of it, and our place among the processes that a launcher starts on it.

Standard library only, and little of it: the wrapper asks this before the job starts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

# The number of a process on its node, as torchrun, Slurm, Open MPI, Intel MPI or MPICH and Flux
# give it.
_LOCAL_RANKS = (
    *("LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID"),
    "FLUX_TASK_LOCAL_ID",
)
_VISIBILITY = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")


def boot_id() -> str | None:
    """This boot of this machine: monotonic times compare only within it. None if unknown."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:  # noqa: PTH123 - pathlib costs 8 ms
            return file.read().strip() or None
    except (OSError, ValueError):
        return None


def hostname() -> str:
    """The node's name in its network."""
    return os.uname().nodename


def visibility(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that say which devices a process can see."""
    return {name: environ[name] for name in _VISIBILITY if name in environ}


def is_first_of_node(environ: Mapping[str, str]) -> bool:
    """Whether no launcher says that another process of this node comes before us."""
    ranks = [environ[name] for name in _LOCAL_RANKS if name in environ]
    return not ranks or ranks[0] == "0"
