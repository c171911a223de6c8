"""How a question is asked, and how its answer is kept in RESULTS.md and results.json."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import targets
from benchmarks.table import Table

QUESTIONS = (
    "energy_truth",
    "kill",
    "lost",
    "watching",
    "crowd",
    "ledger",
    "fleet",
    "fleet_load",
    "fleet_month",
    "importing",
    "dashboards",
    "training",
    "chat",
    "evaluation",
    "projection",
)
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Bench:
    """How to ask: `quick` is the tiny size that the tests use, so that no question rots."""

    folder: Path  # for what the questions write; empty at first
    peers: Path | None  # the peers' environment; None: carbontrack alone
    trainers: Path | None = None  # the other training codes' environment; None: without them
    quick: bool = False


def write(
    question: str,
    tables: Sequence[Table],
    took_s: float,
    versions: Mapping[str, str],
    folder: Path,
    *,
    load: float,
) -> None:
    """Put an answer into RESULTS.md and results.json; the other questions keep theirs. `load` is
    the machine's mean of a minute before: what else ran makes times longer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "results.json"
    kept = json.loads(path.read_text()) if path.exists() else {"questions": {}}
    kept["questions"][question] = {
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": commit(),
        "machine": machine(),
        "versions": dict(versions),
        "took_s": round(took_s, 1),
        "load": round(load, 1),
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


def commit() -> str:
    """The commit that was measured; with a + where its files were changed."""
    words = ["git", "describe", "--always", "--dirty=+", "--exclude", "*"]
    done = subprocess.run(words, cwd=_ROOT, check=False, capture_output=True, text=True)
    return done.stdout.strip() or "no commit"


def _document(questions: Mapping[str, Any]) -> str:
    parts = [
        "# Measured side by side",
        "Written by `make bench`; every figure behind these tables is in `results.json`. Repeat "
        "one question with `make bench QUESTIONS=NAME`. Where carbontrack is behind, it is shown.",
    ]
    if (reached := targets.table(questions)) is not None:
        parts += ["## Targets", reached.markdown]
    for name in sorted(questions, key=_place):
        answer = questions[name]
        versions = ", ".join(f"{tool} {version}" for tool, version in answer["versions"].items())
        parts.append(f"## {name.replace('_', ' ').capitalize()}")
        parts.append(
            f"`{name}`: {answer['took_s']:.0f} s on {answer['machine']}{_load(answer)}; "
            f"{answer['measured']}, commit {answer['commit']}. {versions}."
        )
        parts += [Table(**table).markdown for table in answer["tables"]]
    return "\n\n".join(parts) + "\n"


def _load(answer: Mapping[str, Any]) -> str:
    load = answer.get("load")  # older answers have none
    return "" if load is None else f", load {load:g} before"


def _place(question: str) -> int:
    return QUESTIONS.index(question) if question in QUESTIONS else len(QUESTIONS)
