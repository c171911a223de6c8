"""How long a process waits for a CPU: how busy the machine is, as that process feels it."""

from __future__ import annotations

import os
from contextlib import suppress


class CpuWait:
    """How long the threads of a process have been ready to run without a CPU: a busy machine."""

    def __init__(self, pid: int) -> None:
        self._folder = f"/proc/{pid}/task"
        self._before_s = self._total_s()

    def since_s(self) -> float:
        """Since this was made; 0 where the kernel does not count it."""
        return max(0.0, self._total_s() - self._before_s)

    def _total_s(self) -> float:
        total_ns = 0
        with suppress(OSError, ValueError, IndexError):
            for task in os.listdir(self._folder):  # noqa: PTH208 - pathlib costs 8 ms
                with open(f"{self._folder}/{task}/schedstat", "rb") as file:  # noqa: PTH123
                    total_ns += int(file.read().split()[1])
        return total_ns / 1e9
