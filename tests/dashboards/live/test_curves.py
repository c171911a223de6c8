"""Steps of long runs: what is merged from kept buckets is what the ledger would have answered."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import astuple, replace
from pathlib import Path

import pytest
from sqlalchemy import Connection

from carbontrack.ledger import engine, read
from carbontrack.ledger.rows import StepMean
from carbontrack.ledger.transaction import open_ledger
from carbontrack.ledger.url import ledger_url
from carbontrack.ledger.write import RunWriter
from dashboards.live.curves import Curves
from tests.fixtures.runs import Recorded, recording_of

LONG = Recorded(name="long", count=1, seconds=40_000, steps=40_000)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return ledger_url(str(tmp_path / "ledger.db"))


@pytest.fixture
def recorder(url: str) -> Iterator[RunWriter]:
    """Has written the first 35,000 of 40,000 steps, some without a loss, a rate or a number."""
    started = LONG.begun
    run = RunWriter(open_ledger(url), started, recording_of(started), LONG.sensors)
    steps = LONG.step_rows
    for at in range(0, 35_000, 7):
        steps[at] = replace(steps[at], loss=None, tokens_per_s=None)
    steps[20_001] = replace(steps[20_001], loss=math.inf)
    run.commit(steps=steps[:35_000], heartbeat_ms=LONG.start_ms + 35_000_000)
    yield run
    run.close()


def assert_same(found: list[StepMean], asked: list[StepMean]) -> None:
    assert len(found) == len(asked)
    for ours, theirs in zip(found, asked, strict=True):
        assert astuple(ours) == pytest.approx(astuple(theirs))


def zooms(curves: Curves, connection: Connection, count: int) -> None:
    run = read.resolve_run(connection, "long")
    dice = random.Random(5)
    ranges: list[tuple[int | None, int | None]] = [(None, None)]
    for _ in range(count):
        begin = LONG.start_ms + dice.randrange(40_000_000)
        ranges.append((begin, begin + int(10 ** dice.uniform(2, 7.5))))
    for from_ms, to_ms in ranges:
        for points in (40, 1200, 2000):
            found = curves.steps(
                connection, run, count=35_000, from_ms=from_ms, to_ms=to_ms, points=points
            )
            asked = read.step_means(connection, run, from_ms=from_ms, to_ms=to_ms, points=points)
            assert_same(found, asked)


def test_every_zoom_is_as_the_ledger_answers_it(recorder: RunWriter, url: str) -> None:
    with engine.open_reader(url).connect() as connection:
        zooms(Curves(), connection, 20)


def test_what_is_added_to_a_live_run_is_seen(recorder: RunWriter, url: str) -> None:
    curves = Curves()
    with engine.open_reader(url).connect() as connection:
        zooms(curves, connection, 0)
    recorder.commit(steps=LONG.step_rows[35_000:], heartbeat_ms=LONG.end_ms)
    with engine.open_reader(url).connect() as connection:
        zooms(curves, connection, 5)
        run = read.resolve_run(connection, "long")
        everything = curves.steps(connection, run, count=40_000, points=1200)
        assert sum(mean.steps for mean in everything) == 40_000
