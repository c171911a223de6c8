"""Scores out of events, and the published ones: each row's status is the one that follows."""

from __future__ import annotations

import math

import pytest

from carbontrack.account import published, scores
from carbontrack.account.scores import Score
from carbontrack.errors import CarbontrackError
from carbontrack.ledger.recorded_rows import Event
from carbontrack.vocabulary import Agreement


def event(kind: str = "score", at_ms: int = 1, **data: object) -> Event:
    return Event(at_ms, kind, "", data={"task": "siqa", "metric": "acc", "score": 0.5, **data})


def test_scores_are_read_from_events_and_what_is_none_is_passed_over() -> None:
    bad = [
        event("eval"),
        event(score=math.nan),
        event(score="0.5"),
        event(score=True),
        event(task=None),
        event(metric=1),
    ]
    good = event(stderr=0.1, chance=0.25, questions=8, step=3)
    assert scores.scores_of([*bad, good]) == [Score("siqa", "acc", 0.5, 0.1, 0.25, 8, 3, 1)]
    bare = Event(1, "score", "", data={"task": "t", "metric": "m", "score": 1, "stderr": "x"})
    assert scores.scores_of([bare]) == [Score("t", "m", 1.0, None, None, None, None, 1)]


def test_the_newest_score_of_a_metric_counts_and_a_task_is_known_by_its_first() -> None:
    logged = scores.scores_of(
        [event(score=0.1), event(metric="acc_norm", score=0.2), event(score=0.3, at_ms=2)]
    )
    assert [(one.name, one.score) for one in scores.latest(logged)] == [
        ("siqa/acc", 0.3),
        ("siqa/acc_norm", 0.2),
    ]
    assert [one.score for one in scores.pick(logged, "SIQA")] == [0.1, 0.3]
    assert [one.score for one in scores.pick(logged, "siqa/acc_norm")] == [0.2]
    with pytest.raises(CarbontrackError, match=r"has no score in 'siqb'\. It has siqa"):
        scores.need(logged, "siqb", "mine")
    with pytest.raises(CarbontrackError, match="evaluate logs them"):
        scores.need([], "siqa", "mine")


def test_every_published_score_has_the_status_that_a_person_reviewed() -> None:
    rows = scores.published_scores()
    assert len(rows) > 140
    for row in rows:
        assert row.agreement.value == row.expected, row
        assert 0 < row.score < 1 and row.source and row.setting, row
        assert row.read, "one that rests on memory must say so in its note"
    assert {row.agreement for row in rows} == set(Agreement)


def test_the_reports_tables_are_whole() -> None:
    rows = scores.published_scores()
    assert sum(row.table == "3" for row in rows) == 12 * 8
    assert sum(row.table == "4" for row in rows) == 6 * 5 - 7
    of = {(row.table, row.model, row.benchmark): row.printed for row in rows if row.table}
    # Where both print a figure of Llama 2 70B, it is the same.
    for benchmark in ("MMLU", "BBH"):
        assert of["3", "Llama 2 70B", benchmark] == of["4", "Llama 2 70B", benchmark]


def test_published_scores_stand_beside_the_published_co2e_of_their_model() -> None:
    of_model = {row.model: row for row in scores.published_of("mmlu")}
    known = {model: row.tco2e for model, row in of_model.items() if row.tco2e is not None}
    assert known["Llama 2 70B"] == 291.42
    assert known["LLaMA-65B"] == 173
    assert of_model["GPT-4"].tco2e is None
    printed = {row.model for row in published.all_rows() if row.tco2e is not None}
    assert set(known) <= printed
    assert len(known) >= 10
