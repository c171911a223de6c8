"""What of a run cannot be is said, and nothing is said of a run as it should be."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from carbontrack import config
from carbontrack.account.estimate import estimate_run
from carbontrack.account.sanity import findings
from carbontrack.factors.resolve import resolve
from carbontrack.ledger.recorded_rows import EDGE_STEPS, EdgeSteps, Step, StepTotals
from carbontrack.ledger.window import Flag
from carbontrack.report.notes import notes_of
from carbontrack.report.summary import summary_text
from tests.fixtures.runs import Recorded

A100_BF16 = 312e12


def totals(steps: list[Step]) -> StepTotals:
    return StepTotals(
        steps=len(steps),
        tokens=sum(step.tokens or 0 for step in steps),
        first=EdgeSteps.of(steps[:EDGE_STEPS]),
        last=EdgeSteps.of(steps[-EDGE_STEPS:]),
    )


def steps(one: Recorded, count: int = 100, **values: Any) -> list[Step]:
    """Even steps over the run; a value may be a function of the step's number."""
    every_ms = round(one.seconds * 1000 / count)
    return [
        Step(
            number,
            one.start_ms + number * every_ms,
            **{name: value(number) if callable(value) else value for name, value in values.items()},
        )
        for number in range(1, count + 1)
    ]


def said(one: Recorded, logged: list[Step]) -> list[str]:
    return findings(one.run, one.sensors, one.usages, totals(logged))


def test_nothing_is_said_of_a_run_as_it_should_be() -> None:
    one = Recorded(model={"parameters": 6.7e9})
    speed = 0.5 * 8 * A100_BF16 / 6 / 6.7e9
    per_step = round(speed * one.seconds / 100)
    ok = steps(one, tokens=per_step, tokens_per_s=speed, loss=lambda n: 9 / n + 1)
    assert said(one, ok) == []
    assert said(one, []) == []
    assert said(one, steps(one, tokens=None, loss=None)) == []


def test_a_cumulative_count_logged_as_tokens_of_the_step() -> None:
    one = Recorded()
    (found,) = said(one, steps(one, tokens=lambda n: 3_000_000 * n))
    assert "from 3,000,000 to 300,000,000" in found
    assert "tokens_total" in found


def test_tokens_that_grow_now_and_then_are_not_cumulative() -> None:
    one = Recorded()
    draw = random.Random(1)
    assert said(one, steps(one, tokens=lambda n: draw.randint(900, 1100))) == []
    assert said(one, steps(one, tokens=lambda n: 1000 * (1 + n // 10))) == [], "a batch that ramps"
    assert said(one, steps(one, count=5, tokens=lambda n: n)) == [], "too few to say"


@pytest.mark.parametrize("ratio", [0.125, 8.0])
def test_tokens_against_the_logged_speed(ratio: float) -> None:
    one = Recorded()
    (found,) = said(one, steps(one, tokens=7200, tokens_per_s=100 / ratio))
    assert f"is {ratio:g} × the logged tokens_per_s" in found


def test_pauses_between_steps_are_no_other_speed() -> None:
    one = Recorded()
    logged = steps(one, tokens=7200, tokens_per_s=100)
    late = [replace(step, time_ms=step.time_ms + 10**6 * (step.step // 40)) for step in logged]
    assert said(one, late) == []


def test_more_flops_than_the_devices_have() -> None:
    one = Recorded(model={"parameters": 6.7e9})
    speed = 1.5 * 8 * A100_BF16 / 6 / 6.7e9
    (found,) = said(one, steps(one, tokens=round(speed * one.seconds / 100)))
    assert "is 1.5 × the devices' dense bf16 peak" in found
    unknown = replace(one, device="Some Accelerator")
    assert said(unknown, steps(one, tokens=round(speed * one.seconds / 100))) == []


def test_power_beyond_the_limit() -> None:
    one = Recorded(power_w=593.0)
    (found,) = said(one, [])
    assert "(and 7 more) is 593 W, but its limit is 400 W" in found
    assert said(Recorded(power_w=420.0), []) == [], "within what a sensor may err"
    assert said(Recorded(power_w=593.0, rated_w=None), []) == [], "no limit is known"


def test_a_sensor_that_is_doubted() -> None:
    one = Recorded()
    odd = int(Flag.COUNTER | Flag.IMPLAUSIBLE)
    usages = [replace(one.usages[0], flags=odd), *one.usages[1:-1]]
    usages.append(replace(one.usages[-1], flags=odd))
    (found,) = findings(one.run, one.sensors, usages, totals([]))
    assert found.startswith(f"a sensor of {one.sensors[0].name}")


def test_devices_that_the_job_could_see_and_did_not_use() -> None:
    one = Recorded(count=4, seconds=7200.0)
    flags = int(Flag.COUNTER | Flag.USED)

    def found(used: set[int], recorded: Recorded = one) -> list[str]:
        usages = [
            replace(usage, flags=flags) if usage.device_key in used else usage
            for usage in recorded.usages
        ]
        return findings(recorded.run, recorded.sensors, usages, totals([]))

    (said,) = found({1, 3})
    assert said.startswith("the job could see 4 GPUs, and the driver named its processes on 2 of")
    assert found({1, 2, 3, 4}) == []
    assert found(set()) == []  # as in a container: nothing is known
    # A job that has hardly begun may not be on all of them yet.
    assert found({1}, replace(one, seconds=59.0)) == []
    # On another host the driver may name none.
    away = [replace(sensor, host="node2") for sensor in one.sensors[2:]]
    usages = [replace(usage, flags=flags) for usage in one.usages if usage.device_key < 3]
    sensors = [*one.sensors[:2], *away]
    assert findings(one.run, sensors, [*usages, *one.usages], totals([])) == []


def test_a_loss_that_rises() -> None:
    one = Recorded()
    draw = random.Random(1)
    (found,) = said(one, steps(one, loss=lambda n: 2 + n / 50 + draw.gauss(0, 0.05)))
    assert "the loss rose: " in found
    assert said(one, steps(one, loss=lambda n: 2 + draw.gauss(0, 0.3))) == [], "noise"


def test_energy_that_is_not_known() -> None:
    (found,) = said(Recorded(coverage=0.4), [])
    assert found.startswith("the energy of 60 % of the device-seconds is unknown")
    running = replace(Recorded(coverage=0.4).run, ended_ms=None)
    assert findings(running, Recorded().sensors, Recorded(coverage=0.4).usages, StepTotals()) == []


def test_a_finding_is_in_the_notes_of_the_table_and_in_the_summary() -> None:
    one = Recorded()
    logged = totals(steps(one, tokens=lambda n: 1000 * n))
    factors = resolve(config.resolve([]), method="measured")
    for method in ("measured", "report"):
        row = estimate_run(one.run, one.sensors, one.usages, logged, factors, method=method)
        assert any("tokens grow with every step" in note for note in notes_of([row]))
    summary = summary_text(one.run, one.sensors, one.usages, logged)
    assert "note" in summary
    assert "tokens grow with every step" in summary


@pytest.mark.parametrize(("days", "said_of_it"), [(89, 0), (91, 1)])
def test_recordings_of_one_id_that_are_months_apart(days: int, said_of_it: int) -> None:
    one = Recorded()
    day_ms = 86_400_000
    spans = ((0, 2 * day_ms), ((days + 2) * day_ms, (days + 3) * day_ms))
    sensors = [replace(sensor, spans_ms=spans) for sensor in one.sensors]
    found = [text for text in findings(one.run, sensors, [], totals([])) if "same id" in text]
    assert len(found) == said_of_it
    assert all("91 days" in text and "CARBONTRACK_RUN_ID" in text for text in found)
