"""Budgets of a run: said at 80 %, said when spent, and if asked the job is told to stop."""

from __future__ import annotations

import pytest

from tests.fixtures.wrap import Wrapper

JOB = "trap 'echo checkpoint; exit 0' TERM; for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.5; done"


def budget_events(wrapper: Wrapper) -> list[str]:
    return [e["message"] for e in wrapper.json("show")["events"] if e["kind"] == "budget"]


def test_a_budget_that_is_not_reached_is_silent(wrapper: Wrapper) -> None:
    done = wrapper.run("sleep", "2", options=("--budget-kwh", "1000", "--budget-kg", "1000"))
    assert "budget" not in done.stderr
    assert budget_events(wrapper) == []


def test_a_spent_budget_is_said_and_the_job_goes_on(wrapper: Wrapper) -> None:
    done = wrapper.run("sh", "-c", JOB, options=("--budget-kwh", "1e-6", "--budget-usd", "1e9"))
    assert (done.returncode, done.stdout) == (0, "")
    (event,) = budget_events(wrapper)
    assert event.startswith("budget spent: ")
    assert "of 1e-06 kWh" in event
    assert done.stderr.count("budget spent") == 1


def test_stop_sends_the_job_sigterm_once_so_that_it_can_checkpoint(wrapper: Wrapper) -> None:
    options = ("--budget-kg", "1e-6", "--on-budget", "stop")
    done = wrapper.run("sh", "-c", JOB, options=options)
    assert (done.returncode, done.stdout) == (0, "checkpoint\n")
    assert [event.split(":")[0] for event in budget_events(wrapper)] == [
        "budget spent",
        "the job was sent SIGTERM, so that it can checkpoint",
    ]


def test_a_job_that_does_not_stop_is_reported_and_never_killed(wrapper: Wrapper) -> None:
    options = ("--budget-kg", "1e-6", "--on-budget", "stop", "--budget-grace", "1")
    stubborn = "trap '' TERM; sleep 5; echo to the end"
    done = wrapper.run("sh", "-c", stubborn, options=options)
    assert (done.returncode, done.stdout) == (0, "to the end\n")
    assert "still runs 1 s after SIGTERM" in done.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [(["--on-budget", "explode"], "--on-budget explode"), (["--budget-kg", "-1"], "-1")],
)
def test_mistakes_are_one_line(wrapper: Wrapper, options: list[str], says: str) -> None:
    done = wrapper.carbontrack("run", *options, "--", "true")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert says in done.stderr
