"""The process that a rank is: its memory, and what the launcher says."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.fixtures.tools import OF_THE_MACHINE

PAGES_OF_A_BLOCK = 64 * 2**20 // 4096
FAULTS = """
import resource, sys, torch
from llama_train.host import hold_freed_memory
if sys.argv[1] == "held":
    hold_freed_memory()
faults = []
for _ in range(10):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.full((2**24,), 1.0)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(faults))  # a kernel that is short of memory takes pages away at any time
"""


@pytest.mark.skipif(sys.platform != "linux", reason=f"{OF_THE_MACHINE}: mallopt is glibc's")
def test_freed_memory_is_used_again_without_asking_the_kernel_for_it() -> None:
    given_back, kept = (
        int(subprocess.check_output([sys.executable, "-c", FAULTS, way])) for way in ("", "held")
    )
    assert given_back > PAGES_OF_A_BLOCK / 2, "else there is nothing to keep"
    assert kept < PAGES_OF_A_BLOCK / 100


def test_the_memory_of_the_process_is_what_it_is_limited_to() -> None:
    program = f"{sys.executable} -c 'from llama_train import host; print(host.memory_bytes())'"
    limited = subprocess.check_output(["bash", "-c", f"ulimit -v 900000; {program}"])
    assert int(limited) == 900_000 * 1024
    assert 2**28 < int(subprocess.check_output(["bash", "-c", program])) < 2**50
