"""The options that choose factors: one set on every command that estimates."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from carbontrack import keys
from carbontrack.cli import factor_options
from carbontrack.record.messages import Plan
from tests.cli.test_factors import PRICES
from tests.fixtures import reference
from tests.fixtures.command import Command
from tests.fixtures.runs import Recorded, write_ledger

REPORTS = {
    "table": (),
    "explain": (),
    "project": ("--tokens", "1B"),
    "compare": ("last", "last"),
    "estimate": ("--gpu-hours", "16", "--gpu", "A100"),
}


def test_every_setting_is_an_option() -> None:
    missing = {key.name for key in keys.KEYS} - set(factor_options._OPTIONS)
    others = {"facility", "live_provider", "ship", "ship_seconds"}
    assert missing == others, "a name, whom an import asks, and where a recorder ships to"


@pytest.mark.parametrize("name", [*REPORTS, "plot", "serve"])
def test_every_report_takes_every_one_and_checks_it(command: Command, name: str) -> None:
    for option in ("--wue", "--gpu-price", "--lifetime-years", "--embodied-kg", "--node-w"):
        done = command(name, *REPORTS.get(name, ()), option, "-1")
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
        assert f"{option} -1" in done.err
    done = command(name, *REPORTS.get(name, ()), "--factors-as-of", "yesterday")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "--factors-as-of 'yesterday': not a day such as 2026-01-31." in done.err


def test_they_are_used(command: Command, tmp_path: Path) -> None:
    write_ledger(tmp_path / "ledger.db", Recorded())
    options = ("--wue", "1.5", "--node-w", "100", "--node-w-per-device", "50", "--format", "json")
    row = command("table", *options).json["rows"][0]
    assert row["node_kwh"] == pytest.approx(2 * (100 + 8 * 50) / 1000)
    assert row["water_l"] == pytest.approx(1.5 * (5.76 + 1.0))
    own = ("--gpu-price", "30000", "--lifetime-years", "5", "--utilisation", "0.8")
    row = command("table", "--tariff", "0.1", *own, "--format", "json").json["rows"][0]
    assert row["cost"] == pytest.approx(
        row["facility_kwh"] * 0.1 + 16 * 30000 / (5 * 8760 * 0.8), rel=1e-6
    )


def test_a_day_is_taken_back(command: Command, tmp_path: Path) -> None:
    write_ledger(tmp_path / "ledger.db", Recorded())
    options = ("--zone", "us-central1", "--pue", "1.1", "--tariff", "0.1", "--format", "json")
    now = command("table", *options).json["rows"][0]
    then = command("table", *options, "--factors-as-of", "2026-01-01").json["rows"][0]
    assert now["intensity_kg_per_kwh"] != then["intensity_kg_per_kwh"] == 0.41272
    (tmp_path / "carbontrack.toml").write_text("factors_as_of = 2026-01-01")
    again = command("table", *options).json["rows"][0]
    assert again["intensity_kg_per_kwh"] == 0.41272


def test_compare_and_project_show_what_was_asked_for(command: Command, tmp_path: Path) -> None:
    write_ledger(tmp_path / "ledger.db", Recorded(), Recorded(name="other", number=2))
    asked = ("--contract-intensity", "0.02", "--embodied", "--provider", "gcp")
    for arguments in (("compare", "llama2-7b", "other"), ("project", "last", "--tokens", "1B")):
        plain = command(*arguments).out
        assert "embodied" not in plain
        assert "market" not in plain
        text = command(*arguments, *asked).out
        assert "CO₂e, embodied" in text
        assert "CO₂e, market-based" in text
        assert "PUE 1.09: Google Cloud, Google Environmental Report 2025" in text


def test_estimate_takes_an_imported_price(command: Command, tmp_path: Path) -> None:
    (tmp_path / "aws.csv").write_text(PRICES)
    command("factors", "import", "prices", "aws.csv")
    options = ("--price", "aws:p4de.24xlarge@us-east-1", "--format", "json")
    row = command("estimate", *REPORTS["estimate"], *options).json["rows"][0]
    assert row["cost"] == pytest.approx(16 * 5.12)


def test_a_total_is_of_unrounded_rows(command: Command, tmp_path: Path) -> None:
    """Three times 0.034 t is 0.10 t, though each row prints 0.03."""
    runs = [Recorded(number=n, seconds=25.1 * 3600) for n in (1, 3, 5)]
    write_ledger(tmp_path / "ledger.db", *runs)
    lines = command("table", "--method", "report", "--like", "llama2").out.splitlines()
    cells = [line.split()[-1] for line in lines if line.split()[:1] in (["llama2-7b"], ["total"])]
    assert cells == ["0.03", "0.03", "0.03", "0.10"]


def test_run_and_attach_take_the_same_options_with_the_defaults_of_a_plan() -> None:
    commands = dict(reference.commands())
    taken = {
        name: {one.name: one.default for one in commands[f"carbontrack {name}"].params}
        for name in ("run", "attach")
    }
    assert set(taken["run"]) - {"command", "live", "require_meter"} == set(taken["attach"]) - {
        "pid"
    }
    plan = {field.name: field.default for field in fields(Plan)}
    plan |= {"budget_grace": plan["budget_grace_s"], "insecure": plan["ship_insecure"]}
    for name, default in taken["attach"].items():
        assert name in ("pid", "db") or default == plan.get(name), name
