"""How far a node's clock is off: never more than said, and a row only where it changes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from carbontrack.ledger.clock import is_news, measured
from carbontrack.ledger.rows import ClockOffset

T = 1_700_000_000_000
DELAYS_MS = st.integers(0, 20_000)


@given(there=DELAYS_MS, back=DELAYS_MS, offset_ms=st.integers(-(10**9), 10**9))
def test_the_offset_is_within_its_error_however_the_time_is_spent(
    there: int, back: int, offset_ms: int
) -> None:
    found = measured(T, there + back, T + there + offset_ms)
    assert abs(found.offset_ms - offset_ms) <= found.error_ms <= (there + back + 1) // 2
    assert found.time_ms == T + found.error_ms


@given(delays=st.lists(st.tuples(DELAYS_MS, DELAYS_MS), min_size=1, max_size=200))
def test_a_clock_that_is_not_set_has_few_rows_and_one_that_is_has_another(
    delays: list[tuple[int, int]],
) -> None:
    """An error is halved a few times until it matters no more."""
    known: list[ClockOffset] = []

    def hear(there: int, back: int, offset_ms: int) -> None:
        now = measured(T, there + back, T + there + offset_ms)
        if is_news(now, known[-1] if known else None):
            known.append(now)

    for there, back in delays:
        hear(there, back, 3_000)
    assert len(known) <= 7
    assert all(abs(one.offset_ms - 3_000) <= one.error_ms for one in known)
    hear(5, 5, 3_000)
    before = len(known)
    hear(5, 5, 0)  # NTP has set it
    assert len(known) == before + 1
    assert abs(known[-1].offset_ms) <= 5
