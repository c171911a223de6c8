"""Steps of real jobs, from the logged line to what the summary, the table and `show` say."""

from __future__ import annotations

import os
import re
import sqlite3
import sys
from contextlib import closing
from typing import Any

import pytest

from carbontrack.report.numbers import count_text
from tests.fixtures.wrap import Wrapper

LOG = r"step (?P<step>\d+) loss (?P<loss>\S+)(?: tokens (?P<tokens>\d+))?"


def python(code: str) -> tuple[str, ...]:
    return sys.executable, "-c", code


def from_log(wrapper: Wrapper, pattern: str = LOG) -> tuple[str, ...]:
    return "--steps-from-log", pattern, "--log", str(wrapper.folder / "train.log")


def steps_of(wrapper: Wrapper, run: str = "last") -> list[tuple[Any, ...]]:
    (shown,) = [wrapper.json("show", run)]
    with closing(sqlite3.connect(wrapper.ledger)) as ledger:
        return ledger.execute(
            "select step, loss, tokens, time_ms from steps "
            "join recordings on recordings.key = recording_key "
            "join runs on runs.key = run_key where runs.id = ? order by step",
            (shown["id"],),
        ).fetchall()


FOUR_RANKS = """
import os, subprocess, sys
job = "import carbontrack\\nfor n in range(1, 11): carbontrack.log_step(n, tokens=100, loss=1/n)"
jobs = [
    subprocess.Popen([sys.executable, "-c", job], env={**os.environ, "RANK": str(rank)})
    for rank in (3, 1, 2, 0)
]
sys.exit(sum(job.wait() for job in jobs))
"""
RESUMED = """
import carbontrack
for n in (*range(1, 11), *range(6, 16)):
    carbontrack.log_step(n, tokens=100, loss=1 / n)
"""
FRACTIONS = """
import carbontrack
for n in range(1, 11):
    carbontrack.log_step(n / 10, tokens=100)
"""


@pytest.mark.parametrize(
    ("job", "steps", "tokens"), [(FOUR_RANKS, 10, 1000), (RESUMED, 15, 1500), (FRACTIONS, 1, 100)]
)
def test_summary_show_and_table_have_the_same_steps_and_tokens(
    wrapper: Wrapper, job: str, steps: int, tokens: int
) -> None:
    done = wrapper.run(*python(job), options=())
    assert done.returncode == 0, done.stderr
    summary = re.search(r"steps\s+(\d+)\s+([\d.]+ ?k?) tokens", done.stderr)
    assert summary is not None, done.stderr
    shown = wrapper.json("show")
    (row,) = wrapper.json("table")["rows"]
    assert (int(summary[1]), summary[2]) == (steps, count_text(tokens))
    assert (shown["steps"], shown["tokens"], row["tokens"]) == (steps, tokens, tokens)
    assert shown["final_loss"] == row["final_loss"]
    assert ("is a fraction" in done.stderr) == (job == FRACTIONS)


def test_the_same_job_twice_over_one_log_has_its_steps_twice(wrapper: Wrapper) -> None:
    code = f"""
with open({str(wrapper.folder / "train.log")!r}, "w") as log:
    for n in range(1, 201):
        print(f"step {{n}} loss {{1 / n}}", file=log)
"""
    for _ in range(2):
        done = wrapper.run(*python(code), options=("--quiet", *from_log(wrapper)))
        assert done.returncode == 0, done.stderr
        assert [row[0] for row in steps_of(wrapper)] == list(range(1, 201))


def test_what_was_not_understood_is_said_with_the_first_such_line(wrapper: Wrapper) -> None:
    path = wrapper.folder / "train.log"
    lines = ["step 1 loss 2.5", "step 2 loss 2,34567", "step 3 loss 2,2"]
    code = f"open({str(path)!r}, 'w').write({chr(10).join(lines) + chr(10)!r})"
    done = wrapper.run(*python(code), options=from_log(wrapper))
    assert "note" in done.stderr
    assert "2 logged lines not understood, the first: 'step 2 loss 2,34567'" in done.stderr
    assert [row[:2] for row in steps_of(wrapper)] == [(1, 2.5)]


def test_a_log_without_a_match_is_said_with_its_first_line(wrapper: Wrapper) -> None:
    path = wrapper.folder / "train.log"
    done = wrapper.run(
        *python(f"open({str(path)!r}, 'w').write('epoch 1\\n')"), options=from_log(wrapper)
    )
    assert "no line of the 1 of train.log matches --steps-from-log" in done.stderr
    assert "'epoch 1'" in done.stderr


BAD_LINES = [
    '{"step": 2, "x": ' + 30_000 * "[" + 30_000 * "]" + "}",
    '{"step": 0.5}',
    '{"step": 4, "time_ms": 9000000000000000000, "tokens": 9000000000000000000}',
    '{"step": 5, "time_ms": -9000000000000000000, "loss": 1e308}',
    '{"event": "eval", "time_ms": 9000000000000000000, "loss": 1e308}',
    '{"step": 6, "big": 99999999999999999999999}',
    '{"model": {"parameters": "7B", "planned_tokens": -1}}',
]


def test_no_line_ends_the_recording_or_breaks_a_report(wrapper: Wrapper) -> None:
    lines = [f'{{"step": {n}, "loss": 2.5, "tokens": 9}}' for n in (1, 7)]
    logged = "\n".join([lines[0], *BAD_LINES, lines[1], ""])
    code = f"import os; open(os.environ['CARBONTRACK_STEPS'], 'a').write({logged!r})"
    done = wrapper.record(*python(code), options=())
    assert done.returncode == 0
    assert "2 logged lines not understood" in done.stderr
    assert "7 logged values dropped" in done.stderr
    shown = wrapper.json("show")
    assert (shown["status"], shown["tokens"]) == ("completed", 18)
    assert shown["energy_kwh"] > 0
    assert [row[0] for row in steps_of(wrapper)] == [1, 4, 5, 6, 7]
    picture = wrapper.folder / "run.svg"
    for command in (
        ("show",),
        ("table",),
        ("plot", "last", "--kind", "loss", "--out", str(picture)),
    ):
        reported = wrapper.ask(*command)
        assert reported.returncode == 0, reported.stderr


def test_a_projection_from_a_log_is_that_of_the_run(wrapper: Wrapper) -> None:
    """0.1 s a step, read about every 1.6 s: it was 16 times wrong."""
    path = wrapper.folder / "train.log"
    code = f"""
import time
due_s = time.monotonic()
with open({str(path)!r}, "w", buffering=1) as log:
    for n in range(1, 81):
        due_s += 0.1
        time.sleep(max(0, due_s - time.monotonic()))
        print(f"step {{n}} loss {{1 / n}} tokens 4096", file=log)
"""
    done = wrapper.run(*python(code), options=("--quiet", *from_log(wrapper)))
    assert done.returncode == 0, done.stderr
    rows = steps_of(wrapper)
    assert len({row[3] for row in rows}) > 60, "each step has a time of its own"
    found = wrapper.json("project", "last", "--tokens", "1B")
    (row,) = wrapper.json("table")["rows"]
    assert found["whole_j_per_token"] == pytest.approx(row["energy_kwh"] * 3.6e6 / row["tokens"])
    # What the job needed beyond its steps, to start or for a CPU, is not steady.
    assert 1 / 3 < found["whole_over_steady"] < 3 * max(1, row["duration_s"] / 8)


def test_a_log_that_was_asked_for_and_is_none_is_said_even_when_quiet(wrapper: Wrapper) -> None:
    quiet = ("--quiet", *from_log(wrapper))
    missing = wrapper.run(*python("pass"), options=quiet)
    nothing = "carbontrack: no steps were read from train.log: nothing was written to it.\n"
    assert (missing.returncode, missing.stderr) == (0, nothing)
    os.mkfifo(wrapper.folder / "train.log")
    pipe = wrapper.run(*python("pass"), options=quiet)
    assert pipe.returncode == 0
    assert "is not a regular file" in pipe.stderr
