"""What `kill -9` may cost, at any moment: what was not committed yet, never the job.

How many seconds that is, `benchmarks/kill.py` measures.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.killed import problems
from tests.fixtures.wrap import Wrapper

ROUNDS = 6
DEVICES = 2


def recorder_of(wrapper: Wrapper, exclude: set[int]) -> int | None:
    """The recorder process that writes this ledger: our environment is in its own."""
    mark = f"CARBONTRACK_DB={wrapper.ledger}".encode()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) in exclude:
            continue
        try:
            command = (folder / "cmdline").read_bytes()
            environ = (folder / "environ").read_bytes()
        except OSError:
            continue
        if b"carbontrack.record" in command and mark in environ.split(b"\0"):
            return int(folder.name)
    return None


@pytest.mark.parametrize("whole_session", [False, True], ids=["wrapper", "wrapper and recorder"])
def test_a_kill_at_any_moment_costs_nothing_that_was_committed(
    tmp_path: Path, until: Callable[[Callable[[], Any]], Any], whole_session: bool
) -> None:
    dice = random.Random(7)
    wrappers = [Wrapper(tmp_path / str(number)) for number in range(ROUNDS)]
    jobs: list[subprocess.Popen[str]] = []
    for wrapper in wrappers:
        wrapper.folder.mkdir()
        jobs.append(wrapper.start("sh", "-c", "echo $$; exec sleep 600", stderr=subprocess.DEVNULL))
    children = [int(job.stdout.readline()) for job in jobs if job.stdout]
    try:
        for wrapper in wrappers:
            until(partial(_committed_s, wrapper))
        for job, child, wrapper in zip(jobs, children, wrappers, strict=True):
            time.sleep(dice.uniform(0.1, 0.9))
            recorder = recorder_of(wrapper, {job.pid}) if whole_session else None
            committed_s = _committed_s(wrapper)
            job.kill()
            if recorder is not None:
                os.kill(recorder, signal.SIGKILL)
            job.wait()
            os.kill(child, 0)  # the job goes on
            if not whole_session:
                until(partial(_reads_interrupted, wrapper))
            assert problems(wrapper.ledger, committed_s, DEVICES) == []
        for wrapper in wrappers:  # where nobody is left to write it, once the heartbeat is old
            until(partial(_reads_interrupted, wrapper))
    finally:
        for job, child in zip(jobs, children, strict=True):
            os.kill(child, signal.SIGKILL)
            if job.stdout:
                job.stdout.close()


def _reads_interrupted(wrapper: Wrapper) -> bool:
    return bool(wrapper.json("show")["status"] == "interrupted")


def _committed_s(wrapper: Wrapper) -> int:
    return min(map(len, wrapper.seconds().values()), default=0)
