"""Commands in a working folder that was removed: there is no project file, and they go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.command import Command

SAMPLES = "time,power_w\n2026-01-31 12:00:00,300\n2026-01-31 12:00:01,300\n"


@pytest.fixture
def gone(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`carbontrack` there, on a ledger with the run o."""
    (tmp_path / "o.csv").write_text(SAMPLES)
    assert command("import", "o.csv", "--tz", "UTC").code == 0
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    return command


def test_reports_and_entries_go_on(gone: Command, tmp_path: Path) -> None:
    for asked in ("table last", "config", "explain o", "show o", f"plot o --out {tmp_path}/o.png"):
        done = gone(*asked.split())
        assert done.code == 0, done.err
    (tmp_path / "p.csv").write_text(SAMPLES.replace("2026", "2025"))
    assert "; added" in gone("import", f"{tmp_path}/p.csv", "--tz", "UTC").out
    assert gone("add", "--name", "far", "--device", "A100", "--gpu-hours", "5").code == 0
    assert gone("show", "far", "--format", "json").json["cwd"] == ""


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("plot o --out a.png", "a.png"),
        ("plot o", "o.png"),
        ("table --out a.csv", "a.csv"),
        ("import x.csv", "x.csv"),
        ("runs --db x.db", "x.db"),
        ("db export --parquet out", "out"),
    ],
)
def test_a_path_below_it_is_one_line(gone: Command, asked: str, name: str) -> None:
    done = gone(*asked.split())
    assert done.code != 0
    assert done.err.count("\n") == 1
    assert name in done.err
