"""`carbontrack.phase`: what a job says its time goes to, and who says it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import carbontrack
from carbontrack.job import close_steps
from carbontrack.job_phases import log_phase
from tests.fixtures.wrap import Wrapper, wait_until

RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "LOCAL_RANK", "NODE_RANK")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    close_steps()
    found = tmp_path / "steps.jsonl"
    found.touch()
    monkeypatch.setenv("CARBONTRACK_STEPS", str(found))
    for name in RANKS:
        monkeypatch.delenv(name, raising=False)
    yield found
    close_steps()


def names(path: Path) -> list[str | None]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {line["event"] for line in lines} <= {"phase"}
    return [line["name"] for line in lines]


def test_the_innermost_phase_counts(path: Path) -> None:
    with carbontrack.phase("train"), carbontrack.phase("data"):
        pass
    with pytest.raises(ZeroDivisionError), carbontrack.phase("eval"):
        1 / 0  # noqa: B018
    assert names(path) == ["train", "data", "train", None, "eval", None]


def test_tasks_and_threads_need_not_close_their_phases_in_turn(path: Path) -> None:
    async def work(name: str, begins: asyncio.Event, ends: asyncio.Event) -> None:
        with carbontrack.phase(name):
            begins.set()
            await ends.wait()

    async def both() -> None:
        events = [asyncio.Event() for _ in range(4)]
        first = asyncio.create_task(work("a", events[0], events[1]))
        await events[0].wait()
        second = asyncio.create_task(work("b", events[2], events[3]))
        await events[2].wait()
        events[1].set()
        await first
        events[3].set()
        await second

    asyncio.run(both())
    assert names(path) == ["a", "b", None]
    opened, leave = threading.Event(), threading.Event()

    def load() -> None:
        with carbontrack.phase("thread"):
            opened.set()
            leave.wait()

    thread = threading.Thread(target=load)
    with carbontrack.phase("main"):
        thread.start()
        opened.wait()
    leave.set()
    thread.join()
    assert names(path)[3:] == ["main", "thread", None]


@pytest.mark.parametrize(
    ("environ", "logs"),
    [
        ({"RANK": "0"}, True),
        ({"RANK": "1", "LOCAL_RANK": "0"}, False),
        ({"SLURM_PROCID": "3"}, False),
        ({"LOCAL_RANK": "1"}, False),  # Lightning's own launcher
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "0"}, True),
    ],
)
def test_only_rank_0_has_phases(path: Path, environ: dict[str, str], logs: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import carbontrack\nwith carbontrack.phase('x'): pass"],
        env={"CARBONTRACK_STEPS": str(path), **environ},
        capture_output=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == (b"", b"")
    assert names(path) == (["x", None] if logs else [])


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_the_helpers_of_rank_0_log_none(path: Path, tmp_path: Path, how: str) -> None:
    script = tmp_path / "job.py"
    script.write_text(
        "import multiprocessing, carbontrack\n"
        "def load(item):\n"
        "    with carbontrack.phase('helper'): return item\n"
        "def trial():\n"
        "    with carbontrack.phase('trial'): pass\n"
        "if __name__ == '__main__':\n"
        f"    context = multiprocessing.get_context({how!r})\n"
        "    with carbontrack.phase('data'), context.Pool(1) as pool:\n"
        "        assert pool.map(load, [1, 2]) == [1, 2]\n"
        "    process = context.Process(target=trial)\n"
        "    process.start(); process.join()\n"
    )
    subprocess.run([sys.executable, script], env={"CARBONTRACK_STEPS": str(path)}, check=True)
    assert names(path) == ["data", None, "trial", None]


def test_a_recorder_that_comes_later_hears_of_the_open_phase(path: Path) -> None:
    log_phase()
    with carbontrack.phase("train"):
        path.write_text("")
        log_phase()
        assert names(path) == ["train"]


def test_without_a_recorder_and_whatever_the_name_nothing_happens(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (None, object(), float("nan"), {1, 2}):
        with carbontrack.phase(name):
            pass
    monkeypatch.delenv("CARBONTRACK_STEPS")
    close_steps()
    with carbontrack.phase("unheard"):
        pass


def test_a_wrapped_job_is_split_by_its_phases(wrapper: Wrapper) -> None:
    job = """
import time, carbontrack
before_s = time.monotonic()
with carbontrack.phase("load"):
    begun_s = time.monotonic()
    input()
    ending_s = time.monotonic()
print(ending_s - begun_s, time.monotonic() - before_s)
"""
    held = wrapper.start(
        sys.executable, "-c", job, stdin=subprocess.PIPE, options=("--name", "job", "--quiet")
    )
    wait_until(lambda: min(map(len, wrapper.seconds().values()), default=0) >= 2)
    out, _ = held.communicate("\n")
    shortest_s, longest_s = map(float, out.split())
    found = wrapper.json("table", "--by", "phase")
    assert [row["label"] for row in found["rows"]] == ["load", "other"]
    for name in ("energy_kwh", "duration_s", "cost", "tco2e"):
        parts = sum(row[name] for row in found["rows"])
        assert parts == pytest.approx(found["total"][name]), name
    load, other = found["rows"]
    assert shortest_s - 0.01 <= load["duration_s"] <= longest_s + 0.01
    assert load["energy_kwh"] > 0
    assert other["energy_kwh"] > 0
