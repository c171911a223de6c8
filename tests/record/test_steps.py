"""What the job says of itself: each line counts once it is complete, and a bad one harms nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from carbontrack.record import steps as module
from carbontrack.record.steps import StepsFile, StepsLog, parse


def test_lines_are_read_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    path.write_text('{"step": 1, "loss": 3.5, "tokens": 1024}\n{"step": 2, "lo')
    steps = StepsFile(str(path))
    (first,) = steps.read().steps
    assert (first.step, first.loss, first.tokens) == (1, 3.5, 1024)
    with path.open("a") as file:
        file.write('ss": 3.25, "time_ms": 1700000000000, "mfu": 0.4}\n')
    (second,) = steps.read().steps
    assert (second.loss, second.time_ms, second.extra) == (3.25, 1_700_000_000_000, {"mfu": 0.4})
    assert steps.read().steps == []


def test_a_progress_bar_ends_its_lines_by_going_back(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    path.write_text("\r 1/9 loss 2.5\r 2/9 loss 2.25\r 3/9 lo")
    log = StepsLog(str(path), r"(?P<step>\d+)/9 loss (?P<loss>\S+)")
    assert [(step.step, step.loss) for step in log.read().steps] == [(1, 2.5), (2, 2.25)]
    with path.open("a") as file:
        file.write("ss 2.0")
    assert log.read().steps == []
    assert [(step.step, step.loss) for step in log.read(ended=True).steps] == [(3, 2.0)]


def test_a_line_that_does_not_end_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_BYTES_A_READ", 100)
    path = tmp_path / "steps.jsonl"
    path.write_bytes(250 * b"x" + b'\n{"step": 7}\n')
    steps = StepsFile(str(path))
    told = [steps.read() for _ in range(4)]
    assert [step.step for one in told for step in one.steps] == [7]


def test_at_the_end_all_of_a_flood_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_BYTES_A_READ", 100)
    path = tmp_path / "steps.jsonl"
    path.write_text("".join(f'{{"step": {number}}}\n' for number in range(100)))
    steps = StepsFile(str(path))
    before = steps.read().steps
    assert 0 < len(before) < 10
    assert [step.step for step in before + steps.read(ended=True).steps] == list(range(100))


def test_events_and_model_card_are_told_apart() -> None:
    told = parse(
        [
            b'{"event": "eval", "message": "held-out", "step": 120, "loss": 3.09}',
            b'{"model": {"name": "tiny", "parameters": 869504}}',
            b'{"model": {"planned_tokens": 1000000}}',
        ]
    )
    (event,) = told.events
    assert (event.kind, event.message) == ("eval", "held-out")
    assert event.data == {"step": 120, "loss": 3.09}
    assert told.steps == [], "an event that names a step is not a step"
    assert told.model == {"name": "tiny", "parameters": 869504, "planned_tokens": 1_000_000}


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b"[]",
        b'"step"',
        b"{}",
        b'{"step": "one"}',
        b'{"step": 1, "loss": []}',
        b"\xff",
        b'{"step": 1e999}',
        b'{"step": 1, "tokens": 9223372036854775808}',
        b'{"event": "eval", "time_ms": 1e300}',
    ],
)
def test_a_line_that_is_not_understood_is_counted_and_skipped(line: bytes) -> None:
    told = parse([line, b'{"step": 3}'])
    assert told.bad_lines == 1
    assert [step.step for step in told.steps] == [3]


def test_a_file_that_is_gone_is_no_news(tmp_path: Path) -> None:
    assert StepsFile(str(tmp_path / "gone")).read().steps == []
    assert StepsFile(None).read().steps == []


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
        [sys.executable, "-c", HELPERS], env={"CARBONTRACK_STEPS": str(path)}, check=True
    )
    told = StepsFile(str(path)).read()
    assert [step.loss for step in told.steps] == [2.5, 1.25]
    assert [event.kind for event in told.events] == ["checkpoint"]
    assert told.model["parameters"] == 10


def test_helpers_do_nothing_without_a_recorder(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELPERS],
        env={"CARBONTRACK_STEPS": str(tmp_path / "gone" / "steps")},
        capture_output=True,
        check=False,
    )
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
    assert source.read().steps == []
    assert source.problem == f"{fifo} is not a regular file"


def test_a_pattern_that_never_ends_is_given_up(tmp_path: Path) -> None:
    log = tmp_path / "log"
    follower = StepsLog(str(log), r"(?P<step>\d+) ((a+)+)$")
    for number in range(5):
        with log.open("a") as file:
            file.write(f"{number} a\n" + f"{number} " + "a" * 40 + "b\n")
        follower.read()
    assert follower.problem == "the pattern of --steps-from-log takes too long"


def test_a_long_line_is_cut_before_the_pattern_sees_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("step 1 " * 100_000 + "\nstep 2 loss 3\n")
    pattern = r"step\s+(?P<step>\d+).*loss\s+(?P<loss>\S+)"
    told = StepsLog(str(log), pattern).read()
    assert [(step.step, step.loss) for step in told.steps] == [(2, 3.0)]
