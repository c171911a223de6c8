"""`carbontrack db`: where the ledger is, what it holds, and how an old one is upgraded."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from pathlib import Path

import pytest

from carbontrack.ledger.url import ledger_url
from tests.fixtures.command import Command
from tests.fixtures.runs import Recorded, write_ledger
from tests.fixtures.wrap import CARBONTRACK, PATIENCE_S, Wrapper, bound_by_modes, kill_recorders
from tests.ledger.test_recover import Recorder


def test_path_shows_the_ledger_without_its_password(wrapper: Wrapper) -> None:
    assert wrapper.ask("db", "path").stdout == f"{wrapper.ledger}\n"
    done = wrapper.ask("db", "path", "--db", "postgresql://ada:s3cret@db.lab/x")
    assert done.stdout == "postgresql+psycopg://ada:***@db.lab/x\n"


def test_status_of_a_ledger_that_is_not_there_makes_none(wrapper: Wrapper) -> None:
    status = wrapper.json("db", "status")
    assert (status["ledger"], status["dialect"]) == (str(wrapper.ledger), "sqlite")
    assert [status[key] for key in ("revision", "runs", "windows", "size_bytes")] == [None] * 4
    assert "none yet" in wrapper.ask("db", "status").stdout
    assert not wrapper.ledger.exists()


def test_status_counts_what_the_ledger_holds(wrapper: Wrapper) -> None:
    write_ledger(wrapper.ledger, Recorded(number=1, count=2), Recorded(number=2, count=3))
    status = wrapper.json("db", "status")
    assert status["revision"] == status["head"]
    assert (status["runs"], status["windows"]) == (2, 2 * 2 + 3 * 2)
    assert status["size_bytes"] >= wrapper.ledger.stat().st_size
    text = wrapper.ask("db", "status").stdout
    assert "up to date" in text
    assert "2 runs, 10 windows" in text


def test_an_outdated_ledger_is_shown(wrapper: Wrapper) -> None:
    write_ledger(wrapper.ledger, Recorded(count=2))
    with sqlite3.connect(wrapper.ledger) as ledger:
        ledger.execute("update alembic_version set version_num = '1000'")
    ledger.close()
    status = wrapper.json("db", "status")
    assert (status["revision"], status["runs"], status["windows"]) == ("1000", 1, 4)
    assert "carbontrack db upgrade" in wrapper.ask("db", "status").stdout
    assert list(wrapper.folder.glob("*backup*")) == [], "looking at it changes nothing"


def test_what_is_to_be_done_is_said_of_the_ledger_that_was_named(wrapper: Wrapper) -> None:
    other = write_ledger(wrapper.folder / "other.db", Recorded(count=2))
    Recorder(ledger_url(str(other))).spill(0, 10)
    with sqlite3.connect(other) as ledger:
        ledger.execute("update alembic_version set version_num = '1000'")
    ledger.close()
    (wrapper.folder / "other-1001.db").write_bytes(other.read_bytes())
    said = wrapper.ask("db", "status", "--db", str(other)).stdout
    upgrade, recover = (f"'carbontrack db {what} --db {other}'" for what in ("upgrade", "recover"))
    assert said.count(upgrade) == 2, "the schema and the file beside it"
    assert said.count(recover) == 1
    none = wrapper.folder / "none.db"
    assert f"carbontrack run --db {none} -- " in wrapper.ask("runs", "--db", str(none)).stderr


def test_a_ledger_that_is_up_to_date_is_said_to_be(wrapper: Wrapper) -> None:
    write_ledger(wrapper.ledger, Recorded(count=2))
    assert "already" in wrapper.ask("db", "upgrade").stdout


def test_a_server_is_upgraded_by_command(wrapper: Wrapper, postgres_url: str) -> None:
    refused = wrapper.ask("runs", "--db", postgres_url)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "There is no ledger at postgresql" in refused.stderr
    assert "Create it: carbontrack db upgrade --db postgresql" in refused.stderr
    assert wrapper.json("db", "status", "--db", postgres_url)["revision"] is None
    assert wrapper.ask("db", "upgrade", "--db", postgres_url).returncode == 0
    status = wrapper.json("db", "status", "--db", postgres_url)
    assert status["dialect"] == "postgresql"
    assert (status["revision"], status["runs"]) == (status["head"], 0)
    assert status["size_bytes"] > 0


def test_a_newer_ledger_is_one_line_everywhere(wrapper: Wrapper) -> None:
    write_ledger(wrapper.ledger, Recorded(count=2))
    with sqlite3.connect(wrapper.ledger) as ledger:
        ledger.execute("update alembic_version set version_num = '9999'")
    ledger.close()
    commands = (["runs"], ["show"], ["table"], ["db", "status"], ["db", "upgrade"])
    for command in commands:
        done = wrapper.ask(*command)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), command
        assert "newer carbontrack (schema 9999" in done.stderr


def test_upgrade_makes_no_ledger_out_of_a_slip(wrapper: Wrapper) -> None:
    done = wrapper.ask("db", "upgrade", "--db", str(wrapper.folder / "slip.db"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "slip.db" in done.stderr
    assert list(wrapper.folder.iterdir()) == []


def test_journals_are_announced_and_recovered(wrapper: Wrapper) -> None:
    assert wrapper.ask("db", "recover").stdout == "Nothing to recover.\n"
    assert wrapper.run("true").returncode == 0
    blocker = sqlite3.connect(wrapper.ledger, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    for name in ("one", "two"):
        assert wrapper.run("sleep", "1", options=("--quiet", "--name", name)).returncode == 0
    kill_recorders(wrapper)  # they would take their journals in themselves
    blocker.close()
    assert wrapper.json("db", "status")["journals"] == 2
    assert "carbontrack db recover" in wrapper.ask("db", "status").stdout
    done = wrapper.ask("db", "recover")
    assert (done.returncode, done.stdout) == (0, "Recovered 2 runs: one, two.\n")
    assert json.loads(wrapper.ask("runs", "--format", "json").stdout)["runs"][0]["name"]
    assert wrapper.ask("db", "recover").stdout == "Nothing to recover.\n"


def test_a_merge_names_the_runs_that_it_removes_and_so_does_a_dry_run(
    command: Command, tmp_path: Path
) -> None:
    stays, goes = Recorded(name="stays", number=1, count=2), Recorded(name="goes", number=2)
    for name in ("ledger.db", "other.db"):
        write_ledger(tmp_path / name, stays, goes)
    assert command("runs", "rm", "goes", "--yes", "--db", "other.db").code == 0
    said = f"1 run already there, 1 run removed here, as there: goes ({goes.run.id})."
    merge = ("db", "merge", "other.db")
    assert command(*merge, "--dry-run").out == f"{said} Nothing was written.\n"
    assert len(command("runs", "--format", "json").json["runs"]) == 2
    assert command(*merge).out == f"{said}\n"
    assert [run["name"] for run in command("runs", "--format", "json").json["runs"]] == ["stays"]
    assert command(*merge).out == "1 run already there.\n"


@pytest.mark.parametrize("command", ["db status", "db verify", "db upgrade", "table", "show"])
def test_what_is_no_file_is_no_ledger_that_is_yet_to_come(wrapper: Wrapper, command: str) -> None:
    os.mkfifo(wrapper.ledger)
    done = wrapper.ask(*command.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"carbontrack: The ledger {wrapper.ledger} is not a regular file. Name another one with "
        "--db or CARBONTRACK_DB.\n"
    )


@pytest.mark.parametrize("command", ["db status", "table"])
def test_a_ledger_that_only_another_may_read_says_so(wrapper: Wrapper, command: str) -> None:
    as_we_are = bound_by_modes()
    write_ledger(wrapper.ledger, Recorded(number=1, count=2))
    if as_we_are:
        os.chown(wrapper.ledger, 65534, 65534)
    wrapper.ledger.chmod(0o600 if as_we_are else 0)
    argv = [*as_we_are, *CARBONTRACK, *command.split()]
    done = subprocess.run(
        argv, env=wrapper.env, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"carbontrack: The ledger {wrapper.ledger} cannot be read: Permission denied. Name another "
        "one with --db or CARBONTRACK_DB.\n"
    )
