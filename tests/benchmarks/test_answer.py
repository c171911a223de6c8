"""How answers are kept: in RESULTS.md and results.json, beside the targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import targets
from benchmarks.answer import write
from benchmarks.table import Table, spread


def answer(value: str) -> list[Table]:
    return [Table("Speed", "As it was.", ["", "a", "b"], [["x", value, "2"]], {})]


def test_a_question_asked_again_replaces_its_answer_and_keeps_the_others(tmp_path: Path) -> None:
    for question, value in (("one", "1"), ("two", "1"), ("two", "7")):
        write(question, answer(value), 1.0, {"tool": "2.0"}, tmp_path, load=2.25)
    text = (tmp_path / "RESULTS.md").read_text()
    assert text.index("| x | 1 | 2 |") < text.index("| x | 7 | 2 |")
    assert "tool 2.0" in text
    assert "commit" in text


def test_the_questions_stand_in_their_order(tmp_path: Path) -> None:
    for question in ("training", "watching", "energy_truth"):
        tables = [Table(title, "", [""], [["x"]], raw) for title, raw in RAW[question].items()]
        write(question, tables, 1.0, {}, tmp_path, load=0.0)
    text = (tmp_path / "RESULTS.md").read_text()
    places = [text.index(f"## {name}") for name in ("Targets", "Energy truth", "Watching")]
    assert places == sorted(places)
    assert text.index("## Training") > places[-1]


def test_a_spread_is_a_median_with_its_range() -> None:
    assert spread([3.0, 1.0, 2.0]) == "2.0 (1.0–3.0)"
    assert spread([3.0]) == "3.0"
    assert spread([]) == "—"


RAW: dict[str, dict[str, Any]] = {
    "energy_truth": {
        "With an energy counter": [
            {"tool": "carbontrack", "scenario": "A100, 8 GPUs", "error": -0.0004},
            {"tool": "carbontrack", "scenario": "H100, 8 GPUs", "error": 0.0006},
            {"tool": "carbontrack", "scenario": "A100, 1 GPU", "error": 0.5},
            {"tool": "Zeus", "scenario": "A100, 8 GPUs", "error": 0.5},
        ],
        "Without a counter": [
            {"tool": "carbontrack", "scenario": "A100, 8 GPUs", "error": None},
            {"tool": "carbontrack", "scenario": "H100, 8 GPUs", "error": 0.02},
        ],
    },
    "watching": {
        "A job that ends at once": {
            "before_ms": {"carbontrack": [90.0, 130.0, 100.0]},
            "after_ms": {"carbontrack": [160.0]},
        },
        "A job of 40 s on 8 GPUs": {
            "carbontrack": {"cpu_share": 0.006, "largest_mib": 60.0, "after_ms": 60.0}
        },
    },
    "crowd": {
        "Two jobs at once": {"ratio": 1.6},
        "Short jobs at once on one ledger": {"wrong_codes": 0, "lost": 1},
    },
    "training": {
        "Tokens a second and memory on the CPU": [
            {
                "name": "llama_train",
                "compiled": False,
                "times_faster": [1.2, 1.1, 0.9],
                "memory_mib": 500.0,
                "steps_s": [0.3, 0.2, 0.4],
            },
            {
                "name": "llama_train",
                "compiled": False,
                "bfloat16": True,
                "settings": True,
                "times_faster": [1.4],
                "memory_mib": 600.0,
                "steps_s": [0.2, 0.15],
            },
            {
                "name": "transformers",
                "compiled": False,
                "settings": False,
                "times_faster": [0.9],
                "memory_mib": 250.0,
            },
            {
                "name": "transformers",
                "compiled": False,
                "times_faster": [1.0],
                "memory_mib": 1000.0,
            },
            {"name": "litgpt", "compiled": False, "times_faster": [0.8], "memory_mib": 700.0},
        ]
    },
}


def test_each_target_stands_beside_what_was_measured() -> None:
    questions = {
        name: {"tables": [{"title": title, "raw": raw} for title, raw in tables.items()]}
        for name, tables in RAW.items()
    }
    table = targets.table(questions)
    assert table is not None
    reached = {row[0].partition(" (")[0]: (row[2], row[3]) for row in table.rows}
    assert reached["worst error, counter, 8 A100s"] == ("0.04 %", "yes"), "a peer's is not ours"
    assert reached["worst error, counter, 8 H100s"] == ("0.06 %", "**no**")
    assert reached["worst error, no counter, 8 A100s"] == ("no energy", "**no**")
    assert reached["until the job's exec"] == ("100 ms", "yes")
    assert reached["after the end of a job of an instant"] == ("160 ms", "**no**")
    assert reached["after the end of a job of 40 s"] == ("60 ms", "yes")
    assert reached["two jobs at once ÷ bare ones"] == ("1.6 ×", "**no**")
    assert reached["wrong exit codes of 300 at once"][1] == "yes"
    assert reached["lost of 300 at once"][1] == "**no**"
    assert reached["CPU of the watcher, 8 GPUs"] == ("0.6 %", "**no**")
    assert reached["speed of llama_train ÷ a plain loop, eager"] == ("1.1 ×", "**no**")
    assert reached["memory of llama_train ÷ a plain loop, eager"] == ("0.5 ×", "yes")
    assert reached["speed of llama_train in bf16 ÷ in fp32"] == ("1.71 ×", "yes")
    assert reached["speed of llama_train ÷ a plain loop, compiled"] == ("not measured", "**no**")


@pytest.mark.parametrize("questions", [{}, {"projection": {"tables": []}}])
def test_without_their_questions_there_are_no_targets(questions: dict[str, Any]) -> None:
    assert targets.table(questions) is None
