"""What a recorder writes fits into what a team's ledger packs, and sums stay what they are."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.ledger.packed import pack
from carbontrack.ledger.rounded import Rounding
from carbontrack.ledger.tables import WINDOWS
from tests.fixtures.runs import Recorded

ONE = Recorded(count=1)
_, HOUR = ONE.windows[0]
exact = st.tuples(
    st.floats(0, 2_000),
    st.floats(0, 1),
    st.floats(0, 100),
    st.floats(0, 3_000),
    st.integers(0, 1 << 37),
)


@given(found=st.lists(exact, min_size=1, max_size=60))
def test_all_are_packed_and_sums_stay(found: list[tuple[float, float, float, float, int]]) -> None:
    rounding = Rounding()
    windows = [
        replace(
            HOUR,
            level_s=1,
            start_ms=1000 * at,
            energy_j=energy_j,
            energy_s=seconds,
            sampled_s=seconds,
            samples=10,
            power_min_w=energy_j / 3,
            util_pct=util_pct,
            sm_clock_mhz=clock_mhz,
            memory_max_bytes=memory,
        )
        for at, (energy_j, seconds, util_pct, clock_mhz, memory) in enumerate(found)
    ]
    rounded = [rounding.next(window) for window in windows]
    segment, others = pack([WINDOWS.in_order(window, 1, 1) for window in rounded])
    far = [w for w in rounded if (w.power_max_w or 0) > 2e6]  # a mean over nearly no time
    assert len(others) <= len(far)
    assert segment is not None or len(far) == len(rounded)
    for name in ("energy_j", "energy_s"):
        whole = sum(getattr(window, name) for window in windows)
        assert sum(getattr(window, name) for window in rounded) == pytest.approx(whole, abs=6e-4)
