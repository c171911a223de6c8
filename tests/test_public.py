"""The public names of `carbontrack`, which scripts and notebooks use."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import carbontrack
from carbontrack.record.messages import Plan

NAMES = {
    "CarbontrackError",
    "Ledger",
    "__version__",
    "describe_model",
    "estimate",
    "hardware",
    "log_event",
    "log_step",
    "phase",
    "published",
    "track",
}


def test_these_are_public() -> None:
    assert set(carbontrack.__all__) == NAMES
    assert set(dir(carbontrack)) >= NAMES
    assert all(getattr(carbontrack, name) for name in NAMES)


def test_another_name_is_missing_as_of_any_module() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Ledgers'"):
        getattr(carbontrack, "Ledgers")  # noqa: B009 - mypy knows that it is missing


def test_importing_it_imports_these_modules_and_nothing_else() -> None:
    code = (
        "import json, sys, threading, contextlib, typing, importlib; before = set(sys.modules)\n"
        "import carbontrack; print(*sorted(set(sys.modules) - before))"
    )
    command = [sys.executable, "-I", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert [name for name in loaded if name.split(".")[0] not in sys.stdlib_module_names] == [
        "carbontrack",
        "carbontrack.errors",
        "carbontrack.version",
    ]


def test_a_helper_that_cannot_be_imported_any_more_says_so_and_raises_nothing() -> None:
    code = (
        "import os, resource, carbontrack\n"
        "soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))\n"
        "carbontrack.log_step(1, loss=2.0)\n"
        "with carbontrack.phase('data'): pass\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))\n"
        "from carbontrack import log_step\n"
        "assert log_step.__module__ == 'carbontrack.job'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = [line.split(":")[1] for line in done.stderr.splitlines()]
    assert said == [" log_step() is not logged", " phase() is not logged"]


def test_it_is_typed() -> None:
    assert Path(carbontrack.__file__).with_name("py.typed").exists()


def test_a_name_is_imported_when_it_is_used() -> None:
    code = (
        "import sys, carbontrack; dir(carbontrack)\n"
        "assert 'carbontrack.query' not in sys.modules\n"
        "from carbontrack import Ledger\n"
        "assert Ledger.__module__ == 'carbontrack.query.ledger'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_block_is_recorded_as_a_command_is_unless_it_says_otherwise() -> None:
    given = inspect.signature(carbontrack.track).parameters
    plan = {field.name: field.default for field in fields(Plan)}
    for name in ("project", "meter", "devices", "hz", "quiet"):
        assert given[name].default == plan[name], name
