"""What the ages of --keep mean."""

from __future__ import annotations

from dataclasses import replace

import pytest

from carbontrack.errors import CarbontrackError
from carbontrack.ledger.kept import first_kept_ms, parse_keep, without_late
from carbontrack.ledger.window import LEVELS_S
from carbontrack.units import MS_PER_DAY, MS_PER_HOUR
from tests.collect.batches import BEGIN_MS, RECORDED, batch, second

DAY_MS = BEGIN_MS // MS_PER_DAY * MS_PER_DAY


@pytest.mark.parametrize(
    ("text", "keep"),
    [
        ("1s:7d,60s:90d", {1: 168 * MS_PER_HOUR, 60: 2160 * MS_PER_HOUR}),
        ("60s:2w", {60: 336 * MS_PER_HOUR}),
        ("1s:0h", {1: 0}),
        ("all", {}),
    ],
)
def test_ages_are_of_levels(text: str, keep: dict[int, int]) -> None:
    assert parse_keep(text) == keep


@pytest.mark.parametrize(
    "text", ["", "7d", "1s", "1s:7", "1s:7m", "5s:7d", "3600s:1d", "1s:1d,1s:2d", "all,1s:1d"]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(CarbontrackError, match=r"invalid\. Example: --keep 1s:7d,60s:90d"):
        parse_keep(text)


def test_minutes_are_kept_as_long_as_seconds() -> None:
    with pytest.raises(CarbontrackError, match="at least as long as seconds"):
        parse_keep("1s:7d,60s:1d")


@pytest.mark.parametrize("at_ms", [0, 1, MS_PER_DAY - 1])
def test_whole_days_are_kept(at_ms: int) -> None:
    assert first_kept_ms({1: 7 * MS_PER_DAY}, 1, DAY_MS + at_ms) == DAY_MS - 7 * MS_PER_DAY
    assert first_kept_ms({1: 7 * MS_PER_DAY}, 60, DAY_MS + at_ms) is None


def test_of_a_late_batch_the_hours_are_left_and_what_is_kept_longer() -> None:
    sent = batch(0, 120)
    fine = tuple((sensor.uuid, second(at)) for sensor in RECORDED.sensors for at in range(120))
    sent = replace(sent, windows=(*sent.windows, *fine))
    packed = len(sent.segments)
    seconds, minutes, hours = (
        sum(window.level_s == level_s for _, window in sent.windows) for level_s in LEVELS_S
    )
    assert packed and seconds >= 240 and minutes == 4 and hours == 2
    keep = {1: MS_PER_DAY, 60: 3 * MS_PER_DAY}
    for days, left, late in (
        (1, {1, 60, 3600}, 0),
        (2, {60, 3600}, seconds + packed),
        (4, {3600}, seconds + packed + minutes),
    ):
        taken, count = without_late(sent, keep, DAY_MS + days * MS_PER_DAY)
        assert ({window.level_s for _, window in taken.windows}, count) == (left, late)
        assert bool(taken.segments) == (1 in left)
        assert replace(taken, windows=sent.windows, segments=sent.segments) == sent
