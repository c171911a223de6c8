"""What a question gives: tables of measured values, and how they are written."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Bench:
    """How to ask: `quick` is the tiny size that the tests use, so that no question rots."""

    folder: Path  # for what the questions write; empty at first
    peers: Path | None  # the peers' environment; None: carbontrack alone
    quick: bool = False


@dataclass(frozen=True)
class Table:
    """One question's answer. Cells are text as printed; `raw` has every figure behind them."""

    title: str
    how: str  # what was done, and what a reader must know to judge the figures; may be empty
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    raw: Any

    @property
    def markdown(self) -> str:
        lines = [f"### {self.title}", "", *([self.how, ""] if self.how else []), _row(self.columns)]
        lines.append(_row(["---", *("---:" for _ in self.columns[1:])]))
        lines += [_row(row) for row in self.rows]
        return "\n".join(lines)


def spread(values: Sequence[float], form: str = "{:.1f}") -> str:
    """Median and range: `12.3 (11.9–14.0)`; `—` where nothing was measured."""
    if not values:
        return "—"
    shown = [form.format(v) for v in (statistics.median(values), min(values), max(values))]
    return f"{shown[0]} ({shown[1]}–{shown[2]})" if len(values) > 1 else shown[0]


def write(
    question: str,
    tables: Sequence[Table],
    took_s: float,
    versions: Mapping[str, str],
    folder: Path,
) -> None:
    """Put an answer into RESULTS.md and results.json; the other questions keep theirs."""
    path = folder / "results.json"
    kept = json.loads(path.read_text()) if path.exists() else {"questions": {}}
    kept["questions"][question] = {
        "machine": machine(),
        "versions": dict(versions),
        "took_s": round(took_s, 1),
        "tables": [vars(table) for table in tables],
    }
    path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    (folder / "RESULTS.md").write_text(_document(kept["questions"]))


def machine() -> str:
    """This machine in a line, without its name."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{len(os.sched_getaffinity(0))} cores of {model}, {memory_gib:.0f} GiB, "
        f"{platform.system()} {platform.release().partition('-')[0]}, "
        f"Python {platform.python_version()}"
    )


def _document(questions: Mapping[str, Any]) -> str:
    parts = [
        "# Measured side by side",
        "Written by `make bench`; every figure behind these tables is in `results.json`. Repeat "
        "one question with `make bench QUESTIONS=NAME`. Where carbontrack is behind, it is shown.",
    ]
    for name, answer in sorted(questions.items()):
        versions = ", ".join(f"{tool} {version}" for tool, version in answer["versions"].items())
        parts.append(f"## {name.replace('_', ' ').capitalize()}")
        parts.append(f"`{name}`: {answer['took_s']:.0f} s on {answer['machine']}. {versions}.")
        parts += [Table(**table).markdown for table in answer["tables"]]
    return "\n\n".join(parts) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
