"""`run --live`: the page beside a run, gone with it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from tests.fixtures.wrap import PATIENCE_S, Wrapper

Until = Callable[..., Any]


@pytest.mark.parametrize("killed", [False, True])
def test_the_page_lives_as_long_as_the_run(wrapper: Wrapper, until: Until, killed: bool) -> None:
    job = wrapper.start("sh", "-c", "read line; exit 5", options=("--live",), stdin=subprocess.PIPE)
    assert job.stderr is not None
    address = re.search(r"http://127.0.0.1:\d+/", job.stderr.readline())
    assert address is not None

    def answer() -> Any:
        try:
            with urllib.request.urlopen(f"{address[0]}api/runs", timeout=5) as response:
                return json.load(response)
        except OSError:
            return None

    until(lambda: (answer() or {}).get("runs"))
    if killed:
        job.send_signal(signal.SIGKILL)
    job.communicate("on\n", timeout=PATIENCE_S)
    assert job.returncode == (-signal.SIGKILL if killed else 5)
    until(lambda: answer() is None)


def test_two_runs_have_a_page_each(wrapper: Wrapper, until: Until) -> None:
    jobs = [
        wrapper.start("cat", options=("--live",), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]
    said = [job.stderr.readline() for job in jobs if job.stderr is not None]
    assert len({re.search(r":(\d+)/#/run/", line)[1] for line in said}) == 2  # type: ignore[index]
    for job in jobs:
        job.communicate(timeout=PATIENCE_S)
        assert job.returncode == 0
