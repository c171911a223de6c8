"""What is read off losses is read off their means, and no dip of the noise decides."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.account.loss import arrival, loss_at, lowest_common, noise, smooth, width_of
from carbontrack.ledger.recorded_rows import Step
from tests.account.test_curve import curve, steps


def noisy(seed: int, count: int = 200, sigma: float = 0.1) -> list[float]:
    """A loss that falls from 9 to 3 by the same law for every seed."""
    draw = random.Random(seed)
    return [3 + 6 / (1 + step / 10) + draw.gauss(0, sigma) for step in range(count)]


@pytest.mark.parametrize(
    ("count", "width"), [(0, 1), (3, 1), (20, 5), (40, 10), (200, 10), (1500, 75)]
)
def test_the_width_grows_with_the_curve(count: int, width: int) -> None:
    assert width_of(count) == width


def test_means_are_trailing_and_begin_when_there_are_enough() -> None:
    found = smooth([1.0, 2.0, 3.0, 4.0], 2)
    assert math.isnan(found[0])
    assert found[1:] == [1.5, 2.5, 3.5]


@given(sigma=st.floats(0.01, 1), seed=st.integers(0, 100))
def test_the_noise_of_a_mean_is_that_of_the_steps_over_the_root_of_the_width(
    sigma: float, seed: int
) -> None:
    draw = random.Random(seed)
    losses = [draw.gauss(3, sigma) for _ in range(2000)]
    assert noise(losses, 25) == pytest.approx(sigma / 5, rel=0.15)


def test_one_dip_is_no_arrival() -> None:
    losses = [5.0] * 50 + [1.0] + [5.0] * 49 + [2.0] * 100
    found = arrival(losses, 3.0, width_of(len(losses)))
    assert found.at is not None
    assert found.at > 100


def test_of_seeds_of_one_recipe_none_is_clearly_ahead() -> None:
    for seed in range(20):
        one, two = noisy(seed), noisy(seed + 100)
        target = lowest_common([one, two])
        assert target is not None
        first, second = (arrival(run, target, width_of(len(run))) for run in (one, two))
        early, late = sorted((first, second), key=lambda found: found.at or 0)
        assert early.latest is None or early.latest >= (late.earliest or 0), seed


def test_a_better_recipe_is_ahead() -> None:
    slow = noisy(1)
    fast = [loss - 0.5 for loss in noisy(2)]
    target = lowest_common([slow, fast])
    assert target is not None
    width = width_of(len(slow))
    latest, earliest = arrival(fast, target, width).latest, arrival(slow, target, width).earliest
    assert latest is not None
    assert earliest is not None
    assert latest < earliest


def test_too_few_losses_have_no_common_one() -> None:
    assert lowest_common([[], [1.0]]) is None
    assert lowest_common([[math.nan], [1.0]]) is None


def test_loss_at_an_energy_is_the_mean_of_the_last_steps_within_it() -> None:
    found, done = curve(*[50.0] * 4), steps(1000, 1000, 1000, 1000)  # 100 J a step
    assert loss_at(done, found, 250) == 7.0
    assert loss_at(done, found, 0) == 9.0
    assert loss_at([], found, 250) is None
    many = [Step(n, 100 * n, loss=float(n % 2)) for n in range(40)]
    assert loss_at(many, found, 300) == 0.5, "10 of them"
