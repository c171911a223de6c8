"""What every callback has of a training: recorded once, warnings once, nothing raised."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from carbontrack import Ledger
from carbontrack.integrations.session import Session, harmless_hook
from carbontrack.job import close_steps
from tests.fixtures.wrap import PATIENCE_S

LOG = logging.getLogger("framework")


class Training:
    """What a framework has one of for each training."""


@pytest.fixture(autouse=True)
def around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith("CARBONTRACK_") or name.endswith("RANK"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CARBONTRACK_DB", str(tmp_path / "ledger.db"))
    monkeypatch.setenv("CARBONTRACK_GRACE_S", str(PATIENCE_S))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    close_steps()
    yield
    close_steps()


def begin(session: Session, training: object, **how: Any) -> None:
    rank = {"name": "x", "is_first": True, "is_local": False, "ranks": 1}
    session.begin(training, **{**rank, **how})


def test_of_two_callbacks_in_a_training_the_second_does_nothing(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = tmp_path / "steps.jsonl"
    steps.touch()
    monkeypatch.setenv("CARBONTRACK_STEPS", str(steps))
    training, first, second = Training(), Session(LOG), Session(LOG)
    for session in (first, second, second):
        begin(session, training)
    for session in (first, second):
        session.step(1, loss=2.0, lr=None)
        session.event("eval", loss=1.0)
        session.end()
    assert [one.getMessage() for one in caplog.records] == [
        "carbontrack: there is a CarbonTrackCallback in this training already: one is enough"
    ]
    assert steps.read_text().count('"loss": 2.0') == 1
    begin(second, training)  # a later training of the same trainer
    assert second.logs
    second.end()
    assert len(caplog.records) == 1


class Online(Training):
    """Another kind of training of the same framework."""


def test_another_kind_of_training_after_one_that_died_is_recorded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second = Session(LOG), Session(LOG)
    begin(first, Training())
    begin(second, Online())
    assert (first.logs, second.logs) == (False, True)
    second.end()
    assert caplog.records == []


def test_a_rank_without_environment_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    session = Session(LOG)
    for _ in range(2):
        begin(session, Training(), is_first=False, ranks=2)
        session.step(1, loss=1.0)
        session.end()
    (said,) = caplog.records
    assert said.getMessage().startswith("carbontrack: this rank has no RANK")


def test_a_hook_that_the_framework_lacks_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    class Base:
        def on_train_begin(self) -> None: ...

    class Callback(Base):
        def on_train_begin(self) -> None: ...
        def on_save(self) -> None: ...
        def on_evaluate(self) -> None: ...

    Session(LOG).check_hooks(Base, Callback)
    (said,) = caplog.records
    assert "has no on_save, on_evaluate" in said.getMessage()


class Saver(Training):
    def __init__(self) -> None:
        self.saved: list[str] = []

    def save(self, path: str, *, fails: bool = False) -> str:
        if fails:
            raise OSError("disk full")
        self.saved.append(path)
        return path


def test_a_method_without_hooks_is_a_phase_as_long_as_it_takes(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = tmp_path / "steps.jsonl"
    steps.touch()
    monkeypatch.setenv("CARBONTRACK_STEPS", str(steps))
    training, session, second = Saver(), Session(LOG), Session(LOG)
    begin(session, training)
    begin(second, training)
    for one in (session, second):  # of two callbacks one counts
        one.time_method(training, "save", "checkpoint")
    assert training.save("a") == "a"
    with pytest.raises(OSError, match="disk full"):
        training.save("b", fails=True)
    phases = [json.loads(line)["name"] for line in steps.read_text().splitlines()]
    assert phases == ["train", "checkpoint", "train", "checkpoint", "train"]
    session.end()
    assert training.save("c") == "c"
    assert (training.saved, vars(training)) == (["a", "c"], {"saved": ["a", "c"]})
    assert len(steps.read_text().splitlines()) == len(phases) + 1
    assert len(caplog.records) == 1  # of the second callback


def test_a_clock_that_is_set_makes_no_wait_for_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = tmp_path / "steps.jsonl"
    steps.touch()
    monkeypatch.setenv("CARBONTRACK_STEPS", str(steps))
    session = Session(LOG)
    begin(session, Training())
    clock = SimpleNamespace(time_ns=lambda: wall_ns, monotonic_ns=lambda: now_ns)
    monkeypatch.setattr("carbontrack.integrations.session.time", clock)
    wall_ns, now_ns = 1_800_000_000 * 10**9, 10**9
    session.waits_for_data()
    wall_ns += 3_600 * 10**9
    session.has_data()
    session.waits_for_data()
    wall_ns, now_ns = wall_ns - 7_200 * 10**9 + 3 * 10**8, now_ns + 3 * 10**8
    session.has_data()
    phases = [json.loads(line) for line in steps.read_text().splitlines()]
    (began,) = [one["time_ms"] for one in phases if one["name"] == "data"]
    assert began == wall_ns // 10**6 - 300
    session.end()


def test_a_method_that_the_framework_lacks_is_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    session = Session(LOG)
    for training in (Training(), Training()):
        begin(session, training)
        session.time_method(training, "save_checkpoint", "checkpoint")
        session.end()
    (said,) = caplog.records
    assert said.getMessage().endswith(
        "Training has no save_checkpoint: the phase checkpoint is missing"
    )


def test_a_hook_raises_nothing_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    class Callback:
        session = Session(LOG)

        @harmless_hook
        def on_step_end(self) -> int:
            return 1 // 0

    callback = Callback()
    assert [callback.on_step_end() for _ in range(3)] == [None] * 3
    assert [one.getMessage() for one in caplog.records] == [
        "carbontrack: on_step_end failed: ZeroDivisionError: integer division or modulo by zero"
    ]


def test_it_obeys_the_level_of_the_frameworks_logger(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, logger="framework")
    session = Session(LOG)
    session.warn("quiet")
    begin(session, Training(), is_local=True)
    session.end()
    assert caplog.records == []


def test_a_training_that_fails_is_a_run_that_failed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="framework")
    session = Session(LOG, meter="sim:a100x1", tags={"team": "nlp"})
    begin(session, Training(), name="fit", is_local=True)
    with_error = session.end(ValueError("out of data"))
    assert with_error is not None
    run = Ledger().runs().iloc[0]
    assert (run["name"], run["status"], run["tags"]) == ("fit", "failed", {"team": "nlp"})
    assert caplog.records[-1].getMessage().startswith("carbontrack: fit\n  energy")


def test_a_training_that_never_ended_has_failed_once_the_next_begins() -> None:
    first, second = (Session(LOG, meter="sim:a100x2") for _ in range(2))
    begin(first, Training(), name="first", is_local=True)
    first.step(1, loss=2.0)
    begin(second, Training(), name="second", is_local=True)  # the first had an exception
    first.step(2, loss=2.0)
    second.step(1, loss=1.0)
    begin(second, Training(), name="third", is_local=True)  # and so had the second
    second.step(1, loss=1.0)
    second.end()
    assert first.end() is None
    found = Ledger().runs()
    assert sorted(zip(found["name"], found["status"], strict=True)) == [
        ("first", "failed"),
        ("second", "failed"),
        ("third", "completed"),
    ]


def test_two_frameworks_in_one_training_are_one_session(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop, trainer = Session(LOG), Session(logging.getLogger("another framework"))
    begin(loop, Training())
    begin(trainer, Saver())
    assert (loop.logs, trainer.logs) == (True, False)
    assert len(caplog.records) == 1
    loop.step(1)
    begin(trainer, Saver())  # after a step of it the other was interrupted
    assert (loop.logs, trainer.logs) == (False, True)
    trainer.end()
    begin(loop, Training())
    loop.end()
    assert len(caplog.records) == 1
