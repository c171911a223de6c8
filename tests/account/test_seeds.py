"""Groups of seeds: mean, spread, and when one is ahead of another."""

from __future__ import annotations

import math

import pytest

from carbontrack.account.seeds import Spread, is_less


def test_the_spread_is_the_sample_standard_deviation() -> None:
    spread = Spread.of([1.0, 2.0, 4.0])
    assert spread.mean == pytest.approx(7 / 3)
    assert spread.sd == pytest.approx(math.sqrt(((4 / 3) ** 2 + (1 / 3) ** 2 + (5 / 3) ** 2) / 2))
    assert math.isnan(Spread.of([5.0]).sd)


@pytest.mark.parametrize(
    ("less", "more", "clear"),
    [
        ([1.0, 1.1, 0.9], [2.0, 2.1, 1.9], True),
        ([1.0, 2.0, 3.0], [2.0, 3.0, 4.0], False),
        ([2.0, 2.1, 1.9], [1.0, 1.1, 0.9], False),
        ([1.0], [2.0, 2.1], False),
    ],
)
def test_one_group_is_ahead_only_beyond_the_spread_of_both(
    less: list[float], more: list[float], clear: bool
) -> None:
    assert is_less(Spread.of(less), Spread.of(more)) is clear
