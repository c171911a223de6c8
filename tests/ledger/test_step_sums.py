"""Sums over the steps of runs, and the steps at their two ends, wherever numbers are missing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from sqlalchemy import Connection

from carbontrack.ledger import read
from carbontrack.ledger.recorded_rows import (
    EDGE_STEPS,
    EdgeSteps,
    Step,
    StepTotals,
    final_loss,
    final_steps,
)
from carbontrack.ledger.transaction import WritableLedger
from carbontrack.ledger.write import RunWriter
from tests.fixtures.runs import Recorded, recording_of

NUMBERS: dict[str, Sequence[int]] = {
    "each": range(1, 400),
    "both ends meet": range(2 * EDGE_STEPS),
    "one more": range(2 * EDGE_STEPS + 1),
    "one is missing, both ends meet": [n for n in range(2 * EDGE_STEPS + 1) if n != 70],
    "far apart": range(0, 200_000, 1000),
    "a hole in the middle": [*range(150), *range(900, 1050)],
    "holes at the ends": [1, *range(50, 350), 1_000_000],
    "few, far apart": [3, 5000, 90_000],
    "one": [7],
}
LOSSES = {
    "of each": lambda place: 4.0 - place / 1000,
    "of the first only": lambda place: 3.0 + place if place < 5 else None,
    "of each tenth": lambda place: 2.0 + place if place % 10 == 0 else None,
    "of none": lambda place: None,
}


@pytest.mark.parametrize("losses", LOSSES)
def test_ends_are_the_first_and_the_last_steps(
    ledger: WritableLedger, reader: Connection, losses: str
) -> None:
    expected = {}
    for number, (name, numbers) in enumerate(NUMBERS.items(), 1):
        one = Recorded(name=name, number=number, count=2)
        steps = [
            Step(
                step,
                one.start_ms + 10 * place,
                loss=LOSSES[losses](place),
                tokens=None if place == 1 else 100 + step % 3,
                tokens_per_s=float(place),
            )
            for place, step in enumerate(numbers)
        ]
        RunWriter(ledger, one.run, recording_of(one.run), one.sensors).commit(
            steps=steps, heartbeat_ms=one.end_ms
        )
        expected[name] = totals(steps)
    found = {name: read.step_totals(reader, read.resolve_run(reader, name)) for name in NUMBERS}
    assert found == expected


def totals(steps: Sequence[Step]) -> StepTotals:
    known = [step.loss for step in steps if step.loss is not None]
    final = final_steps(len(known))
    return StepTotals(
        steps=len(steps),
        tokens=sum(step.tokens or 0 for step in steps),
        final_loss=final_loss(known[: -final - 1 : -1]),
        final_loss_steps=final or None,
        first=EdgeSteps.of(steps[:EDGE_STEPS]),
        last=EdgeSteps.of(steps[-EDGE_STEPS:]),
    )
