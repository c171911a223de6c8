"""Budgets of a run: said at 80 %, said when spent, and if asked the job is told to stop."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.wrap import Wrapper

JOB = "trap 'echo checkpoint; exit 0' TERM; for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.5; done"


def budget_events(wrapper: Wrapper) -> list[str]:
    return [e["message"] for e in wrapper.json("show")["events"] if e["kind"] == "budget"]


def test_a_budget_that_is_not_reached_is_only_in_the_summary(wrapper: Wrapper) -> None:
    done = wrapper.run("sleep", "2", options=("--budget-kwh", "1000", "--budget-kg", "1000"))
    assert done.stderr.count("budget  ") == done.stderr.count("budget") == 2
    assert "of 1000 kg CO₂e: within" in done.stderr
    assert budget_events(wrapper) == []


def test_a_spent_budget_is_said_and_the_job_goes_on(wrapper: Wrapper) -> None:
    options = ("--budget-kwh", "1e-6", "--budget-usd", "1e9")
    done = wrapper.run("sh", "-c", "sleep 2", options=options)
    assert (done.returncode, done.stdout) == (0, "")
    (event,) = budget_events(wrapper)
    assert event.startswith("budget spent: ")
    assert "of 1e-06 kWh" in event
    assert done.stderr.count("budget spent") == 1
    assert "of 1e-06 kWh: spent" in done.stderr


def test_at_80_percent_it_is_said(wrapper: Wrapper, tmp_path: Path) -> None:
    """Two GPUs at 360 W and PUE 1.25 use 900 J a second; of 6 s worth the job takes 5 and a bit."""
    (tmp_path / "flat.csv").write_text("seconds,watts\n0,360\n100,360\n")
    wrapper.meter = f"sim:a100x2@{tmp_path / 'flat.csv'}"
    (tmp_path / "carbontrack.toml").write_text("pue = 1.25")
    limit_kwh = f"{6 * 900 / 3.6e6:g}"
    done = wrapper.run("sleep", "5", options=("--budget-kwh", limit_kwh), cwd=tmp_path)
    (event,) = budget_events(wrapper)
    assert event.startswith("budget nearly spent: ")
    assert 0.8 <= float(event.split("(")[1].split("%")[0]) / 100 < 1.0
    assert f"of {limit_kwh} kWh: nearly spent" in done.stderr


def test_what_cannot_be_watched_is_said_once(wrapper: Wrapper, tmp_path: Path) -> None:
    (tmp_path / "carbontrack.toml").write_text("zone = 'our-solar-roof'\nprice = 'aws:p5'")
    options = ("--budget-kg", "1000", "--budget-usd", "1000")
    done = wrapper.run("sleep", "2", options=options, cwd=tmp_path)
    by_average, not_watched = budget_events(wrapper)
    assert by_average.startswith("budget in kg CO₂e is judged by the world's average: zone 'our-s")
    assert not_watched.startswith("budget in USD is not watched: an imported price")
    assert done.stderr.count("carbontrack: budget in") == 2


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
    [
        (["--on-budget", "explode"], "--on-budget explode"),
        (["--on-budget", "stop"], "--on-budget stop without a limit"),
        (["--budget-kg", "-1"], "--budget-kg -1 must be a finite number above 0"),
        (["--budget-usd", "0"], "--budget-usd 0 must be a finite number above 0"),
        (
            ["--budget-kg", "nan", "--on-budget", "stop"],
            "--budget-kg nan must be a finite number above 0",
        ),
        (["--budget-kwh", "inf"], "--budget-kwh inf must be a finite number above 0"),
        (["--budget-kwh", "1", "--budget-grace", "nan"], "--budget-grace nan"),
    ],
)
def test_mistakes_are_one_line(wrapper: Wrapper, options: list[str], says: str) -> None:
    done = wrapper.carbontrack("run", *options, "--", "true")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert says in done.stderr
