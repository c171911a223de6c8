"""The energy curve, the steady state, projections and budgets."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack import config
from carbontrack.account.budget import Budget, judge
from carbontrack.account.curve import EnergyCurve
from carbontrack.account.estimate import estimate_run
from carbontrack.account.project import amount, project, published_model, target_of
from carbontrack.account.result import Estimate
from carbontrack.account.steady import steady_state
from carbontrack.errors import CarbontrackError
from carbontrack.factors.resolve import resolve
from carbontrack.ledger.recorded_rows import Step
from carbontrack.ledger.rows import Series
from carbontrack.vocabulary import BudgetState
from tests.fixtures.runs import Recorded


def curve(*powers_w: float, devices: int = 2) -> EnergyCurve:
    """One-second windows of so many devices, starting at 0."""
    starts = [second * 1000 for _ in range(devices) for second in range(len(powers_w))]
    series = Series(1, {"start_ms": starts, "energy_j": [*powers_w] * devices})
    return EnergyCurve.of(series, from_ms=0, to_ms=len(powers_w) * 1000)


def steps(*lengths_ms: int, tokens: int | None = 100) -> list[Step]:
    found, at_ms = [Step(0, 0, loss=9.0, tokens=tokens)], 0
    for number, length_ms in enumerate(lengths_ms, start=1):
        at_ms += length_ms
        found.append(Step(number, at_ms, loss=9.0 - number, tokens=tokens))
    return found


def test_energy_is_straight_between_the_ends_of_windows() -> None:
    found = curve(100.0, 300.0)
    assert [found.energy_j(t) for t in (-5, 0, 500, 1000, 1500, 2000, 9999)] == [
        0, 0, 100, 200, 500, 800, 800,
    ]  # fmt: skip
    assert found.total_j == 800


def test_a_gap_spends_nothing_and_a_missing_energy_is_none() -> None:
    series = Series(1, {"start_ms": [0, 1000, 5000], "energy_j": [100.0, None, 100.0]})
    found = EnergyCurve.of(series, from_ms=0, to_ms=6000)
    assert found.energy_j(4999) == 100
    assert found.total_j == 200


@given(powers=st.lists(st.floats(0, 1000), min_size=1, max_size=20), at=st.floats(0, 30_000))
def test_the_curve_never_falls(powers: list[float], at: float) -> None:
    found = curve(*powers)
    assert 0 <= found.energy_j(at) <= found.energy_j(at + 1) <= found.total_j * (1 + 1e-12)


@pytest.mark.parametrize(
    ("text", "count"), [("2T", 2e12), ("300B", 3e11), ("300G", 3e11), ("1.5M", 1.5e6), ("7", 7.0)]
)
def test_counts_with_a_prefix(text: str, count: float) -> None:
    assert amount(text, where="--tokens") == count


@pytest.mark.parametrize("text", ["", "0", "-1", "1.2.3T", "two", "5Q"])
def test_what_is_no_count(text: str) -> None:
    with pytest.raises(CarbontrackError, match="--tokens"):
        amount(text, where="--tokens")


def measured(**given: Any) -> Estimate:
    one = Recorded()
    factors = resolve(config.resolve([config.flags(**given)]), method="measured")
    return estimate_run(one.run, one.sensors, one.usages, one.step_totals, factors)


def test_a_projection_is_linear_in_tokens() -> None:
    state = steady_state(steps(*[1000] * 20), curve(*[50.0] * 20), name="r")

    def projected(tokens: str) -> Estimate:
        target = target_of({}, None, tokens=tokens, steps=None, to_model=None)
        return project(measured(pue=1.2), state, target).estimate

    one, ten = projected("1M"), projected("10M")
    assert one.energy_kwh == pytest.approx(1e6 * 1.0 / 3.6e6)
    assert one.facility_kwh == pytest.approx(1e6 * 1.0 / 3.6e6 * 1.2)
    assert one.gpu_hours == pytest.approx(1e6 / 100 / 3600 * 8)
    for key in ("gpu_hours", "energy_kwh", "tco2e", "cost", "duration_s"):
        assert getattr(ten, key) == pytest.approx(10 * getattr(one, key))


def test_published_models_are_found_by_a_plain_name() -> None:
    assert published_model("llama2-70b").gpu_hours == 1_720_320
    with pytest.raises(CarbontrackError, match="Llama 2 7B"):
        published_model("llama9")


def test_budgets_warn_at_80_per_cent_and_are_spent_at_the_limit() -> None:
    row = measured(pue=1.0, intensity=0.5, tariff=0.1)  # 5.76 kWh, 2.88 kg, 0.576 USD
    assert judge(Budget(), row) == []
    kg, money, kwh = judge(Budget(kg=2.88, money=0.7, kwh=10.0), row)
    assert (kg.state, money.state, kwh.state) == (
        BudgetState.SPENT,
        BudgetState.NEAR,
        BudgetState.WITHIN,
    )
    assert str(money) == "0.576 of 0.7 USD (82 %)"
    assert judge(Budget(kwh=0.0), row)[0].state is BudgetState.SPENT


def test_a_budget_of_a_run_without_energy_is_not_spent() -> None:
    one = Recorded()
    factors = resolve(config.resolve([]), method="measured")
    empty = estimate_run(one.run, one.sensors, [], one.step_totals, factors)
    assert [v.state for v in judge(Budget(kg=1, money=1, kwh=1), empty)] == [BudgetState.WITHIN] * 3
