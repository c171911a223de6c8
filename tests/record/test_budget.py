"""Budgets of a run: said at 80 %, said when spent, and if asked the job is told to stop."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fixtures.tools import OF_THE_MACHINE
from tests.fixtures.wrap import CARBONTRACK, PATIENCE_S, Held, Wrapper, wait_until

# Budgets of 1e-12 are spent at the first look: no look finds them spent only nearly.
JOB = "trap 'echo checkpoint; exit 0' TERM; while :; do sleep 0.1; done"


def budget_events(wrapper: Wrapper) -> list[str]:
    return [e["message"] for e in wrapper.json("show")["events"] if e["kind"] == "budget"]


def test_a_budget_that_is_not_reached_is_only_in_the_summary(wrapper: Wrapper) -> None:
    done = wrapper.record(options=("--budget-kwh", "1000", "--budget-kg", "1000"))
    assert done.stderr.count("budget  ") == done.stderr.count("budget") == 2
    assert "of 1,000 kg CO₂e: within" in done.stderr
    assert budget_events(wrapper) == []


def test_a_spent_budget_is_said_and_the_job_goes_on(wrapper: Wrapper) -> None:
    options = ("--budget-kwh", "1e-12", "--budget-usd", "1e9")
    job = wrapper.hold(options=options)
    job.until_said("budget spent")
    done = job.end()
    assert (done.returncode, done.stdout) == (0, "")
    (event,) = budget_events(wrapper)
    assert event.startswith("budget spent: ")
    assert "of 1e-12 kWh" in event
    assert done.stderr.count("budget spent") == 1
    assert "of 1e-12 kWh: spent" in done.stderr


def test_at_80_percent_it_is_said(wrapper: Wrapper, tmp_path: Path) -> None:
    """Two GPUs at 360 W for 3 s and PUE 1.25 use 2700 J, and nothing before or after that."""
    (tmp_path / "pulse.csv").write_text("seconds,watts\n0,0\n3,360\n6,0\n")
    wrapper.meter = f"sim:a100x2@{tmp_path / 'pulse.csv'}"
    (tmp_path / "carbontrack.toml").write_text("pue = 1.25\nfactors_as_of = 2026-01-01")
    limit_kwh = f"{3000 / 3.6e6:g}"
    job = wrapper.hold(options=("--budget-kwh", limit_kwh), cwd=tmp_path)
    job.until_said("budget nearly spent")
    done = job.end()
    (event,) = budget_events(wrapper)
    assert event.startswith("budget nearly spent: ")
    assert 0.8 <= float(event.split("(")[1].split("%")[0]) / 100 < 1.0
    assert f"of {limit_kwh} kWh: nearly spent" in done.stderr
    early = "zone WORLD has no value that was known on 2026-01-01 (factors_as_of). "
    assert f"{early}Reports have neither" in done.stderr, "and it is recorded all the same"
    assert f"{early}Not used here." in done.stderr


def test_what_cannot_be_watched_is_said_once(wrapper: Wrapper, tmp_path: Path) -> None:
    (tmp_path / "carbontrack.toml").write_text("zone = 'our-solar-roof'\nprice = 'aws:p5'")
    options = ("--budget-kg", "1000", "--budget-usd", "1000")
    job = wrapper.hold(options=options, cwd=tmp_path)
    job.until_said("budget in USD is not watched")
    done = job.end()
    by_average, not_watched = budget_events(wrapper)
    assert by_average.startswith("budget in kg CO₂e is judged by the world's average: zone 'our-s")
    assert not_watched.startswith("budget in USD is not watched: an imported price")
    assert done.stderr.count("carbontrack: budget in") == 2


def test_stop_sends_the_job_sigterm_once_so_that_it_can_checkpoint(wrapper: Wrapper) -> None:
    options = ("--budget-kg", "1e-12", "--on-budget", "stop")
    done = wrapper.run("sh", "-c", JOB, options=options)
    assert (done.returncode, done.stdout) == (0, "checkpoint\n")
    assert [event.split(":")[0] for event in budget_events(wrapper)] == [
        "budget spent",
        "the job was sent SIGTERM, so that it can checkpoint",
    ]


def test_a_job_that_does_not_stop_is_reported_and_never_killed(wrapper: Wrapper) -> None:
    options = ("--budget-kg", "1e-12", "--on-budget", "stop", "--budget-grace", "1")
    stubborn = "trap '' TERM; read line; echo to the end"
    job = Held(wrapper, wrapper.start("sh", "-c", stubborn, options=options, stdin=subprocess.PIPE))
    job.until_said("still runs 1 s after SIGTERM")
    done = job.end()
    assert (done.returncode, done.stdout) == (0, "to the end\n")
    assert done.stderr.count("still runs 1 s after SIGTERM") == 1


def test_a_job_of_another_user_is_not_stopped_and_its_recording_goes_on(wrapper: Wrapper) -> None:
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0 or setpriv is None:
        pytest.skip(f"{OF_THE_MACHINE}: only root, and setpriv, can start a job of another user")
    another = (setpriv, "--reuid=12345", "--regid=12345", "--clear-groups")
    may_not_kill = (setpriv, "--bounding-set=-kill")
    limits = ("--budget-kg", "1e-12", "--budget-kwh", "1e-12", "--on-budget", "stop")
    with subprocess.Popen(
        [*another, "sh", "-c", "echo; read line; exit 6"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd="/",
    ) as job:
        assert job.stdout is not None
        job.stdout.readline()  # from now on it is another user's
        attach = (*CARBONTRACK, "attach", str(job.pid), "--meter", wrapper.meter, *limits)
        with subprocess.Popen(
            [*may_not_kill, *attach], env=wrapper.env, stderr=subprocess.PIPE, text=True
        ) as recorded:
            wait_until(lambda: min(map(len, wrapper.seconds().values()), default=0) >= 3)
            job.communicate(b"\n", timeout=PATIENCE_S)
            _, said = recorded.communicate(timeout=PATIENCE_S)
    assert job.returncode == 6
    refused = "the job could not be sent SIGTERM: Operation not permitted; end it yourself"
    assert said.count(refused) == said.count("SIGTERM") == 1
    assert [event.split(":")[0] for event in budget_events(wrapper)] == [
        "budget spent",
        "the job could not be sent SIGTERM",
        "budget spent",
    ]
    assert wrapper.json("show")["status"] == "completed"


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
