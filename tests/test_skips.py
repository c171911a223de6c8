"""In CI no test is skipped for want of something that can be installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SKIPPING = """
import pytest
from tests.fixtures import tools

def test_a_tool(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    tools.need(tools.COMPILER)

@pytest.mark.skipif(True, reason="no such package")
def test_a_mark(): ...

def test_the_machine():
    pytest.skip(f"{tools.OF_THE_MACHINE}: it has one CPU")
"""


@pytest.mark.parametrize(
    ("ci", "outcome"), [("", "3 skipped"), ("1", "1 failed, 1 skipped, 1 error")]
)
def test_what_could_be_installed_is_not_skipped_there(
    tmp_path: Path, ci: str, outcome: str
) -> None:
    (tmp_path / "test_skipping.py").write_text(SKIPPING)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-q", str(tmp_path)],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "CI": ci},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome in done.stdout, done.stdout + done.stderr
    if ci:
        assert "a C compiler is missing: install gcc libc6-dev" in done.stdout
