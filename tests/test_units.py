"""The clocks that the whole package shares."""

from __future__ import annotations

import time

import pytest

from carbontrack import units
from carbontrack.units import wall_ahead_ns


def clocks(monkeypatch: pytest.MonkeyPatch, delays_ns: list[int]) -> None:
    """A wall clock 1,000 s ahead, and after each reading of any clock one of these delays."""
    now_ns = 10**15

    def read(ahead_ns: int) -> int:
        nonlocal now_ns
        found_ns = now_ns + ahead_ns
        now_ns += delays_ns.pop(0) if delays_ns else 100
        return found_ns

    monkeypatch.setattr(units, "monotonic_ns", lambda: read(0))
    monkeypatch.setattr(time, "time_ns", lambda: read(10**12))


@pytest.mark.parametrize(
    "delays_ns", [[], [5_000_000], [100, 100, 100, 7_000_000], [30_000] * 4 + [7_000_000] * 30]
)
def test_both_clocks_are_read_together_whatever_comes_between(
    monkeypatch: pytest.MonkeyPatch, delays_ns: list[int]
) -> None:
    clocks(monkeypatch, delays_ns)
    assert wall_ahead_ns() == pytest.approx(10**12, abs=30_000)
