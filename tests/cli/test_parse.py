"""What `--since` and `--until` mean: times, days, months and ages."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from carbontrack.account.split import span_of_month
from carbontrack.cli import parse
from carbontrack.errors import CarbontrackError
from carbontrack.units import month_of, now_ms

DAY_MS = 86_400_000


@pytest.fixture
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A zone that is 14 h before UTC, and has no summer time."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Pacific/Kiritimati")
        time.tzset()
        yield
    time.tzset()


def utc(*numbers: int) -> int:
    return round(datetime(*numbers, tzinfo=UTC).timestamp() * 1000)  # type: ignore[arg-type, misc]


@pytest.mark.usefixtures("far_east")
@pytest.mark.parametrize(
    ("text", "first_ms", "after_ms"),
    [
        ("2026-01-31", utc(2026, 1, 30, 10), utc(2026, 1, 31, 10)),
        ("2026-01-31T12:00", utc(2026, 1, 30, 22), utc(2026, 1, 30, 22)),
        ("2026-01-31 12:00:30Z", utc(2026, 1, 31, 12, 0, 30), utc(2026, 1, 31, 12, 0, 30)),
        ("2026-12", utc(2026, 12, 1), utc(2027, 1, 1)),
        ("2026", utc(2026, 1, 1), utc(2027, 1, 1)),
    ],
)
def test_a_day_is_local_and_whole_and_a_month_is_in_utc(
    text: str, first_ms: int, after_ms: int
) -> None:
    assert parse.range_ms(text, None) == (first_ms, None)
    assert parse.range_ms(None, text) == (None, after_ms)


def test_the_months_are_those_of_by_month() -> None:
    def said() -> tuple[str, list[tuple[int | None, int | None]]]:
        words = (("last-month", "last-month"), ("this-month", None))
        return month_of(now_ms()), [parse.range_ms(*each) for each in words]

    (now, found), (later, again) = said(), said()
    if now != later:  # the month changed meanwhile
        now, found = later, again
    (since_ms, until_ms), (this_ms, _) = found
    assert since_ms is not None
    assert (since_ms, until_ms) == span_of_month(month_of(since_ms))
    assert (this_ms, until_ms) == (span_of_month(now)[0],) * 2


@pytest.mark.usefixtures("far_east")
def test_today_and_yesterday_are_local_days() -> None:
    def said() -> tuple[datetime, list[tuple[int | None, int | None]]]:
        words = (("yesterday", "today"), (None, "yesterday"))
        return datetime.now(), [parse.range_ms(*each) for each in words]

    (now, found), (later, again) = said(), said()
    if now.date() != later.date():  # the day changed meanwhile
        now, found = later, again
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    yesterday, today, tomorrow = (
        round((midnight + timedelta(days=days)).timestamp() * 1000) for days in (-1, 0, 1)
    )
    assert found == [(yesterday, tomorrow), (None, today)]


def test_an_age_is_before_now() -> None:
    before = now_ms()
    since_ms, until_ms = parse.range_ms("2w", "90m")
    assert since_ms is not None
    assert until_ms is not None
    assert timedelta(milliseconds=until_ms - since_ms).days == 13
    assert before <= since_ms + 14 * DAY_MS <= now_ms()


@pytest.mark.parametrize(
    ("since", "until", "said"),
    [
        ("yesterdayish", None, "--since yesterdayish: neither a date nor an age"),
        (f"{10**20}d", None, f"--since {10**20}d: neither a date nor an age"),
        (None, "2026-13", "--until 2026-13: neither a date nor an age"),
        ("2026-02", "2026-01", "--until 2026-01 is not after --since 2026-02"),
        ("1h", "2h", "--until 2h is not after --since 1h"),
    ],
)
def test_what_is_no_range_is_refused(since: str | None, until: str | None, said: str) -> None:
    with pytest.raises(CarbontrackError, match=said):
        parse.range_ms(since, until)


@pytest.mark.parametrize(
    ("text", "kwh"),
    [("3 MWh", 3000), ("1.2kWh", 1.2), ("1,700 MWh", 1.7e6), ("12,345,678.5 kWh", 12_345_678.5)],
)
def test_an_energy_may_have_commas_between_thousands(text: str, kwh: float) -> None:
    assert parse.energy_kwh(text, "--energy") == pytest.approx(kwh)
