"""What the end of a job may wait for its recorder."""

from __future__ import annotations

import pytest

from carbontrack.record.grace import grace_s


@pytest.mark.parametrize(
    ("given", "grace"),
    [("", (1.0, 5.0)), ("0", (0.0, 5.0)), ("2.5", (2.5, 5.0)), ("30", (30.0, 30.0))],
)
def test_it_is_set_in_seconds(
    monkeypatch: pytest.MonkeyPatch, given: str, grace: tuple[float, float]
) -> None:
    monkeypatch.setenv("CARBONTRACK_GRACE_S", given)
    assert grace_s() == grace


def test_where_the_recorder_ends_with_the_wrapper_it_is_enough_to_ship(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CARBONTRACK_GRACE_S")
    assert grace_s() == (1.0, 5.0)
    assert grace_s(ends_with_wrapper=True) == (30.0, 30.0)
    monkeypatch.setenv("CARBONTRACK_GRACE_S", "2.5")
    assert grace_s(ends_with_wrapper=True) == (2.5, 5.0)


@pytest.mark.parametrize("given", ["long", "-1", "nan", "inf"])
def test_what_is_no_time_is_said_and_not_taken(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], given: str
) -> None:
    monkeypatch.setenv("CARBONTRACK_GRACE_S", given)
    assert grace_s() == (1.0, 5.0)
    assert f"CARBONTRACK_GRACE_S='{given}' is not a number of seconds" in capfd.readouterr().err
