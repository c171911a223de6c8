"""A ledger from somebody else: values that it cannot have, views and triggers are one line."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from carbontrack.ledger.url import ledger_url
from tests.fixtures import pictures
from tests.fixtures.command import Command
from tests.fixtures.runs import Recorded

COMMANDS = (["runs"], ["show"], ["show", "--format", "json"], ["table"], ["explain", "last"])
PROGRAMS = (
    "create view mine as with recursive n(i) as (select 1 union all select i + 1 from n) "
    "select i from n",
    "create trigger mine after update on recordings begin delete from runs; end",
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "ledger.db"
    one = Recorded(count=2, seconds=30, model={"name": "x", "parameters": 7e9})
    pictures.write_seconds(ledger_url(str(path)), one)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    return path


def damaged(sound: Path, path: Path, statement: str) -> None:
    shutil.copy(sound, path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("runs.tags", "'[1]'"),
        ("runs.tags", "'{'"),
        ("runs.model", "'5'"),
        ("runs.command", "'[1, 2]'"),
        ("runs.name", "x'00ff'"),
        ("runs.started_ms", "'noon'"),
        ("runs.started_ms", "9000000000000000000"),
        ("windows.flags", "'x'"),
        ("windows.energy_j", "'x'"),
        ("windows.energy_j", "1e308"),
        ("sensors.quality", "x'ff'"),
        ("devices.name", "x'ff'"),
        ("events.data", "'{'"),
        ("steps.loss", "'low'"),
    ],
)
def test_a_value_that_cannot_be_is_named(
    command: Command, sound: Path, tmp_path: Path, column: str, value: str
) -> None:
    table, _, name = column.partition(".")
    damaged(sound, tmp_path / "ledger.db", f"update {table} set {name} = {value}")
    ended = [command(*words) for words in (*COMMANDS, ["table", "--format", "json"])]
    assert any(done.code for done in ended)
    for done in ended:
        assert done.code == 0 or (done.err.count("\n") == 1 and f"values in {column}" in done.err)


def test_a_text_that_is_too_long_is_refused(command: Command, sound: Path, tmp_path: Path) -> None:
    damaged(sound, tmp_path / "ledger.db", "update runs set name = printf('%.*c', 9000000, 'x')")
    done = command("runs")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "too big" in done.err


@pytest.mark.parametrize("statement", PROGRAMS, ids=["view", "trigger"])
def test_what_would_run_here_is_refused(
    command: Command, sound: Path, tmp_path: Path, statement: str
) -> None:
    damaged(sound, tmp_path / "ledger.db", statement)
    for words in (["runs"], ["db", "upgrade"]):
        done = command(*words)
        assert (done.code, done.err.count("\n")) == (2, 1), words
        assert "has a view or trigger, mine" in done.err


@pytest.mark.parametrize("revision", ["'0000'", "'00000002'", "x'ff'", "'two'"])
def test_a_revision_that_is_none_of_ours_is_one_line(
    command: Command, sound: Path, tmp_path: Path, revision: str
) -> None:
    damaged(sound, tmp_path / "ledger.db", f"update alembic_version set version_num = {revision}")
    done = command("runs")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "or by another program" in done.err


def test_a_fault_of_ours_is_not_called_damage(
    command: Command, sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(sound, tmp_path / "ledger.db")
    monkeypatch.setattr("carbontrack.query.runs.share_of", lambda part, whole: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        command("runs")


@pytest.mark.parametrize("facility", ['{"zone": 5}', '{"pue": "a"}', '{"tariff": {}}'])
def test_a_setting_that_cannot_be_is_found_by_verify_and_ends_no_report(
    command: Command, sound: Path, tmp_path: Path, facility: str
) -> None:
    damaged(sound, tmp_path / "ledger.db", f"update runs set facility = '{facility}'")
    for words in COMMANDS:
        assert command(*words).code == 0
    assert "neither CO₂e nor cost" in command("table").out
    found = command("db", "verify")
    assert found.code != 0 and "runs.facility" in found.out + found.err
