"""The steady state, and that what is derived from it agrees with all that is said of the run."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbontrack import config
from carbontrack.account.curve import EnergyCurve
from carbontrack.account.estimate import estimate_run
from carbontrack.account.project import Projection, project, target_of
from carbontrack.account.steady import steady_state
from carbontrack.errors import CarbontrackError
from carbontrack.factors.resolve import resolve
from carbontrack.ledger.recorded_rows import Step, StepTotals
from carbontrack.ledger.rows import Series
from carbontrack.record.step_times import spread
from carbontrack.report.compare import Group, Side, measures
from carbontrack.report.explain import explain_data
from carbontrack.report.project import projection
from carbontrack.units import J_PER_KWH
from tests.account.test_curve import curve, steps
from tests.fixtures.runs import Recorded


def test_warm_up_and_stalls_are_left_out() -> None:
    lengths = [5000, *[1000] * 9, 20_000, *[1000] * 9]
    total_s = sum(lengths) // 1000
    state = steady_state(steps(*lengths), curve(*[50.0] * total_s), name="r")
    assert state.tokens_per_s.value == pytest.approx(100)
    assert state.j_per_token.value == pytest.approx(1.0)
    assert (state.steps, state.left_out) == (17, 3)


@pytest.mark.parametrize("early", [300, 3000])
def test_a_warm_up_longer_than_a_tenth_is_left_out_whole(early: int) -> None:
    lengths = [*[early] * 15, *[1000] * 25]
    state = steady_state(steps(*lengths), curve(*[50.0] * (sum(lengths) // 1000 + 1)), name="r")
    assert state.tokens_per_s.value == pytest.approx(100)
    assert (state.steps, state.left_out) == (25, 15)


def test_steps_of_a_live_run_whose_energy_is_not_yet_known_do_not_count() -> None:
    state = steady_state(steps(*[1000] * 30), curve(*[50.0] * 20), name="r")
    assert state.j_per_token.value == pytest.approx(1.0)
    assert (state.steps, state.left_out) == (18, 2)


@given(seconds=st.lists(st.integers(1, 3), min_size=6, max_size=60))
def test_half_of_the_steps_and_at_least_five_outlive_the_warm_up(seconds: list[int]) -> None:
    lengths = [1000 * s for s in seconds]
    state = steady_state(steps(*lengths), curve(*[50.0] * sum(seconds)), name="r")
    assert state.steps >= max(5, len(seconds) // 2)


def test_the_range_is_that_of_the_blocks() -> None:
    powers = [50.0] * 50 + [100.0] * 50
    state = steady_state(steps(*[1000] * 100), curve(*powers), name="r")
    energy = state.j_per_token
    assert (energy.low, energy.high) == (pytest.approx(1.0), pytest.approx(2.0))
    assert energy.low < energy.value < energy.high


@pytest.mark.parametrize(
    ("done", "powers", "says"),
    [
        ([], [50.0], "0 timed steps"),
        (steps(*[1000] * 3), [50.0] * 3, "3 timed steps"),
        (steps(*[1000] * 20, tokens=None), [50.0] * 20, "0 timed steps"),
        (steps(*[1000] * 20), [0.0] * 20, "no energy"),
    ],
)
def test_too_little_to_project(done: list[Step], powers: list[float], says: str) -> None:
    with pytest.raises(CarbontrackError, match=says):
        steady_state(done, curve(*powers), name="r")


@pytest.mark.parametrize(("readings", "spread_out"), [(1, True), (2, True), (20, False)])
def test_a_range_of_times_that_were_spread_says_so(readings: int, spread_out: bool) -> None:
    """As where a job keeps its log in a buffer: the steps of a reading are even, by our making."""
    ends_ms = [60_000 * at // readings + 137 * (at % 3) for at in range(readings + 1)]
    times_ms = [
        time_ms
        for after_ms, until_ms in pairwise(ends_ms)
        for time_ms in spread([None] * (100 // readings), after_ms=after_ms, until_ms=until_ms)
    ]
    done = [
        replace(one, time_ms=time_ms)
        for one, time_ms in zip(steps(*[1] * 99), times_ms, strict=True)
    ]
    state = steady_state(done, curve(*[50.0] * 62), name="r")
    assert state.times_spread is spread_out
    jitter = [replace(one, time_ms=one.time_ms + (7 * at) % 11) for at, one in enumerate(done)]
    assert not steady_state(jitter, curve(*[50.0] * 62), name="r").times_spread


@pytest.mark.parametrize("step_ms", [100, 250, 500, 1000, 2000])
def test_steps_that_were_read_together_lose_no_token(step_ms: int) -> None:
    """As a log without a clock was recorded: every 1.6 s, all with the time of the reading."""
    exact = steps(*[step_ms] * (75_000 // step_ms))
    read = [replace(step, time_ms=-(-step.time_ms // 1600) * 1600) for step in exact]
    state = steady_state(read, curve(*[50.0] * 80), name="r")
    assert state.tokens_per_s.value == pytest.approx(100_000 / step_ms, rel=0.07)
    assert state.j_per_token.value == pytest.approx(step_ms / 1000, rel=0.07)


@settings(max_examples=25, deadline=None)
@given(
    step_ms=st.integers(50, 3000),
    reading_ms=st.integers(400, 5000),
    power_w=st.floats(50, 700),
    tokens=st.integers(1, 10_000),
    has_clock=st.booleans(),
)
def test_all_reports_agree_on_a_run_that_trains_evenly(
    step_ms: int, reading_ms: int, power_w: float, tokens: int, has_clock: bool
) -> None:
    """`table`, `explain`, `compare` and `project` to the run's own tokens, however it was read."""
    count = 40 + 4 * reading_ms // step_ms
    run, found = recorded(step_ms, 1 if has_clock else reading_ms, power_w, tokens, count)
    table = run.estimate
    assert explain_data(table, Recorded().usages)["row"] == table.row()
    by_name = {
        measure.name: measure.values[0] and measure.values[0].mean
        for measure in measures([Group("a", (run,)), Group("b", (run,))])
    }
    assert by_name["energy"] == table.energy_kwh
    assert by_name["tokens"] == table.tokens == count * tokens
    j_per_token = by_name["energy per token"]
    assert j_per_token == pytest.approx((table.energy_kwh or 0) * J_PER_KWH / (count * tokens))
    assert found.whole_j_per_token == pytest.approx(j_per_token)
    for key in ("energy_kwh", "facility_kwh", "tco2e", "gpu_hours", "tokens"):
        assert getattr(found.estimate, key) == pytest.approx(getattr(table, key), rel=0.1), key
    assert found.doubt == ""


def recorded(
    step_ms: int, reading_ms: int, power_w: float, tokens: int, count: int
) -> tuple[Side, Projection]:
    """A run of even steps without times, read every `reading_ms`, and projected to its own end."""
    one = Recorded(count=2, seconds=count * step_ms / 1000, power_w=power_w, steps=0)
    times_ms = read_times(one.start_ms, step_ms, reading_ms, count)
    rows = [Step(number, at_ms, tokens=tokens) for number, at_ms in enumerate(times_ms, start=1)]
    totals = StepTotals(steps=count, tokens=count * tokens)
    factors = resolve(config.resolve([config.flags(pue=1.2)]), method="measured")
    estimate = estimate_run(one.run, one.sensors, one.usages, totals, factors)
    seconds = range(-(-count * step_ms // 1000))
    series = Series(
        1,
        {
            "start_ms": [one.start_ms + 1000 * second for second in seconds],
            "energy_j": [2 * power_w * min(1.0, one.seconds - second) for second in seconds],
        },
    )
    energy = EnergyCurve.of(series, from_ms=one.start_ms, to_ms=one.end_ms)
    state = steady_state(rows, energy, name="r")
    target = target_of({}, None, tokens=str(count * tokens), steps=None, to_model=None)
    return Side(estimate, energy, rows), project(estimate, state, target)


def read_times(start_ms: int, step_ms: int, reading_ms: int, count: int) -> list[int]:
    """The times of steps that ended every `step_ms`, as a follower of the file spreads them."""
    ends_ms = [start_ms + step_ms * number for number in range(1, count + 1)]
    times_ms: list[int] = []
    after_ms = read_ms = start_ms
    while len(times_ms) < count:
        read_ms += reading_ms
        new_ms = [end_ms for end_ms in ends_ms[len(times_ms) :] if end_ms <= read_ms]
        if new_ms:
            times_ms += spread([None for _ in new_ms], after_ms=after_ms, until_ms=new_ms[-1])
            after_ms = new_ms[-1]
    return times_ms


@pytest.mark.parametrize(
    ("tokens", "says"),
    [(1.0, ""), (0.1, "warm-up, stalls and pauses"), (10.0, "check the tokens")],
)
def test_a_projection_that_does_not_fit_its_run_says_so(tokens: float, says: str) -> None:
    run, found = recorded(1000, 1, 300.0, 1000, 100)
    other = replace(run.estimate, tokens=round((run.estimate.tokens or 0) * tokens))
    target = target_of({}, None, tokens="1B", steps=None, to_model=None)
    again = project(other, found.state, target)
    table, data = projection(again)
    assert bool(again.doubt) == bool(says)
    assert any(says in note for note in table.notes)
    assert data["whole_over_steady"] == pytest.approx(1 / tokens, rel=0.1)


def test_a_projection_says_what_is_doubtful_of_its_run() -> None:
    run, found = recorded(1000, 1, 300.0, 1000, 100)
    doubted = replace(run.estimate, notes=("tokens grow with every step",))
    target = target_of({}, None, tokens="1B", steps=None, to_model=None)
    table, _ = projection(project(doubted, found.state, target))
    assert f"{run.estimate.label}: tokens grow with every step" in table.notes
