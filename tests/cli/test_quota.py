"""Quotas of projects: what is used of them, as the table counts it, and what a check says."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.command import Command
from tests.fixtures.runs import Recorded, write_ledger, write_runs

MAY = Recorded(name="may", number=1, project="nlp", count=2)
ACROSS = Recorded(name="across", number=3, project="nlp", count=1, seconds=6 * 3600.0)  # till June
OTHER = Recorded(name="other", number=2, project="vision", count=16)
NOBODY = Recorded(name="nobody", number=4, count=1)
FACTORS = ("--pue", "1.25", "--intensity", "0.4", "--tariff", "0.2")
KWH = (2 * 2 + 4) * 0.36 * 1.25  # of nlp in May: 4 of the 6 hours of `across` are in it


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return write_ledger(tmp_path / "ledger.db", MAY, OTHER, ACROSS, NOBODY)


def set_quotas(folder: Path, text: str) -> None:
    (folder / "carbontrack.toml").write_text(text)


def quotas(command: Command, *options: str) -> dict[tuple[str, str], dict[str, Any]]:
    """By project and what the limit is of."""
    found = command("quota", "--at", "2026-05", *FACTORS, *options, "--format", "json").json
    return {(one["project"], one["limit_of"]): one for one in found["quotas"]}


def test_what_is_used_is_what_the_table_counts_in_that_period(
    command: Command, ledger_url: str, tmp_path: Path
) -> None:
    write_runs(ledger_url, MAY, OTHER, ACROSS, NOBODY)
    set_quotas(tmp_path, "[quota.nlp]\nkwh = 4\nkg = 10\ncost = 0.8\ngpu_hours = 9\n")
    found = quotas(command, "--db", ledger_url)
    assert found["nlp", "kwh"]["used"] == pytest.approx(KWH)
    span = ("--since", "2026-05", "--until", "2026-05", "--by", "project", "--db", ledger_url)
    (row,) = (
        row
        for row in command("table", *span, *FACTORS, "--format", "json").json["rows"]
        if row["label"] == "nlp"
    )
    assert {of: one["used"] for (_, of), one in found.items()} == {
        "kwh": row["facility_kwh"],
        "kg": row["tco2e"] * 1000,
        "cost": row["cost"],
        "gpu_hours": row["gpu_hours"],
    }
    for one in found.values():
        assert one["share"] == one["used"] / one["limit"]
        assert one["projected"] == pytest.approx(one["used"]), "May is over"
        assert one["period"] == "2026-05"
    states = {of: one["state"] for (_, of), one in found.items()}
    assert states == {"kwh": "near", "kg": "within", "cost": "near", "gpu_hours": "near"}


def test_a_check_fails_with_a_line_where_a_quota_is_spent(
    command: Command, ledger: Path, tmp_path: Path
) -> None:
    set_quotas(tmp_path, "[quota.nlp]\nkwh = 3.5\n[quota.vision]\ngpu_hours = 1000\n")
    asked = ("quota", "--at", "2026-05", *FACTORS)
    assert command(*asked).code == 0, "without a check it only shows"
    done = command(*asked, "--check")
    assert (done.code, done.err) == (
        1,
        "carbontrack: quota spent: nlp, facility energy of 2026-05: 3.600 of 3.5 kWh\n",
    )
    assert "102.8 %" in done.out and "spent" in done.out
    alone = command(*asked, "--check", "--project", "vision")
    assert (alone.code, alone.err) == (0, "")
    assert "nlp" not in alone.out


def test_what_is_not_known_is_no_number_and_fails_a_check(
    command: Command, ledger: Path, tmp_path: Path
) -> None:
    set_quotas(tmp_path, "currency = 'EUR'\n[quota.nlp]\ncost = 100\n[quota.vision]\nkwh = 9000\n")
    asked = ("quota", "--at", "2026-05", "--check")
    for factors, why in (
        ([], "no price is known"),
        (["--tariff", "0.2", "--currency", "USD"], "its money is USD, the quota's EUR"),
    ):
        done = command(*asked, *factors)
        said = f"carbontrack: quota not known: nlp, cost of 2026-05 ({why})\n"
        assert (done.code, done.err) == (1, said)
    one = quotas(command, "--currency", "USD", "--project", "nlp")["nlp", "cost"]
    assert (one["used"], one["share"], one["projected"], one["state"]) == (None,) * 4
    euros = quotas(command, "--currency", "EUR", "--project", "nlp")["nlp", "cost"]
    assert euros["used"] == pytest.approx(KWH * 0.2)


def test_each_limit_has_its_own_reason(command: Command, tmp_path: Path) -> None:
    """Two runs whose intensities are of unlike bases, and whose money is of two currencies."""
    runs = [
        Recorded(number=1, project="nlp", facility={"zone": "FRA", "currency": "EUR"}),
        Recorded(number=2, project="nlp", facility={"zone": "US-CAMX", "currency": "USD"}),
    ]
    for run in runs:
        run.facility["tariff"] = 0.2
    write_ledger(tmp_path / "ledger.db", *runs)
    set_quotas(tmp_path, "[quota.nlp]\nkg = 10\ncost = 5\n")
    done = command("quota", "--at", "2026-05", "--check", "--pue", "1.2")
    assert done.code == 1
    co2e, cost = done.err.removeprefix("carbontrack: quota not known: ").split("; ")
    assert co2e.startswith("nlp, CO₂e of 2026-05 (CO₂e is not added up: the intensities are ")
    assert cost == "nlp, cost of 2026-05 (cost is not added up: USD and EUR)\n"


def test_a_factor_that_is_unknown_is_said(command: Command, tmp_path: Path) -> None:
    lost = Recorded(project="nlp", facility={"zone": "ATLANTIS"})
    idle = Recorded(number=2, project="idle", count=0)
    write_ledger(tmp_path / "ledger.db", lost, idle)
    set_quotas(tmp_path, "[quota.nlp]\nkwh = 4\nkg = 10\ngpu_hours = 20\n[quota.idle]\nkwh = 1\n")
    done = command("quota", "--at", "2026-05", "--check")
    assert done.err == (
        "carbontrack: quota not known: nlp, facility energy of 2026-05 (no PUE is known); "
        "nlp, CO₂e of 2026-05 (no intensity is known); "
        "idle, facility energy of 2026-05 (its runs have no energy)\n"
    )
    assert done.code == 1
    assert "ATLANTIS" in done.out, "the notes say of which run, and why"


def test_what_is_known_of_some_runs_only_is_no_pass(command: Command, tmp_path: Path) -> None:
    """But it is a use where it has spent the quota already."""
    known = Recorded(name="known", project="nlp")
    lost = Recorded(name="lost", number=2, project="nlp", facility={"zone": "ATLANTIS"})
    dark = Recorded(name="dark", number=3, project="vision", count=0)
    seen = Recorded(name="seen", number=0, project="vision")
    write_ledger(tmp_path / "ledger.db", known, lost, dark, seen)
    limits = "kwh = 10\nkg = 10\ncost = 5\ngpu_hours = 50"
    set_quotas(tmp_path, f"[quota.nlp]\n{limits}\n[quota.vision]\n{limits}\n")
    options = ("quota", "--at", "2026-05", "--check", "--tariff", "0.2", "--pue", "1.25")
    done = command(*options)
    assert done.code == 1
    for project, run in (("nlp", "lost"), ("vision", "dark")):
        for of in ("facility energy", "CO₂e", "cost"):
            said = f"{project}, {of} of 2026-05 (unknown for 1 of its 2 runs, as {run})"
            assert said in done.err
    assert "GPU-hours" not in done.err
    assert "≥ 7.200" in done.out
    assert r"$\ge$ 7.200 & 10 & kWh" in command(*options, "--format", "latex").out
    found = json.loads(command(*options, "--format", "json").out)["quotas"]
    known = {(one["project"], one["limit_of"]): one for one in found}
    least = known["nlp", "kwh"]
    assert (least["used"], least["state"]) == (pytest.approx(7.2), None)
    assert known["nlp", "gpu_hours"]["state"] == "within"
    set_quotas(tmp_path, "[quota.nlp]\nkwh = 5\n")
    assert "quota spent: nlp, facility energy of 2026-05: 7.200 of 5 kWh" in command(*options).err


def test_gpu_hours_that_are_not_stated_are_no_pass(command: Command, tmp_path: Path) -> None:
    entered = ("--device", "A100", "--energy", "1.7 MWh", "--start", "2026-05-02", "--project")
    for name, more in (
        ("known", ("nlp", "--gpu-hours", "30")),
        ("dim", ("nlp",)),
        ("dark", ("vision",)),
    ):
        assert command("add", "--name", name, *entered, *more).code == 0
    limits = "[quota.nlp]\ngpu_hours = {}\n[quota.vision]\ngpu_hours = 50\n"
    set_quotas(tmp_path, limits.format(50))
    done = command("quota", "--at", "2026-05", "--check")
    vision = "vision, GPU-hours of 2026-05 (its GPU-hours are not stated)\n"
    nlp = "nlp, GPU-hours of 2026-05 (unknown for 1 of its 2 runs, as dim)"
    assert (done.code, done.err) == (1, f"carbontrack: quota not known: {nlp}; {vision}")
    found = quotas(command)
    assert (found["nlp", "gpu_hours"]["used"], found["vision", "gpu_hours"]["used"]) == (30, None)
    set_quotas(tmp_path, limits.format(30))
    spent = "quota spent: nlp, GPU-hours of 2026-05: 30.00 of 30 h"
    assert command("quota", "--at", "2026-05", "--check").err == (
        f"carbontrack: {spent}; quota not known: {vision}"
    )


def test_projects_without_runs_or_without_a_quota_are_said(
    command: Command, ledger: Path, tmp_path: Path
) -> None:
    limits = "kwh = 5\nper = 'quarter'\n"
    set_quotas(tmp_path, f"[quota.nlp]\n{limits}[quota.'new one']\ngpu_hours = 1e6\nper = 'year'")
    found = quotas(command)
    idle = found["new one", "gpu_hours"]
    assert (idle["used"], idle["share"], idle["state"]) == (0.0, 0.0, "within")
    assert (idle["period"], found["nlp", "kwh"]["period"]) == ("2026", "2026-Q2")
    assert found["nlp", "kwh"]["used"] == pytest.approx((2 * 2 + 6) * 0.36 * 1.25), "June as well"
    text = command("quota", "--at", "2026-05").out
    assert "without a quota in these periods: vision, runs without a project" in text
    assert "1,000,000" in text
    answer = command("quota", "--at", "2026-05", "--format", "json").json
    assert answer["without_quota"] == ["vision"]
    rows = list(csv.DictReader(io.StringIO(command("quota", "--format", "csv").out)))
    assert [row["project"] for row in rows] == ["nlp", "new one"]
    assert "| nlp" in command("quota", "--format", "markdown").out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[quota.nlp]\nkhw = 3", "quota.nlp.khw: no such limit. Did you mean kwh?"),
        ("[quota.nlp]\nkwh = 'x'", "quota.nlp.kwh 'x': not a number."),
        ("[quota.nlp]\nkwh = -1", "quota.nlp.kwh -1 kWh is negative."),
        ("[quota.nlp]\nkwh = 1\nper = 'week'", "quota.nlp.per 'week': unknown. Give month, "),
        ("[quota.nlp]\nper = 'month'", "quota.nlp: no limit. Give kwh, kg, cost, gpu_hours."),
        ("[quota]\nnlp = 3", "quota.nlp: not a table. Example: [quota.nlp]"),
        ("quota = 3", "quota: not a table."),
        ("pue = 1.2", "No quota is set in carbontrack.toml."),
    ],
)
def test_a_mistake_is_one_line_and_in_no_other_report(
    command: Command, ledger: Path, tmp_path: Path, text: str, said: str
) -> None:
    set_quotas(tmp_path, text)
    done = command("quota")
    assert (done.code, done.out) == (2, "")
    assert said in done.err and done.err.count("\n") == 1
    assert command("table").code == 0


def test_a_project_that_has_none_is_an_error(
    command: Command, ledger: Path, tmp_path: Path
) -> None:
    set_quotas(tmp_path, "[quota.nlp]\nkwh = 1\n")
    done = command("quota", "--project", "npl")
    assert (done.code, done.err) == (
        2,
        "carbontrack: --project npl: no quota. Did you mean nlp?\n",
    )


def test_the_settings_show_them_and_the_project_file_goes_first(
    command: Command, ledger: Path, tmp_path: Path
) -> None:
    user = tmp_path / "config" / "carbontrack" / "config.toml"
    user.parent.mkdir(parents=True)
    user.write_text("[quota.nlp]\nkwh = 1\n[quota.vision]\ngpu_hours = 2\n")
    (tmp_path / "pyproject.toml").write_text(
        "[tool.carbontrack]\ncurrency = 'CHF'\n[tool.carbontrack.quota.nlp]\ncost = 7\n"
    )
    shown: list[Mapping[str, Any]] = command("config", "--format", "json").json["settings"]
    found = {one["name"]: one for one in shown if one["name"].startswith("quota")}
    assert {name: (one["value"], one["unit"]) for name, one in found.items()} == {
        "quota.nlp.cost": (7.0, "CHF per month"),
        "quota.vision.gpu_hours": (2.0, "GPU-hours per month"),
    }
    assert found["quota.vision.gpu_hours"]["origin"] == str(user)
