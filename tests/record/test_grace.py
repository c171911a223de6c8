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


@pytest.mark.parametrize("given", ["long", "-1", "nan", "inf"])
def test_what_is_no_time_is_said_and_not_taken(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], given: str
) -> None:
    monkeypatch.setenv("CARBONTRACK_GRACE_S", given)
    assert grace_s() == (1.0, 5.0)
    assert f"CARBONTRACK_GRACE_S='{given}' is not a number of seconds" in capfd.readouterr().err
