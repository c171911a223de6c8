"""The helpers a job calls: they never raise, never fall silent, and say what they dropped."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import carbontrack
from carbontrack.job import close_steps, describe_model, log_event, log_step
from carbontrack.record.logged import LoggedLines
from carbontrack.record.steps import StepsFile


class Hostile:
    """Raises whatever is asked of it."""

    def __init__(self, error: type[BaseException] = ValueError) -> None:
        self.error = error

    def _raise(self, *_: object) -> Any:
        raise self.error("hostile")

    __float__ = __str__ = __eq__ = __bool__ = __int__ = __index__ = __len__ = _raise
    __hash__ = _raise
    __iter__ = __fspath__ = item = _raise


class PanicException(BaseException):
    """As extensions written in Rust raise it."""


class Number:
    def __float__(self) -> float:
        return 2.5


class Scalar:
    """As a tensor of one number."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def item(self) -> Any:
        return self.value


def cycle() -> list[Any]:
    found: list[Any] = []
    found += [found] * 50
    return found


UNFIT = [
    1 + 2j,
    Scalar(1 + 2j),
    object(),
    Hostile(),
    Hostile(PanicException),
    Hostile(RecursionError),
    Hostile(MemoryError),
    b"bytes",
    bytearray(b"bytes"),
    datetime(2026, 1, 1),
    {1, 2},
    2**70,
    -(2**64),
    cycle(),
    {"a": {"b": cycle()}},
    {(1, 2): 3},
    [object()],
    range(3),
    list(range(100_000)),
    lambda: 1,
]
FIT: list[tuple[Any, Any]] = [
    (None, None),
    (True, True),
    (2.5, 2.5),
    ("text", "text"),
    ([1, "a", None], [1, "a", None]),
    ((1, 2), [1, 2]),
    ({"a": [1]}, {"a": [1]}),
    (Decimal("2.5"), 2.5),
    (Fraction(5, 2), 2.5),
    (Number(), 2.5),
    (Scalar(3), 3),
    (Path("/a/b"), "/a/b"),
    (2**62, 2**62),
    ("x" * 3_000_000, "x" * 4096),
    ("\ud83d\0", "\ud83d\0"),
]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The steps file of a recorder."""
    close_steps()
    monkeypatch.setattr("carbontrack.job._lost_lines", 0)  # of another test
    found = tmp_path / "steps.jsonl"
    found.touch()
    monkeypatch.setenv("CARBONTRACK_STEPS", str(found))
    for name in ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK"):
        monkeypatch.delenv(name, raising=False)
    yield found
    close_steps()


def read(path: Path) -> LoggedLines:
    return StepsFile(str(path)).read(ended=True)


def steps(logged: LoggedLines) -> list[int]:
    return [one.step.step for one in logged.steps]


@pytest.mark.parametrize("number", range(len(UNFIT)))
def test_a_value_that_json_cannot_hold_is_dropped_and_the_rest_is_there(
    path: Path, number: int
) -> None:
    value = UNFIT[number]
    log_step(1, lr=0.5, loss=value, x=1)
    log_step(2, lr=0.25)
    logged = read(path)
    first, second = logged.steps
    assert (first.step.lr, first.step.loss, first.step.extra) == (0.5, None, {"x": 1})
    assert second.step.lr == 0.25
    assert (logged.bad_values.count, logged.bad_values.first) == (1, "loss of step 1")
    assert logged.bad_lines.count == 0


@pytest.mark.parametrize(("value", "stored"), FIT)
def test_what_json_can_hold_is_logged(path: Path, value: Any, stored: Any) -> None:
    log_event("eval", "done", x=value)
    log_step(1, x=value)
    logged = read(path)
    (event,), (one,) = logged.events, logged.steps
    assert event.data["x"] == stored
    assert one.step.extra.get("x") == stored
    assert logged.bad_values.count == logged.bad_lines.count == 0


@pytest.mark.parametrize("step", [None, "one", 0.5, math.nan, 2**64, Hostile(), [1], True])
def test_what_is_not_a_step_is_counted_and_the_next_one_is_there(path: Path, step: Any) -> None:
    log_step(step, loss=1.0)
    log_step(7)
    logged = read(path)
    assert steps(logged) == [7]
    assert logged.bad_lines.count == 1


def test_tensors_that_are_no_number_are_dropped(path: Path) -> None:
    torch = pytest.importorskip("torch")
    log_step(1, loss=torch.tensor(2.5))
    log_step(torch.tensor(2), loss=torch.tensor(1 + 2j))
    log_step(3, loss=torch.empty(1, device="meta"))
    log_step(4, loss=torch.zeros(3))
    logged = read(path)
    assert [(one.step.step, one.step.loss) for one in logged.steps] == [
        (1, 2.5), (2, None), (3, None), (4, None),
    ]  # fmt: skip
    assert logged.bad_values.count == 3


VALUES = [*UNFIT, *(value for value, _ in FIT)]
anything = st.recursive(
    st.integers(0, len(VALUES) - 1).map(lambda number: VALUES[number])
    | st.floats()
    | st.integers()
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
NAMES = """step event model loss tokens tokens_total rank time_ms kind message values card data
    parameters x _dropped _lost"""
names = st.sampled_from(NAMES.split())


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(first=anything, second=anything, values=st.dictionaries(names, anything, max_size=6))
def test_nothing_is_raised_and_nothing_silenced(
    path: Path, first: Any, second: Any, values: dict[str, Any]
) -> None:
    path.write_bytes(b"")
    log_step(first, **values)
    log_step(first, second, first, **values)
    log_event(first, second, **values)
    log_event(first, second, first, **values)
    describe_model(first, **values)
    log_step(7, loss=1.5)
    *others, last = path.read_text().splitlines()
    assert len(others) == 5
    assert max(map(len, others)) < 1 << 16
    written = {"step": 7, "time_ms": 0, "rank": 0, "_pid": os.getpid(), "loss": 1.5}
    assert json.loads(last) | {"time_ms": 0} == written
    logged = read(path)
    assert steps(logged)[-1] == 7
    taken = len(logged.steps) + len(logged.events) + logged.bad_lines.count
    assert taken in (5, 6), "each line is there, or counted; the card is no step"


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_ends_a_program_passes(path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        log_step(1, loss=Hostile(error))
    log_step(2)
    assert steps(read(path)) == [2]


@pytest.mark.parametrize(
    ("environ", "rank"),
    [
        ({}, 0),
        ({"RANK": "3"}, 3),
        ({"SLURM_PROCID": "2"}, 2),
        ({"OMPI_COMM_WORLD_RANK": "5"}, 5),
        ({"PMI_RANK": "6"}, 6),
        ({"RANK": "3", "SLURM_PROCID": "1"}, 3),
        ({"RANK": "", "SLURM_PROCID": "x", "PMI_RANK": "6"}, 6),
        ({"RANK": "-1"}, 0),
        ({"RANK": "9" * 5000}, 0),
    ],
)
def test_each_line_carries_the_rank_that_wrote_it(
    path: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], rank: int
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    log_step(1)
    assert read(path).steps[0].rank == rank


def test_a_full_disk_costs_the_lines_that_it_refused_and_they_are_counted(path: Path) -> None:
    """With a limit of the file's size in the disk's place; the last line that fits is torn."""
    code = """
import resource, signal, sys
import carbontrack
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
carbontrack.log_step(1)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
carbontrack.log_step(2, pad="x" * 300)
carbontrack.log_step(3)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
carbontrack.log_step(4)
carbontrack.log_step(5)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    said = f"carbontrack: steps are not logged: {path}: File too large.\n"
    assert (done.returncode, done.stderr.decode()) == (0, said)
    logged = read(path)
    assert steps(logged) == [1, 4, 5]
    assert (logged.lost_lines, logged.bad_lines.count) == (2, 1)


def test_a_file_that_is_there_later_is_found(
    path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carbontrack.job._complained", -1)
    path.unlink()
    log_step(1)
    log_event("once")
    missing = f"carbontrack: steps are not logged: {path}: No such file or directory.\n"
    assert capfd.readouterr().err == missing
    path.touch()
    log_step(2)
    logged = read(path)
    assert (steps(logged), logged.lost_lines) == ([2], 2)


def test_arguments_without_a_name_are_dropped_and_counted(path: Path) -> None:
    log_step(1, 2.5, lr=0.5)
    log_event("eval", "done", 3)
    describe_model({"name": "x"}, parameters=7)
    logged = read(path)
    assert (logged.steps[0].step.lr, logged.events[0].kind) == (0.5, "eval")
    assert logged.model == {"parameters": 7}
    assert logged.bad_values.count == 3
    assert logged.bad_values.first == "an argument without a name of step 1"


def test_a_pipe_in_its_place_is_not_waited_for(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)
    log_step(1)


def test_a_job_that_closes_all_its_files_gets_none_of_our_lines(path: Path, tmp_path: Path) -> None:
    log_step(1)
    from carbontrack import job

    os.close(job._steps_fd)
    with (tmp_path / "weights").open("w") as file:
        assert file.fileno() == job._steps_fd, "the number is used again"
        log_step(2)
    assert (tmp_path / "weights").read_text() == ""
    assert steps(read(path)) == [1, 2]


def test_the_helpers_are_light() -> None:
    code = "import sys, carbontrack; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert loaded.isdisjoint({"sqlalchemy", "numpy", "torch", "typer", "logging", "datetime"})
    assert carbontrack.log_step is log_step
