"""What the pages are answered, without a server."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from carbontrack import config
from carbontrack.account.split import span_of_month
from carbontrack.errors import CarbontrackError
from carbontrack.ledger.url import ledger_url as url_of
from carbontrack.units import MS_PER_HOUR, now_ms
from carbontrack.vocabulary import Method
from dashboards.live.columns import MANY_DEVICES
from dashboards.live.view import View
from tests.fixtures.attempts import Part
from tests.fixtures.command import Command
from tests.fixtures.runs import Recorded, write_ledger, write_runs


def test_methods_side_by_side_have_the_same_factors(tmp_path: Path) -> None:
    write_ledger(tmp_path / "ledger.db", Recorded(count=2))
    view = View(url_of(str(tmp_path / "ledger.db")), config.flags())
    try:
        run = view.find("last")
        rows = {row["method"]: row for row in view.run(run)["rows"]}
        for name in ("pue", "intensity_kg_per_kwh"):
            assert rows["report"][name] == rows["measured"][name]
        assert rows["report"]["tco2e"] / rows["measured"]["tco2e"] == pytest.approx(400 / 360)
        for method, row in rows.items():
            pasted = csv.DictReader(io.StringIO(view.table(run, method=method, format="csv")))
            assert [float(line["tco2e"]) for line in pasted] == [row["tco2e"]]
    finally:
        view.close()


@pytest.fixture
def team(ledger_url: str) -> Iterator[View]:
    """Three runs of two people in two projects; the last began in the month before it ended."""
    for number, (user, project, seed) in enumerate(
        [("ada", "llama", "1"), ("bob", "llama", "2"), ("bob", "big", "1")], start=1
    ):
        run = Recorded(
            name=f"run {number}",
            number=number,
            count=2,
            user=user,
            project=project,
            seconds=3600,
            tags={"seed": seed},
            power_w=100.0 * number,
        )
        write_runs(ledger_url, run)
    view = View(ledger_url, config.flags(pue=1.5, intensity=0.4, tariff=0.1))
    yield view
    view.close()


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("project", {"llama": 0.6, "big": 0.6}),
        ("user", {"ada": 0.2, "bob": 1.0}),
        ("tag:seed", {"1": 0.8, "2": 0.4}),
        ("month", {"2026-05": 1.2}),
        ("", {}),
    ],
)
def test_the_first_page_sums_what_the_table_does(
    team: View, by: str, expected: dict[str, float]
) -> None:
    found = team.totals(by=by)
    assert {row["label"]: row["energy_kwh"] for row in found["groups"]} == pytest.approx(expected)
    total = found["total"]
    assert total["energy_kwh"] == pytest.approx(1.2)
    assert total["facility_kwh"] == pytest.approx(1.8)
    assert total["tco2e"] == pytest.approx(1.8 * 0.4 / 1000)
    assert (total["runs"], found["summed"], found["matching"]) == (3, 3, 3)
    assert found["tags"] == ["seed"]
    assert found["unknown"] == []


def test_a_range_of_time_begins_with_its_first_moment_and_ends_before_its_last(team: View) -> None:
    second = team.find("run 2")
    before = {"since_ms": second.started_ms, "until_ms": second.started_ms}
    assert team.totals(**before)["total"] is None
    before["until_ms"] += 24 * MS_PER_HOUR  # when the next one begins
    assert team.totals(**before)["total"]["energy_kwh"] == pytest.approx(0.4)
    assert [run["name"] for run in team.runs(**before)["runs"]] == ["run 2"]
    assert [run["name"] for run in team.runs(user="bob")["runs"]] == ["run 3", "run 2"]


def test_why_a_sum_is_not_known_is_said(ledger_url: str) -> None:
    places = [("FRA", "EUR"), ("US-CAMX", "USD")]
    for number, (zone, currency) in enumerate(places, start=1):
        facility = {"zone": zone, "currency": currency, "tariff": 0.2}
        write_runs(ledger_url, Recorded(number=number, count=2, facility=facility))
    view = View(ledger_url, config.flags(pue=1.5))
    try:
        found = view.totals()
    finally:
        view.close()
    assert (found["total"]["tco2e"], found["total"]["cost"]) == (None, None)
    co2e, cost = found["unknown"]
    assert co2e.startswith("CO₂e is not added up: the intensities are ")
    assert cost == "cost is not added up: USD and EUR"


def test_a_project_has_its_quota_in_the_month_that_is_shown(
    team: View, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "carbontrack.toml").write_text("[quota.llama]\nkwh = 1.1\n[quota.none]\nkg = 1\n")
    may = {"since_ms": span_of_month("2026-05")[0], "until_ms": span_of_month("2026-05")[1]}
    for beside_h in (-11, 0, 11):  # months of readers east and west of UTC
        spans = {name: at_ms + beside_h * MS_PER_HOUR for name, at_ms in may.items()}
        groups = {
            row["label"]: row["quotas"] for row in team.totals(by="project", **spans)["groups"]
        }
        (quota,) = groups.pop("llama")
        assert (quota["period"], quota["state"]) == ("2026-05", "near")
        assert quota["used"] == pytest.approx(0.9)
        assert not any(groups.values()), "no other has one"

    def shown() -> tuple[str, str]:
        month = f"{datetime.now(UTC):%Y-%m}"
        (now, *_) = (row["quotas"] for row in team.totals(by="project", user="ada")["groups"])
        return month, now[0]["period"]

    (month, period), (later, again) = shown(), shown()
    if month != later:  # the month changed meanwhile
        month, period = later, again
    assert period == month, "of a range without an end"
    assert [row["quotas"] for row in team.totals(by="user")["groups"]] == [[], []]


def test_an_unknown_key_of_the_sums_is_an_error(team: View) -> None:
    with pytest.raises(CarbontrackError, match="--by colour: unknown"):
        team.totals(by="colour")


def test_an_explanation_names_each_factor_with_its_source(team: View) -> None:
    found = team.explain(team.find("run 1"), method="measured")
    how = {step["name"]: (step["value"], step["how"]) for step in found["steps"]}
    assert how["PUE"][0] == 1.5
    assert how["facility"] == (pytest.approx(0.3), "energy × PUE")
    with pytest.raises(CarbontrackError, match="method=guess: unknown"):
        team.explain(team.find("run 1"), method="guess")


@pytest.mark.parametrize("factors", [{}, {"zone": "FRA", "pue": 1.2, "provider": "gcp"}])
def test_the_command_that_an_explanation_names_has_its_numbers(
    tmp_path: Path, command: Command, factors: dict[str, Any]
) -> None:
    write_ledger(tmp_path / "the team's.db", Recorded(count=2))
    view = View(url_of(str(tmp_path / "the team's.db")), config.flags(**factors))
    try:
        run = view.find("last")
        found = {method: view.explain(run, method=method) for method in Method}
    finally:
        view.close()
    for method, explained in found.items():
        _, *words = shlex.split(explained["command"])
        (same,) = (
            one
            for one in command(*words, "--format", "json").json["explained"]
            if one["method"] == method
        )
        assert same["cell"] == explained["cell"]
        for step, other in zip(same["steps"], explained["steps"], strict=True):
            assert (step["name"], step["how"]) == (other["name"], other["how"])


def test_of_many_devices_only_what_a_map_shows_is_sent(tmp_path: Path) -> None:
    write_ledger(tmp_path / "ledger.db", Recorded(count=MANY_DEVICES + 1))
    view = View(url_of(str(tmp_path / "ledger.db")), config.flags())
    try:
        devices = view.series(view.find("last"), points=2000)["devices"]
    finally:
        view.close()
    assert [device["label"] for device in devices] == [f"gpu {n}" for n in range(17)]
    shown = {"uuid", "kind", "label", "power_w", "util_pct", "temperature_max_c"}
    assert {key for device in devices for key in device} == shown


def test_devices_that_were_not_recorded_then_are_missing_from_nothing(tmp_path: Path) -> None:
    """A run that was put back in the queue, and went on on another node."""
    for attempt in (0, 1):
        Part(node=attempt, attempt=attempt, seconds=60).write(tmp_path / "ledger.db")
    view = View(url_of(str(tmp_path / "ledger.db")), config.flags())
    try:
        shown = view.series(view.find("last"), points=2000)
    finally:
        view.close()
    assert len(shown["devices"]) == 4
    powers = np.array([device["power_w"] for device in shown["devices"]])
    sums = np.where(np.isfinite(powers).any(axis=0), np.nansum(powers, axis=0), np.nan)
    assert np.isfinite(sums).sum() == 120
    assert shown["total"]["power_w"] == pytest.approx(sums, nan_ok=True)
    assert shown["mean"]["power_w"] == pytest.approx(sums / 2, rel=1e-5, nan_ok=True)
    assert np.isfinite(shown["mean"]["util_pct"]).sum() == 120


def test_what_a_node_has_not_shipped_yet_is_no_fall_of_the_power(tmp_path: Path) -> None:
    for node, seconds in enumerate((60, 50)):
        Part(node=node, attempt=0, seconds=seconds, dies=True).write(tmp_path / "ledger.db")
    view = View(url_of(str(tmp_path / "ledger.db")), config.flags())
    try:
        total_w = view.series(view.find("last"), points=2000)["total"]["power_w"]
    finally:
        view.close()
    assert np.isfinite(total_w).tolist() == [True] * 50 + [False] * 10


def test_power_now_is_of_the_devices_that_are_recorded_now(tmp_path: Path) -> None:
    begin_ms = now_ms() + MS_PER_HOUR  # it goes on for as long as the test may last
    for attempt in (0, 1):
        part = Part(node=attempt, attempt=attempt, seconds=60, dies=attempt == 1, begin_ms=begin_ms)
        part.write(tmp_path / "ledger.db")
    view = View(url_of(str(tmp_path / "ledger.db")), config.flags())
    try:
        found = view.run(view.find("last"))
    finally:
        view.close()
    assert found["status"] == "running"
    assert len(found["devices"]) == 4
    assert (found["power_now_devices"], found["devices_now"]) == (2, 2)


def test_a_zoom_into_hours_of_which_no_more_is_left(tmp_path: Path) -> None:
    """It is drawn as a step, with what was spent, and says what it is."""
    one = Recorded(count=2, seconds=5400)
    write_ledger(tmp_path / "ledger.db", one)
    view = View(url_of(str(tmp_path / "ledger.db")), config.flags())
    try:
        from_ms, to_ms = one.start_ms + 600_000, one.start_ms + 900_000
        shown = view.series(view.find("last"), from_ms=from_ms, to_ms=to_ms, points=300)
    finally:
        view.close()
    assert shown["coarser"] == [{"from_ms": from_ms, "to_ms": to_ms, "level_s": 3600}]
    assert [set(device["power_w"]) for device in shown["devices"]] == [{360.0}] * 2
    assert shown["time_ms"][0] <= from_ms
    assert shown["time_ms"][-1] >= to_ms - shown["level_s"] * 1000
    kwh = shown["spent"]["facility_kwh"]
    assert kwh[-1] / kwh[0] == pytest.approx(900 / 600, rel=0.02)
