"""One rule for which step counts: the summary's sums are those of the ledger's rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbontrack.ledger import engine, read
from carbontrack.ledger.recorded_rows import Step, StepTotals
from carbontrack.ledger.transaction import open_ledger
from carbontrack.ledger.write import RunWriter
from carbontrack.record.logged import LoggedStep
from carbontrack.record.step_lines import parse
from carbontrack.record.step_table import StepTable, TokenCounter
from carbontrack.record.totals import Totals
from tests.fixtures.runs import START_MS, Recorded, recording_of


def lines(*steps: dict[str, Any]) -> list[str]:
    return [json.dumps(step) for step in steps]


def recorded(path: Path, batches: list[list[str]]) -> tuple[StepTotals, StepTotals]:
    """What the summary and what the ledger have of these lines, read in batches."""
    one = Recorded(steps=0)
    totals = Totals()
    ledger = open_ledger(f"sqlite:///{path}")
    run = RunWriter(ledger, one.begun, recording_of(one.begun), one.sensors)
    for number, batch in enumerate(batches):
        at_ms = one.start_ms + 1000 * number
        logged = parse(batch, after_ms=at_ms, until_ms=at_ms + 1000, started_ms=one.start_ms)
        run.commit(steps=totals.add([], logged), heartbeat_ms=at_ms)
    run.close()
    with engine.open_reader(f"sqlite:///{path}").connect() as connection:
        found = read.resolve_run(connection, "last")
        return totals.steps(), read.step_totals(connection, found)


RESUMED = [{"step": n, "tokens": 100, "loss": 9.0 - n} for n in (*range(1, 11), *range(6, 16))]
FOUR_RANKS = [
    {"step": n, "tokens": 100, "rank": rank, "loss": n + rank / 10}
    for n in range(1, 11)
    for rank in (3, 1, 0, 2)
]
FRACTIONS = [{"step": n / 10, "tokens": 100} for n in range(1, 11)]
ON_THE_LAST_RANK = [{"step": n, "tokens": 100, "rank": 7} for n in range(1, 11)]
CUMULATIVE = [{"step": n, "tokens_total": 100 * n} for n in (*range(1, 11), *range(6, 16))]
RESUMED_COUNT = [{"step": n, "tokens_total": 100 * n} for n in range(1001, 1011)]
CONTINUED_COUNT = [{"step": n, "tokens_total": 15 * 10**12 + 100 * n} for n in range(1, 11)]


@pytest.mark.parametrize(
    ("logged", "steps", "tokens", "final_loss"),
    [
        (RESUMED, 15, 1500, -6.0),
        (FOUR_RANKS, 10, 1000, 10.0),
        (FRACTIONS, 1, 100, None),  # 1.0 is a whole number
        (ON_THE_LAST_RANK, 10, 1000, None),
        (CUMULATIVE, 15, 1500, None),
        (RESUMED_COUNT, 10, 900, None),  # of the first one nobody knows where the count stood
        (CONTINUED_COUNT, 10, 900, None),  # the numbers began again, and the count goes on
    ],
)
@pytest.mark.parametrize("size", [1, 7, 100])
def test_the_summary_has_what_the_table_has(
    tmp_path: Path,
    logged: list[dict[str, Any]],
    steps: int,
    tokens: int,
    final_loss: float | None,
    size: int,
) -> None:
    batches = [lines(*logged[at : at + size]) for at in range(0, len(logged), size)]
    summary, table = recorded(tmp_path / "ledger.db", batches)
    assert summary == table
    assert (table.steps, table.tokens, table.final_loss) == (steps, tokens, final_loss)


def test_a_count_that_rises_by_more_than_a_step_can_have_is_said() -> None:
    totals = Totals()
    for number, total in ((1, 100), (2, 10**12 + 101), (3, 10**12 + 201)):
        logged = parse(lines({"step": number, "tokens_total": total}), after_ms=0, until_ms=1000)
        totals.add([], logged)
    assert totals.steps().tokens == 200
    assert totals.dropped() == [
        "1 logged value dropped: tokens_total of step 2 rose by more than 1,000,000,000,000"
    ]


def test_the_final_loss_is_the_mean_of_the_last_one_per_cent(tmp_path: Path) -> None:
    logged = [{"step": n, "loss": float(n)} for n in range(1, 301) if n != 298]
    logged.append({"step": 301, "loss": "nan"})
    summary, table = recorded(tmp_path / "ledger.db", [lines(*logged)])
    assert summary == table
    assert (table.final_loss, table.final_loss_steps) == ((300 + 299 + 297) / 3, 3)


step = st.fixed_dictionaries(
    {"step": st.integers(-3, 200), "rank": st.integers(0, 3)},
    optional={
        "tokens": st.integers(-1, 2000),
        "tokens_total": st.integers(0, 5000),
        "loss": st.one_of(st.floats(), st.just("x")),
        "tokens_per_s": st.floats(0, 1e6),
    },
)


@settings(max_examples=30, deadline=None)
@given(batches=st.lists(st.lists(step, max_size=20), min_size=1, max_size=6))
def test_whatever_was_logged_both_are_equal(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[dict[str, Any]]]
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    summary, table = recorded(path, [lines(*batch) for batch in batches])
    assert summary == table


def test_of_a_step_the_lowest_rank_counts_whenever_it_comes() -> None:
    table = StepTable()

    def take(rank: int, tokens: int) -> list[int | None]:
        logged = LoggedStep(Step(5, START_MS, tokens=tokens), rank)
        return [step.tokens for step in table.take([logged])]

    assert take(2, 20) == [20]
    assert take(3, 30) == [], "a higher rank changes nothing"
    assert take(1, 10) == [10], "a lower one replaces what was committed"
    assert take(1, 11) == [11], "and its own newest line"
    assert (table.totals().steps, table.totals().tokens) == (1, 11)


@pytest.mark.parametrize(
    ("counts", "tokens"),
    [
        ([(0, 0), (1, 100), (2, 250)], [0, 100, 150]),
        ([(10, 1000), (20, 2000), (30, 2900)], [None, 1000, 900]),
        ([(1, 100), (2, 200), (3, 50), (4, 150)], [100, 100, None, 100]),
        ([(1, 100), (2, 200), (2, 210), (3, 310)], [100, 100, 110, 100]),
    ],
)
def test_tokens_of_a_step_are_what_a_cumulative_count_grew_by(
    counts: list[tuple[int, int]], tokens: list[int | None]
) -> None:
    counter = TokenCounter()
    assert [counter.tokens_of(number, total) for number, total in counts] == tokens
