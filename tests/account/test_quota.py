"""The periods of quotas, and what they will come to."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from carbontrack.account.quota import period_of
from carbontrack.vocabulary import Per


def ms(*parts: int) -> int:
    return round(datetime(*parts, tzinfo=UTC).timestamp() * 1000)  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("per", "at_ms", "name", "start_ms", "end_ms"),
    [
        (Per.MONTH, ms(2026, 12, 31, 23), "2026-12", ms(2026, 12, 1), ms(2027, 1, 1)),
        (Per.MONTH, ms(2028, 2, 1), "2028-02", ms(2028, 2, 1), ms(2028, 3, 1)),
        (Per.QUARTER, ms(2026, 3, 31), "2026-Q1", ms(2026, 1, 1), ms(2026, 4, 1)),
        (Per.QUARTER, ms(2026, 4, 1), "2026-Q2", ms(2026, 4, 1), ms(2026, 7, 1)),
        (Per.QUARTER, ms(2026, 12, 1), "2026-Q4", ms(2026, 10, 1), ms(2027, 1, 1)),
        (Per.YEAR, ms(2026, 7, 1), "2026", ms(2026, 1, 1), ms(2027, 1, 1)),
    ],
)
def test_a_period_is_of_the_calendar(
    per: Per, at_ms: int, name: str, start_ms: int, end_ms: int
) -> None:
    found = period_of(per, at_ms)
    assert (found.name, found.span_ms) == (name, (start_ms, end_ms))


def test_a_period_comes_to_what_its_pace_says() -> None:
    june = period_of(Per.MONTH, ms(2026, 6, 15))
    assert june.at_the_end(100.0, ms(2026, 6, 11)) == pytest.approx(300.0)
    assert june.at_the_end(100.0, ms(2026, 6, 1, 12)) is None, "half a day is no pace"
    assert june.at_the_end(100.0, ms(2026, 9, 1)) == 100.0, "it is over"
    assert june.at_the_end(0.0, ms(2026, 5, 1)) is None, "it has not begun"
