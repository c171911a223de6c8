"""A stderr that cannot be written costs the lines that would be there, and nothing else."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.fixtures.wrap import PATIENCE_S, Wrapper, kinds, wait_until
from tests.record.test_outbox import every_second_once

# Ends, once it is let go, with 6 where it has a stderr, else with 7.
JOB = "read line; [ -e /proc/$$/fd/2 ] && exit 6; exit 7"


@pytest.mark.parametrize(
    ("redirection", "code"),
    [("2>/dev/full", 6), ("2>&1", 6), ("2>&-", 7)],
    ids=["full", "without-reader", "closed"],
)
def test_the_recording_goes_on_to_its_end(wrapper: Wrapper, redirection: str, code: int) -> None:
    """Whatever a recorder says: that a budget is spent, and what the run used."""
    command = wrapper.argv("sh", "-c", JOB, options=("--budget-kwh", "1e-12"))
    read_end, write_end = os.pipe()
    os.close(read_end)
    with subprocess.Popen(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", *command],
        stdin=subprocess.PIPE,
        stdout=write_end,
        env=wrapper.env,
    ) as job:
        os.close(write_end)
        wait_until(lambda: min(map(len, wrapper.seconds().values()), default=0) >= 3)
        had = wrapper.seconds()
        job.communicate(b"\n", timeout=PATIENCE_S)
    assert job.returncode == code
    run = wrapper.json("show")
    assert (run["status"], run["exit_code"]) == ("failed", code)
    assert kinds(run) == ["budget"]
    every_second_once(wrapper.seconds(), had)
