"""A plain `carbontrack run` is read without the parser, and means what the parser makes of it."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.exceptions import TyperException
from typer.main import get_command

from carbontrack.cli import app, plain_run
from carbontrack.cli.recording import DEFAULTS, FACILITY, OPTIONS, facility_option
from carbontrack.record import defaults
from carbontrack.vocabulary import Devices, OnBudget
from tests.fixtures.wrap import PATIENCE_S, Wrapper

SAID = [*OPTIONS, *map(facility_option, FACILITY)]
FLAGS = [flag for option in SAID for flag in option.flags]
VALUES = [
    "",
    "x",
    "a=b",
    "3",
    "0.5",
    "1_0",
    "nan",
    "-1",
    "--",
    "-",
    "--hz",
    "a b",
    "é",
    "=",
    "true",
]
OTHERS = ["--help", "-h", "--colour", "--live", "--na", "-qq", "--no-quiet", "--require-meter"]


@cache
def parser() -> Any:
    group: Any = get_command(app._app(["run"]))
    return group.commands["run"]


def parsed(words: list[str]) -> dict[str, Any] | None:
    """What the parser makes of these words; None where it refuses them, or prints help."""
    try:
        params = parser().make_context("run", list(words)).params
    except (TyperException, SystemExit):
        return None
    return {
        name: list(value) or None if isinstance(value, tuple) else value
        for name, value in params.items()
    }


WORDS = st.lists(
    st.one_of(
        st.sampled_from(FLAGS),
        st.sampled_from(VALUES),
        st.sampled_from(OTHERS),
        st.builds("{}={}".format, st.sampled_from(FLAGS), st.sampled_from(VALUES)),
        st.sampled_from(FLAGS).flatmap(
            lambda flag: st.sampled_from(["3", "0.5"]).map(lambda value: f"{flag}={value}")
        ),
    ),
    max_size=6,
)


@given(words=WORDS)
def test_it_means_what_the_parser_makes_of_it(words: list[str]) -> None:
    words = [*words, "--", "python", "train.py", "--lr", "3e-4"]
    found = plain_run.read(words)
    if found is None:
        return
    command, given = found
    meant = parsed(words)
    assert meant is not None
    assert (meant.pop("command"), meant.pop("live"), meant.pop("require_meter")) == (
        command,
        False,
        False,
    )
    assert repr(given) == repr({name: meant[name] for name in given})  # nan is not itself
    assert set(meant) == set(given)


@pytest.mark.parametrize("option", SAID, ids=[option.name for option in SAID])
def test_every_option_is_read_plainly(option: plain_run.Option) -> None:
    value = "" if option.kind is bool else "=3"
    for flag in option.flags:
        for words in ([f"{flag}{value}"], [flag, *value[1:]]):
            found = plain_run.read([*words, "--", "true"])
            assert found is not None
            three: Any = True if option.kind is bool else ["3"] if option.kind is list else None
            expected = option.kind("3") if three is None else three
            assert found == (["true"], {**DEFAULTS, option.name: expected})


@pytest.mark.parametrize(
    "words", [[], ["--"], ["--name"], ["--hz", "x", "--", "true"], *([one] for one in OTHERS)]
)
def test_what_is_not_plain_is_left_to_the_parser(words: list[str]) -> None:
    assert plain_run.read(words) is None


@pytest.mark.parametrize(
    "options",
    [
        ["--hz", "99"],
        ["--hz", "x"],
        ["--name", ""],
        ["--name", "last"],
        ["--tag", "team"],
        ["--db", "mysql://x"],
        ["--db", "."],
        ["--meter", "sim:z1"],
        ["--meter", "wattmeter"],
        ["--devices", "some"],
        ["--on-budget", "stop"],
        ["--budget-kg", "-1"],
        ["--budget-kg=0"],
        ["--log", "x"],
        ["--ship", "http://far.example"],
        ["--pue", "0.5"],
        ["--metrics-port", "0"],
        ["--metrics-port", "x"],
        ["--colour"],
    ],
)
def test_a_mistake_is_one_line_and_the_job_does_not_start(
    wrapper: Wrapper, options: list[str]
) -> None:
    started = wrapper.folder / "started"
    done = wrapper.carbontrack("run", *options, "--", "touch", str(started))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("carbontrack: ")
    assert not started.exists()


def test_the_defaults_are_words_of_the_vocabulary() -> None:
    assert Devices(defaults.DEVICES) == Devices.JOB
    assert OnBudget(defaults.ON_BUDGET) == OnBudget.WARN


def test_without_a_parser_a_plain_run_is_recorded(wrapper: Wrapper, tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise RuntimeError('broken')\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import carbontrack.search_path as s; "
        "s.put_jobs_folders_last = lambda: None; from carbontrack.__main__ import main; main()"
    )
    words = ["run", "--quiet", "--meter=sim:a100x2", "sh", "-c", "exit 7"]
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *words],
        env={**os.environ, **wrapper.env},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (7, "")
    (run,) = wrapper.json("runs")["runs"]
    assert (run["exit_code"], run["devices"]) == (7, 2)
