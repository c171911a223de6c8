"""The algebra of estimates: linear in each factor; additive over runs, devices and hours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbontrack import config
from carbontrack.account.estimate import estimate_run
from carbontrack.account.result import Estimate
from carbontrack.account.total import combine
from carbontrack.factors.resolve import resolve
from carbontrack.ledger.recorded_rows import StepTotals
from tests.fixtures.runs import Recorded

ALL: dict[str, Any] = {
    "pue": 1.2,
    "intensity": 0.3,
    "contract_intensity": 0.02,
    "wue": 1.1,
    "tariff": 0.1,
    "gpu_price": 20_000.0,
    "embodied_kg": 150.0,
    "node_w": 200.0,
    "node_w_per_device": 20.0,
}
RENTED = {
    **{name: value for name, value in ALL.items() if name != "tariff"},
    "price_per_gpu_hour": 2.0,
}
KEYS = (
    "gpu_hours",
    "energy_kwh",
    "node_kwh",
    "facility_kwh",
    "tco2e",
    "tco2e_market",
    "embodied_tco2e",
    "water_l",
    "cost",
    "sampled_s",
)


def estimate(recorded: Recorded, method: str = "measured", **given: Any) -> Estimate:
    factors = resolve(
        config.resolve([config.flags(**given)]),
        method=method,
        embodied=True,
        devices={recorded.device: recorded.rated_w},
    )
    return estimate_run(
        recorded.run,
        recorded.sensors,
        recorded.usages,
        StepTotals(),
        factors,
        method=method,
        embodied=True,
    )


def same(one: Estimate, other: Estimate) -> None:
    for key in KEYS:
        a, b = getattr(one, key), getattr(other, key)
        assert (a is None) == (b is None), key
        if a is not None:
            assert a == pytest.approx(b, rel=1e-9, abs=1e-12), key
            assert a >= 0, key


@pytest.mark.parametrize("method", ["measured", "report"])
@pytest.mark.parametrize(
    ("factor", "result"),
    [
        ("intensity", "tco2e"),
        ("contract_intensity", "tco2e_market"),
        ("wue", "water_l"),
        ("tariff", "cost"),
        ("price_per_gpu_hour", "cost"),
        ("gpu_price", "cost"),
        ("embodied_kg", "embodied_tco2e"),
        ("node_w", "node_kwh"),
        ("node_w_per_device", "node_kwh"),
    ],
)
@settings(max_examples=15, deadline=None)
@given(times=st.floats(0, 5), count=st.integers(2, 8), seconds=st.floats(1, 20_000))
def test_linear_in_each_factor(
    method: str, factor: str, result: str, times: float, count: int, seconds: float
) -> None:
    """What the factor adds over nothing of it grows with it, and nothing else moves it."""
    chosen = RENTED if factor == "price_per_gpu_hour" else ALL
    one = Recorded(count=count, seconds=seconds, steps=0)

    def at(value: float) -> float:
        found = getattr(estimate(one, method, **{**chosen, factor: value}), result)
        assert found is not None
        assert found >= 0
        return float(found)

    base = chosen[factor]
    nothing = at(0.0)
    assert at(base * times) - nothing == pytest.approx((at(base) - nothing) * times, abs=1e-9)
    if factor not in ("tariff", "gpu_price", "node_w", "node_w_per_device"):
        assert nothing == 0.0


@settings(max_examples=15, deadline=None)
@given(pue=st.floats(1, 2.5), count=st.integers(2, 8))
def test_linear_in_pue(pue: float, count: int) -> None:
    one, other = (estimate(Recorded(count=count), **{**ALL, "pue": p}) for p in (1.0, pue))
    for key in ("facility_kwh", "tco2e", "tco2e_market"):
        assert getattr(other, key) == pytest.approx(getattr(one, key) * pue), key
    assert (other.water_l, other.energy_kwh) == (one.water_l, one.energy_kwh)


@pytest.mark.parametrize("method", ["measured", "report"])
@pytest.mark.parametrize("chosen", [ALL, RENTED], ids=["own", "rented"])
@settings(max_examples=15, deadline=None)
@given(seconds=st.lists(st.integers(1, 20_000), min_size=2, max_size=4), power=st.floats(1, 1500))
def test_additive_over_runs(
    method: str, chosen: dict[str, Any], seconds: list[int], power: float
) -> None:
    """Runs one after the other are one long run."""
    parts = [
        Recorded(number=n, count=2, seconds=float(s), power_w=power) for n, s in enumerate(seconds)
    ]
    whole = Recorded(count=2, seconds=float(sum(seconds)), power_w=power)
    same(combine([estimate(p, method, **chosen) for p in parts]), estimate(whole, method, **chosen))


@pytest.mark.parametrize("method", ["measured", "report"])
@settings(max_examples=15, deadline=None)
@given(counts=st.lists(st.integers(1, 8), min_size=2, max_size=3), power=st.floats(1, 1500))
def test_additive_over_devices(method: str, counts: list[int], power: float) -> None:
    """Without the constant of a node, which is not the devices'."""
    chosen = {**ALL, "node_w": 0.0}
    parts = [estimate(Recorded(count=n, power_w=power), method, **chosen) for n in counts]
    whole = estimate(Recorded(count=sum(counts), power_w=power), method, **chosen)
    same(combine(parts), whole)


@settings(max_examples=15, deadline=None)
@given(hours=st.integers(2, 6), power=st.floats(1, 1500))
def test_additive_over_hours(hours: int, power: float) -> None:
    one = Recorded(count=2, seconds=hours * 3600.0, power_w=power, steps=0)
    whole = estimate(one, **ALL)
    starts = sorted({usage.start_ms for usage in one.usages})
    parts = [
        estimate_run(
            replace(one.run, started_ms=start, ended_ms=start + 3_600_000),
            one.sensors,
            [usage for usage in one.usages if usage.start_ms == start],
            StepTotals(),
            whole.factors,
            embodied=True,
        )
        for start in starts
        if whole.factors is not None
    ]
    assert len(parts) == hours
    same(combine(parts), whole)
