"""What the job logs, from its helpers and its files to what is recorded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from carbontrack.record.steps import StepsFile
from carbontrack.record.steps_log import StepsLog
from carbontrack.units import now_ms

PATTERN = r"(?P<step>\d+)/9 loss (?P<loss>\S+)"


def test_lines_are_read_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    path.write_text('{"step": 1, "loss": 3.5, "tokens": 1024}\n{"step": 2, "lo')
    steps = StepsFile(str(path))
    (first,) = steps.read().steps
    assert (first.step.step, first.step.loss, first.step.tokens) == (1, 3.5, 1024)
    logged_ms = now_ms()
    with path.open("a") as file:
        file.write(f'ss": 3.25, "time_ms": {logged_ms}, "rank": 2, "mfu": 0.4}}\n')
    (second,) = steps.read().steps
    assert (second.step.loss, second.step.time_ms, second.rank) == (3.25, logged_ms, 2)
    assert second.step.extra == {"mfu": 0.4}
    assert not steps.read().steps


def test_a_progress_bar_ends_its_lines_by_going_back(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    path.write_text("\r 1/9 loss 2.5\r 2/9 loss 2.25\r 3/9 lo")
    log = StepsLog(str(path), PATTERN)
    found = [(one.step.step, one.step.loss) for one in log.read().steps]
    assert found == [(1, 2.5), (2, 2.25)]
    with path.open("a") as file:
        file.write("ss 2.0")
    assert log.read().steps == []
    assert [(one.step.step, one.step.loss) for one in log.read(ended=True).steps] == [(3, 2.0)]


def test_a_file_that_is_gone_is_no_news(tmp_path: Path) -> None:
    assert not StepsFile(str(tmp_path / "gone")).read().steps
    assert not StepsFile(None).read().steps


def test_why_a_log_gave_no_steps(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    log = StepsLog(str(path), PATTERN)
    log.read()
    assert "nothing was written" in log.trouble()
    path.write_text("\x1b[31mstep one\nstep two\n")
    log.read()
    assert log.trouble() == (
        "no line of the 2 of train.log matches --steps-from-log; the first: '[31mstep one'"
    )
    with path.open("a") as file:
        file.write("1/9 loss 2.5\n")
    log.read()
    assert log.trouble() == ""


@pytest.mark.parametrize(
    ("kind", "why"),
    [("loop", "Too many levels of symbolic links"), ("below a file", "Not a directory")],
)
def test_a_log_that_cannot_be_opened_says_why(tmp_path: Path, kind: str, why: str) -> None:
    path = tmp_path / "train.log"
    if kind == "loop":
        path.symlink_to(path)
    else:
        path.touch()
        path = path / "train.log"
    log = StepsLog(str(path), PATTERN)
    log.read(ended=True)
    assert log.trouble() == f"no steps were read from train.log: {why}"


def test_a_log_that_is_opened_to_us_later_is_read(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    path.symlink_to(path)
    log = StepsLog(str(path), PATTERN)
    log.read()
    path.unlink()
    log.read()
    assert log.trouble() == "no steps were read from train.log: nothing was written to it"
    path.write_text("1/9 loss 2.5\n")
    assert [one.step.step for one in log.read(ended=True).steps] == [1]
    assert log.trouble() == ""


HELPERS = """
import carbontrack
carbontrack.describe_model(name="tiny", parameters=10)
for step in (1, 2):
    carbontrack.log_step(step, loss=2.5 / step, lr=1e-3, tokens=64, tokens_per_s=float("inf"))
carbontrack.log_event("checkpoint", "saved", path="x")
carbontrack.log_step(3, loss=object())
carbontrack.log_step(4)
"""


def test_helpers_write_what_the_recorder_reads(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    path.touch()
    subprocess.run(
        [sys.executable, "-c", HELPERS],
        env={"CARBONTRACK_STEPS": str(path), "RANK": "3"},
        check=True,
    )
    logged = StepsFile(str(path)).read()
    assert [one.step.step for one in logged.steps] == [1, 2, 3, 4]
    assert [one.step.loss for one in logged.steps] == [2.5, 1.25, None, None]
    assert {one.rank for one in logged.steps} == {3}
    assert [event.kind for event in logged.events] == ["checkpoint"]
    assert logged.model["parameters"] == 10
    assert (logged.bad_values.count, logged.bad_values.first) == (1, "loss of step 3")


def test_helpers_do_nothing_without_a_recorder() -> None:
    done = subprocess.run([sys.executable, "-c", HELPERS], env={}, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_lines_of_several_processes_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    path.touch()
    code = "import carbontrack\nfor i in range(500): carbontrack.log_step(i, pad='x' * 400)"
    jobs = [
        subprocess.Popen([sys.executable, "-c", code], env={"CARBONTRACK_STEPS": str(path)})
        for _ in range(3)
    ]
    assert [job.wait() for job in jobs] == [0, 0, 0]
    lines = path.read_text().splitlines()
    assert len([json.loads(line) for line in lines]) == 1500


@pytest.mark.parametrize("reader", ["log", "steps"])
def test_a_fifo_is_not_waited_for(tmp_path: Path, reader: str) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    source = StepsFile(str(fifo)) if reader == "steps" else StepsLog(str(fifo), r"(?P<step>\d+)")
    assert list(source.read().steps) == []
    assert source.problem == f"{fifo} is not a regular file"


def test_a_pattern_that_never_ends_is_given_up(tmp_path: Path) -> None:
    log = tmp_path / "log"
    follower = StepsLog(str(log), r"(?P<step>\d+) ((a+)+)$")
    found: list[int] = []
    for number in range(5):
        with log.open("a") as file:
            file.write(f"{number} a\n" + f"{number} " + "a" * 40 + "b\n")
        found += [one.step.step for one in follower.read().steps]
    assert follower.problem == "the pattern of --steps-from-log takes too long"
    assert found == [0, 1, 2], "the other lines count"


def test_a_long_line_is_cut_before_the_pattern_sees_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("step 1 " * 100_000 + "\nstep 2 loss 3\n")
    pattern = r"step\s+(?P<step>\d+).*loss\s+(?P<loss>\S+)"
    logged = StepsLog(str(log), pattern).read()
    assert [(one.step.step, one.step.loss) for one in logged.steps] == [(2, 3.0)]
