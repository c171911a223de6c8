"""Times of other tools: every form, and local ones about a change of clocks."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.errors import CarbontrackError
from carbontrack.importers.clock import Clock, NoZone
from carbontrack.importers.model import Refused, Rejected

AT_NS = 1_700_000_000_123_000_000  # 2023-11-14 22:13:20.123 UTC


@pytest.mark.parametrize(
    "text",
    [
        "1700000000.123",
        "1700000000123",
        "1700000000123000",
        "1700000000123000000",
        "2023-11-14T22:13:20.123Z",
        "2023-11-14 23:13:20.123+01:00",
        "2023/11/14 22:13:20.123",
        "2023-11-14-22:13:20,123",
        "[2023-11-14 22:13:20.123]",
    ],
)
def test_every_form_of_a_time(text: str) -> None:
    assert Clock("f", "UTC").read(text) == AT_NS


def test_local_times_want_a_zone() -> None:
    with pytest.raises(NoZone, match="--tz Europe/Paris"):
        Clock("f", None).read("2023/11/14 22:13:20")
    assert Clock("f", "-05:00").read("2023/11/14 17:13:20.123") == AT_NS
    assert Clock("f", "America/New_York").read("2023/11/14 17:13:20.123") == AT_NS


@pytest.mark.parametrize("zone", ["Nowhere/Land", "../etc", "25 o'clock", ""])
def test_an_unknown_zone_is_named(zone: str) -> None:
    with pytest.raises(CarbontrackError, match="is not a time zone"):
        Clock("f", zone)


def test_an_ambiguous_day_and_month_are_refused() -> None:
    with pytest.raises(Refused, match="are ambiguous"):
        Clock("f", "UTC").read("03-11-2026 15:13:16")


@pytest.mark.parametrize("text", ["", "yesterday", "12:30", "2023-13-01 00:00:00", "7"])
def test_what_is_not_a_time(text: str) -> None:
    with pytest.raises(Rejected, match="is not a time"):
        Clock("f", "UTC").read(text)


def test_the_hour_that_comes_twice_is_told_by_the_order() -> None:
    """In Paris clocks went from 03:00 back to 02:00 on 2023-10-29, at 01:00 UTC."""
    clock = Clock("f", "Europe/Paris")
    times = ("01:59:59", "02:30:00", "02:59:59", "02:00:00", "02:30:00", "03:00:00")
    found = [clock.read(f"2023/10/29 {time}") // 10**9 for time in times]
    assert [b - a for a, b in pairwise(found)] == [1801, 1799, 1, 1800, 1800]


def test_an_hour_that_never_was() -> None:
    with pytest.raises(Rejected, match="clocks were set forward"):
        Clock("f", "Europe/Paris").read("2023/03/26 02:30:00")


@given(st.integers(0, 4 * 10**9), st.sampled_from(["Europe/Paris", "Asia/Kolkata", "+09:30"]))
def test_a_steady_offset_is_that_of_each_time(second: int, zone: str) -> None:
    from datetime import UTC, datetime

    clock = Clock("f", zone)
    add_s = clock.is_steady([second])
    if add_s is not None:
        local = datetime.fromtimestamp(second, UTC).replace(tzinfo=None)
        assert clock.local_s(local) == second + add_s
