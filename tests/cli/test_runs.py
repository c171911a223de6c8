"""`carbontrack runs`, and how a run is named."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from carbontrack.ledger.url import ledger_url
from carbontrack.vocabulary import Status
from tests.cli.conftest import FAILED
from tests.fixtures import pictures
from tests.fixtures.command import Command
from tests.fixtures.runs import Recorded, write_ledger


def test_the_newest_of_a_name_is_shown_and_said(command: Command, ledger: Path) -> None:
    for asked in ("table", "show", "explain"):
        done = command(asked, "large")
        assert f"2 runs are named large; the newest is shown ({FAILED.run.id[:13]})" in done.err
        assert command(asked, FAILED.run.id).err == ""
    assert command("table", "small").err == ""


def test_a_list_that_is_cut_says_so(command: Command, ledger: Path) -> None:
    assert command("runs", "--limit", "2").err == (
        "carbontrack: only the newest 2 are shown; --limit N shows more\n"
    )
    count = len(command("runs", "--format", "json").json["runs"])
    assert command("runs", "-n", str(count)).err == ""


def test_show_is_short_and_its_parts_add_up(command: Command, tmp_path: Path) -> None:
    url = ledger_url(str(tmp_path / "ledger.db"))
    pictures.write_seconds(url, Recorded(count=3, seconds=40))
    shown = command("show").out
    assert shown.count("NVIDIA A100-SXM4-80GB") == 1, "devices that are alike are named once"
    assert "3 × NVIDIA A100-SXM4-80GB" in shown
    assert "eval  held-out: loss 3" in shown
    phases = shown[shown.index("phase  ") : shown.index("events")]
    assert sum(map(float, re.findall(r"([\d.]+) %", phases))) == pytest.approx(100)


def test_a_shell_completes_the_names_of_runs(command: Command, ledger: Path) -> None:
    from carbontrack.cli.common import _run_names

    assert _run_names("") == ["large", "sim", "small"]
    assert _run_names("s") == ["sim", "small"]
    assert _run_names("%") == []


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_runs_has_a_readable_name_at_any_width(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    named = Recorded(name="llama2-13b-ablation-3", status=Status.FAILED, exit_code=143)
    short = replace(named, number=2, seconds=75.0, quality="estimate", meter="cpu-model")
    write_ledger(tmp_path / "ledger.db", named, short)
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = [line.rstrip() for line in command("runs").out.splitlines()]
    assert max(map(len, lines)) <= columns
    assert "llama2-13b-a" in lines[1]
    assert short.run.id[:13] in lines[1]
    assert lines[1].endswith("estimate") or columns == 200
    assert ("2026-05-30 " in lines[1] or "2026-05-31 " in lines[1]) == (columns == 200)


def test_runs_is_too_wide_rather_than_cut(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ledger(tmp_path / "ledger.db", Recorded(name="x" * 30, quality="simulated", meter="sim"))
    monkeypatch.setenv("COLUMNS", "30")
    assert "5.76 kWh simulated" in command("runs").out
