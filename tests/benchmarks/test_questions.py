"""Each benchmark in a tiny size, without the peers, so that none of them rots."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.answer import QUESTIONS
from tests.fixtures.nvml import NvmlStub
from tests.fixtures.postgres import PostgresServer


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_gives_its_tables(
    tmp_path: Path, question: str, nvml_stub: NvmlStub, postgres_server: PostgresServer
) -> None:
    argv = [sys.executable, "-m", "benchmarks", question, "--quick"]
    where = ["--out", str(tmp_path), "--peers", str(tmp_path / "none")]
    done = subprocess.run([*argv, *where], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads((tmp_path / "results.json").read_text())["questions"][question]
    assert answer["tables"]
    for table in answer["tables"]:
        assert table["title"] in done.stdout
        assert table["title"] in (tmp_path / "RESULTS.md").read_text()
        assert table["rows"]
        assert all(len(row) == len(table["columns"]) for row in table["rows"])
        assert "no energy" not in str(table["rows"])
        assert "not, the first" not in str(table["rows"]), "a promise did not hold"


def test_an_unknown_question_names_the_known_ones() -> None:
    argv = [sys.executable, "-m", "benchmarks", "weather"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert all(question in done.stderr for question in QUESTIONS)
