"""What starts in which order, and what is left of a recorder that is not needed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.wrap import PATIENCE_S, Wrapper, processes_of, wait_until
from tests.record.test_manners import Until, children_of


def started(pid: int) -> int:
    """When a process started, in clock ticks since the boot."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def test_the_job_is_there_before_the_recorder(wrapper: Wrapper, until: Until) -> None:
    job = wrapper.start("sleep", "600")

    def sleeping() -> list[int]:
        """Not what has our command line: the witness, a fork of ours, or one that is starting."""
        children = children_of(job.pid, "sleep")
        return [one for one in children if Path(f"/proc/{one}/comm").read_text() == "sleep\n"]

    (sleep,) = until(sleeping)
    (recorder,) = until(lambda: children_of(job.pid, "carbontrack.record"))
    assert started(sleep) <= started(recorder)
    until(wrapper.seconds)
    job.terminate()
    job.communicate(timeout=PATIENCE_S)
    (run,) = wrapper.json("runs")["runs"]
    assert run["exit_code"] == 128 + signal.SIGTERM


def test_on_one_cpu_a_job_is_recorded_all_the_same(wrapper: Wrapper) -> None:
    one = min(os.sched_getaffinity(0))
    done = wrapper.run("sleep", "0.5", preexec_fn=lambda: os.sched_setaffinity(0, {one}))
    assert (done.returncode, done.stderr) == (0, "")
    (run,) = wrapper.json("runs")["runs"]
    assert run["status"] == "completed"


@pytest.mark.parametrize(
    "arguments", [["--hz", "99", "--", "true"], ["--colour"], ["--help"], ["--", ""], []]
)
def test_of_a_run_that_does_not_start_nothing_is_left(
    wrapper: Wrapper, arguments: list[str]
) -> None:
    done = wrapper.carbontrack("run", *arguments)
    assert "recording failed" not in done.stderr
    assert "Traceback" not in done.stderr
    wait_until(lambda: processes_of(wrapper.folder) == {})
    assert sorted(wrapper.folder.iterdir()) == []


def test_a_recorder_whose_wrapper_is_killed_before_it_knows_the_job_ends_quietly(
    wrapper: Wrapper, until: Until
) -> None:
    prepared = (
        "from carbontrack.record.recorder_process import RecorderProcess; "
        "it = RecorderProcess(None); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", prepared],
        env=wrapper.env,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: children_of(process.pid, "carbontrack.record"))
    process.kill()
    _, said = process.communicate(timeout=PATIENCE_S)  # until nobody holds its stderr any more
    assert said == ""
    assert not wrapper.ledger.exists()
