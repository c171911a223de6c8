"""Training steps over time: buckets of any range have each step once."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from sqlalchemy import Connection

from carbontrack.ledger import read
from carbontrack.ledger.recorded_rows import Step
from carbontrack.ledger.transaction import WritableLedger
from carbontrack.ledger.write import RunWriter
from tests.fixtures.runs import Recorded, recording_of

STEPS = Recorded(name="steps", number=2, count=2, seconds=1000)


@pytest.fixture
def steps(ledger: WritableLedger) -> list[Step]:
    """A thousand steps a second apart: one exploded, three are no numbers, one told no loss."""
    logged = [
        Step(n, STEPS.start_ms + 1000 * n, loss=2.0 + n % 10, tokens=2048, tokens_per_s=float(n))
        for n in range(1000)
    ]
    logged[700] = replace(logged[700], loss=1e30)
    for n in range(300, 303):
        logged[n] = replace(logged[n], loss=math.inf if n == 302 else math.nan)
    logged[400] = replace(logged[400], loss=None, extra={"loss_scale": 1})
    run = RunWriter(ledger, STEPS.run, recording_of(STEPS.run), STEPS.sensors)
    run.commit(steps=logged, heartbeat_ms=STEPS.end_ms)
    return logged


@pytest.mark.parametrize("points", [1, 2, 7, 40, 101, 1001])
def test_steps_are_averaged_and_none_is_lost(
    steps: list[Step], reader: Connection, points: int
) -> None:
    run = read.resolve_run(reader, "steps")
    means = read.step_means(reader, run, points=points)
    assert points / 3 <= len(means) <= points
    assert (means[-1].step, means[-1].time_ms) == (999, steps[-1].time_ms)
    assert sum(mean.steps for mean in means) == 1000
    assert sum(mean.tokens or 0 for mean in means) == 2048 * 1000
    assert sum(mean.not_finite for mean in means) == 3
    assert max(mean.loss_max or 0.0 for mean in means) == 1e30
    begin = 0
    for mean in means:
        parts = steps[begin : begin + mean.steps]
        begin += mean.steps
        losses = [s.loss for s in parts if s.loss is not None and math.isfinite(s.loss)]
        assert mean.loss == (pytest.approx(sum(losses) / len(losses)) if losses else None)
        assert mean.loss_min == min(losses, default=None)


def test_a_part_of_the_steps_has_each_where_there_is_room(
    steps: list[Step], reader: Connection
) -> None:
    run = read.resolve_run(reader, "steps")
    from_ms, to_ms = (STEPS.start_ms + 1000 * s for s in (250, 350))
    means = read.step_means(reader, run, from_ms=from_ms, to_ms=to_ms, points=1000)
    assert [mean.step for mean in means] == list(range(250, 351))
    assert [mean.loss for mean in means[50:53]] == [None] * 3
    assert [mean.not_finite for mean in means if mean.not_finite] == [1] * 3
    few = read.step_means(reader, run, from_ms=from_ms + 1, to_ms=to_ms, points=10)
    assert [(mean.step, mean.steps) for mean in few][:2] == [(254, 15), (269, 15)], "whole buckets"
