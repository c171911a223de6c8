"""Each benchmark in a tiny size, without the peers, so that none of them rots."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import QUESTIONS
from benchmarks.answer import Table, spread, write
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


def test_an_unknown_question_names_the_known_ones() -> None:
    argv = [sys.executable, "-m", "benchmarks", "weather"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert all(question in done.stderr for question in QUESTIONS)


def test_a_question_asked_again_replaces_its_answer_and_keeps_the_others(tmp_path: Path) -> None:
    def answer(value: str) -> list[Table]:
        return [Table("Speed", "As it was.", ["", "a", "b"], [["x", value, "2"]], {})]

    for question, value in (("one", "1"), ("two", "1"), ("two", "7")):
        write(question, answer(value), 1.0, {"tool": "2.0"}, tmp_path)
    text = (tmp_path / "RESULTS.md").read_text()
    assert text.index("| x | 1 | 2 |") < text.index("| x | 7 | 2 |")
    assert "tool 2.0" in text


def test_a_spread_is_a_median_with_its_range() -> None:
    assert spread([3.0, 1.0, 2.0]) == "2.0 (1.0–3.0)"
    assert spread([3.0]) == "3.0"
    assert spread([]) == "—"
