"""What of a run counts that reaches beyond `--since` and `--until`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from carbontrack import config
from carbontrack.ledger import engine
from carbontrack.ledger.window import Window
from carbontrack.units import J_PER_KWH
from dashboards.live.view import View
from tests.fixtures.command import Command
from tests.fixtures.runs import Recorded, write_ledger

LONG = Recorded(name="long", count=2, seconds=6 * 3600.0, project="llm", steps=24)  # from 20:00 UTC
KWH_OF_HOUR = 2 * LONG.power_w * 3600 / J_PER_KWH
MIDDLE = "2026-05-29T23:00Z"  # after three hours, where half of the steps are done


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    short = Recorded(name="short", number=2, count=1, seconds=1800.0, meter="rapl", kind="cpu")
    return write_ledger(tmp_path / "ledger.db", LONG, short)


def rows(command: Command, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = command("table", *options, "--format", "json").json["rows"]
    return found


def test_what_is_before_and_after_a_moment_adds_up(command: Command, ledger: Path) -> None:
    (whole,) = rows(command, "long")
    (before,) = rows(command, "long", "--until", MIDDLE)
    (after,) = rows(command, "long", "--since", MIDDLE)
    for key in ("energy_kwh", "facility_kwh", "tco2e", "cost", "gpu_hours", "duration_s"):
        assert before[key] == pytest.approx(whole[key] / 2), key
        assert before[key] + after[key] == pytest.approx(whole[key]), key
    assert before["lost_kwh"] is None
    assert before["tokens"] + after["tokens"] == whole["tokens"]
    assert after["final_loss"] == whole["final_loss"] < before["final_loss"]
    assert before["coverage"] == after["coverage"] == 1.0
    assert any("only what is in the range counts" in note for note in before["notes"])
    assert not any("range" in note for note in whole["notes"])


class Short(Recorded):
    """Within an hour: it begins five minutes past."""

    @property
    def start_ms(self) -> int:
        return super().start_ms + 5 * 60_000

    @property
    def windows(self) -> list[tuple[str, Window]]:
        hour_ms = super().start_ms
        return [(uuid, replace(window, start_ms=hour_ms)) for uuid, window in super().windows]


HALF = Recorded(name="half", number=3, count=2, seconds=5400.0)  # from 20:00 UTC
UNEVEN = (LONG, HALF, Short(name="short", number=4, count=2, seconds=1200.0))


@pytest.fixture
def half_an_hour_off(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A zone whose days begin at 20:30 UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "XXX-3:30")
        time.tzset()
        yield
    time.tzset()


def assert_they_add_up(command: Command, *ranges: tuple[str, ...]) -> None:
    """What each run used in these ranges is what it used in all."""
    parts = [row for one in ranges for row in rows(command, *one)]
    for whole in rows(command):
        for key in ("energy_kwh", "facility_kwh", "tco2e", "gpu_hours", "duration_s"):
            found = [part[key] for part in parts if part["label"] == whole["label"]]
            assert sum(found) == pytest.approx(whole[key]), (whole["label"], key)


@pytest.mark.parametrize("minutes", [30, 70, 105])
def test_what_is_before_and_after_any_minute_adds_up(
    command: Command, tmp_path: Path, minutes: int
) -> None:
    """Also of a run that had ended by then, but in that hour."""
    path = write_ledger(tmp_path / "ledger.db", *UNEVEN)
    at_ms = HALF.start_ms + minutes * 60_000
    moment = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()
    assert_they_add_up(command, ("--until", moment), ("--since", moment))
    view = View(engine.ledger_url(str(path)), config.flags())
    spans: list[dict[str, Any]] = [{"until_ms": at_ms}, {"since_ms": at_ms}, {}]
    before, after, whole = (view.totals(**span)["total"]["energy_kwh"] for span in spans)
    view.close()
    assert before + after == pytest.approx(whole)


@pytest.mark.usefixtures("half_an_hour_off")
def test_days_that_begin_within_an_hour_add_up(command: Command, tmp_path: Path) -> None:
    write_ledger(tmp_path / "ledger.db", *UNEVEN)
    days = ("2026-05-29", "2026-05-30", "2026-05-31", "2026-06-01", "2026-06-02")
    assert_they_add_up(command, *(("--since", day, "--until", day) for day in days))


def test_runs_are_those_that_ran_in_the_range(command: Command, ledger: Path) -> None:
    between = ("--since", MIDDLE, "--until", "2026-05-30T01:00Z")
    assert [one["name"] for one in command("runs", *between, "--format", "json").json["runs"]] == [
        "long"
    ]
    (row,) = rows(command, *between)
    assert row["energy_kwh"] == pytest.approx(2 * KWH_OF_HOUR)
    assert rows(command, "--since", "2026-05-30T02:00Z", "--until", "2026-05-30T20:00Z") == []
    assert [row["label"] for row in rows(command, "--since", "2026-05-30T02:00Z")] == ["short"]
    assert [row["label"] for row in rows(command, "--since", MIDDLE)] == ["short", "long"]
    assert [row["label"] for row in rows(command, "--until", MIDDLE)] == ["long"]


@pytest.mark.parametrize("by", ["project", "host", "month", "phase", "attempt"])
def test_groups_are_of_the_same_part(command: Command, ledger: Path, by: str) -> None:
    options = ("long", "--until", MIDDLE, "--by", by)
    (row,) = rows(command, *options)
    assert row["energy_kwh"] == pytest.approx(3 * KWH_OF_HOUR)
    assert row["duration_s"] == pytest.approx(3 * 3600)
    assert "long: only what is in the range counts" in command("table", *options).out


def test_a_paper_says_it_in_its_own_words(command: Command, ledger: Path) -> None:
    latex = command("table", "long", "--until", MIDDLE, "--format", "latex").out
    assert "only what is in it counts: long" in latex


def test_the_page_adds_up_the_same(command: Command, ledger: Path) -> None:
    (row,) = rows(command, "long", "--until", MIDDLE)
    view = View(engine.ledger_url(str(ledger)), config.flags())
    until_ms = LONG.start_ms + 3 * 3_600_000
    found = view.totals(by="project", until_ms=until_ms)
    view.close()
    assert found["total"]["energy_kwh"] == row["energy_kwh"]
    assert [group["energy_kwh"] for group in found["groups"]] == [row["energy_kwh"]]
