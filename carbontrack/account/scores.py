"""Scores in benchmarks: those that a run logged, and those that reports print for published models.

A score is as its metric has it, most often a share from 0 to 1; a published one is that share of
what is printed in per cent.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from carbontrack.account import published
from carbontrack.errors import CarbontrackError
from carbontrack.factors import data
from carbontrack.ledger.recorded_rows import Event
from carbontrack.vocabulary import Agreement, EventKind

PER_CENT = 100.0
_BY_LOCATION = "location-based"
_NO_SHARES = ("perplexity", "bits_per_byte")
"""Parts of the names of metrics that are no share, and better the lower they are."""


@dataclass(frozen=True, slots=True)
class Score:
    """Of one task by one metric, as an event of a run has it. None if unknown."""

    task: str
    metric: str
    score: float
    stderr: float | None
    chance: float | None  # what guessing would get
    questions: int | None
    step: int | None  # of the checkpoint that was asked
    time_ms: int

    @property
    def name(self) -> str:
        return f"{self.task}/{self.metric}"


@dataclass(frozen=True, slots=True)
class PublishedScore:
    """A row of scores.csv, with the printed CO2e of its model where a report gives it."""

    report: str
    table: str  # of the Llama 2 report; "" where it is in none
    model: str
    benchmark: str
    setting: str
    score: float
    printed: str  # in per cent
    agreement: Agreement
    expected: str  # the status that a person reviewed
    tco2e: float | None
    gpu_hours: float | None
    accounting: str  # of the CO2e, where it is not location-based or was not read; else ""
    read: bool  # the figure was read; else it rests on memory
    source: str
    note: str


def is_share(metric: str) -> bool:
    """Whether a metric is a share of the questions, from 0 to 1, and better the higher it is."""
    return not any(part in metric for part in _NO_SHARES)


def per(score: float | None, amount: float | None) -> float | None:
    """Score ÷ amount; None of nothing."""
    return score / amount if score is not None and amount else None


def scores_of(events: Iterable[Event]) -> list[Score]:
    """The scores among a run's events, in the order in which they were logged."""
    return [
        score
        for event in events
        if event.kind == EventKind.SCORE and (score := _score(event)) is not None
    ]


def latest(scores: Iterable[Score]) -> list[Score]:
    """Of each task and metric the score that was logged last."""
    return list({score.name: score for score in scores}.values())


def pick(scores: Sequence[Score], metric: str) -> list[Score]:
    """All scores of a benchmark: `TASK` by its first metric, or `TASK/METRIC`."""
    same = [score for score in scores if folded(metric) == folded(score.name)]
    if not same:
        of_task = [score for score in scores if folded(metric) == folded(score.task)]
        same = [score for score in of_task if score.metric == of_task[0].metric]
    return same


def need(scores: Sequence[Score], metric: str, run: str) -> list[Score]:
    """The same. Raises CarbontrackError for a run that has none, with what it has."""
    found = pick(scores, metric)
    if not found:
        names = list(dict.fromkeys(score.task for score in scores))
        near = difflib.get_close_matches(metric, names, n=1)
        has = f"It has {', '.join(near or names)}." if names else "llama_train evaluate logs them."
        raise CarbontrackError(f"Run {run} has no score in {metric!r}.", hint=has)
    return found


def published_scores() -> tuple[PublishedScore, ...]:
    """Every row of scores.csv."""
    return _published()


def published_of(benchmark: str) -> list[PublishedScore]:
    """Those of one benchmark, by the name of a task of lm-eval or as reports write it."""
    task = benchmark.partition("/")[0]
    return [row for row in _published() if folded(row.benchmark) == folded(task)]


def folded(name: str) -> str:
    """`HellaSwag`, `hellaswag` and `hella_swag` are one name."""
    return "".join(sign for sign in name.casefold() if sign.isalnum() or sign == "/")


@lru_cache
def _published() -> tuple[PublishedScore, ...]:
    rows = data.rows("scores")
    costs = {row.model: row for row in reversed(published.all_rows()) if row.tco2e is not None}
    printed: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for row in rows:
        same = printed.setdefault((row["model"], row["benchmark"]), [])
        same.append((row["report"], float(row["score"])))
    return tuple(_row(row, costs, printed[row["model"], row["benchmark"]]) for row in rows)


def _row(
    row: Mapping[str, str],
    costs: Mapping[str, published.PublishedRow],
    printed: Sequence[tuple[str, float]],
) -> PublishedScore:
    reports, values = (len(set(each)) for each in zip(*printed, strict=True))
    agreement = Agreement.AGREES if values == 1 else Agreement.DIFFERS
    cost = costs.get(row["model"])
    return PublishedScore(
        report=row["report"],
        table=row["table"],
        model=row["model"],
        benchmark=row["benchmark"],
        setting=row["setting"],
        score=float(row["score"]) / PER_CENT,
        printed=row["score"],
        agreement=agreement if reports > 1 else Agreement.ALONE,
        expected=row["status"],
        tco2e=cost.tco2e.printed if cost is not None and cost.tco2e is not None else None,
        gpu_hours=None if cost is None else cost.gpu_hours,
        accounting="" if cost is None else _accounting(cost),
        read=row["read"] == "yes",
        source=row["source"],
        note=row["note"],
    )


def _accounting(cost: published.PublishedRow) -> str:
    parts = [] if cost.accounting == _BY_LOCATION else [cost.accounting]
    return ", ".join(parts if cost.read else [*parts, "from memory"])


def _score(event: Event) -> Score | None:
    """None of an event that a job logged under this name and that is no score."""
    values = event.data
    score, task, metric = (_finite(values.get("score")), values.get("task"), values.get("metric"))
    if score is None or not isinstance(task, str) or not isinstance(metric, str):
        return None
    return Score(
        task=task,
        metric=metric,
        score=score,
        stderr=_finite(values.get("stderr")),
        chance=_finite(values.get("chance")),
        questions=_whole(values.get("questions")),
        step=_whole(values.get("step")),
        time_ms=event.time_ms,
    )


def _finite(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
