"""Groups of seeds: mean, spread, and when one is apart from another."""

from __future__ import annotations

import math

import pytest

from carbontrack.account.spread import apart, spread_of


def test_the_spread_is_the_sample_standard_deviation() -> None:
    spread = spread_of([1.0, 2.0, 4.0])
    assert spread is not None
    assert spread.mean == pytest.approx(7 / 3)
    assert spread.sd == pytest.approx(math.sqrt(((4 / 3) ** 2 + (1 / 3) ** 2 + (5 / 3) ** 2) / 2))
    (alone, unknown) = (spread_of([5.0]), spread_of([5.0, None]))
    assert alone is not None
    assert (alone.mean, alone.sd, alone.is_known) == (5.0, None, False)
    assert unknown is None


@pytest.mark.parametrize(
    ("one", "other", "clear"),
    [
        ([1.0, 1.1, 0.9], [2.0, 2.1, 1.9], True),
        ([2.0, 2.1, 1.9], [1.0, 1.1, 0.9], True),
        ([1.0, 2.0, 3.0], [2.0, 3.0, 4.0], False),
        ([2.05], [2.0, 2.1], False),  # within what is known of the scatter
        ([1.0], [2.0, 2.1], None),
        ([1.0], [2.0], None),
    ],
)
def test_groups_are_apart_only_beyond_the_spread_of_both(
    one: list[float], other: list[float], clear: bool | None
) -> None:
    a, b = spread_of(one), spread_of(other)
    assert a is not None
    assert b is not None
    assert apart(a, b) is clear
    assert apart(b, a) is clear
