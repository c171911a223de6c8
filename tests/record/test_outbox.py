"""A ledger that cannot be written is never the job's problem, and what was measured is kept."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from carbontrack.ledger import engine, read
from carbontrack.ledger.remove import remove
from carbontrack.ledger.transaction import open_ledger
from carbontrack.ledger.url import ledger_url
from carbontrack.ledger.write import RunWriter
from carbontrack.record.outbox import Outbox
from carbontrack.report.numbers import format_energy
from carbontrack.units import now_ms
from carbontrack.vocabulary import Status
from tests.fixtures.runs import Recorded, recording_of
from tests.fixtures.tools import OF_THE_MACHINE
from tests.fixtures.wrap import Wrapper, kill_recorders, kinds, processes_of, wait_until
from tests.ledger.test_recover import Recorder

Until = Callable[..., Any]


Seconds = dict[str, list[int]]


def recovered(
    wrapper: Wrapper, ledger: Path, *, exit_code: int, had: Seconds, summary: str
) -> None:
    """After `db recover`, all of the two devices' run is in the ledger, the same at every level:
    what it `had` at some time, every second since, and the energy of the recorder's own summary.
    """
    options = ("--db", str(ledger))
    wrapper.ask("db", "recover", *options)
    done = wrapper.ask("show", "--format", "json", *options)
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)
    assert (run["status"], run["exit_code"]) == ("failed" if exit_code else "completed", exit_code)
    every_second_once(wrapper.seconds(ledger), had)
    with closing(sqlite3.connect(ledger)) as connection:
        energies_j = [
            joules
            for (joules,) in connection.execute(
                "select sum(energy_j) from windows join recordings on key = recording_key "
                "where run_key = (select key from runs where id = ?) "
                "group by level",
                (run["id"],),
            )
        ]
    assert len(energies_j) == 3
    assert energies_j == pytest.approx([energies_j[0]] * 3, rel=1e-9)
    assert run["energy_kwh"] * 3.6e6 == pytest.approx(energies_j[0])
    assert format_energy(run["energy_kwh"]) in summary


def every_second_once(seconds: Seconds, had: Seconds) -> None:
    """Two devices, each with what it had and without a gap since."""
    assert len(seconds) == 2
    for uuid, found in seconds.items():
        assert found == list(range(found[0], found[-1] + 1, 1000))
        assert set(had.get(uuid, [])) <= set(found)


def test_recorders_that_make_the_ledger_at_once_wait_for_each_other(
    wrapper: Wrapper, until: Until
) -> None:
    jobs = [wrapper.hold(options=()) for _ in range(4)]
    until(lambda: [bool(run["energy_kwh"]) for run in wrapper.json("runs")["runs"]] == [True] * 4)
    said = [job.end().stderr for job in jobs]
    refused = [line for text in said for line in text.splitlines() if "cannot" in line]
    assert all(line.endswith("will retry.") for line in refused), "of a machine that is too busy"
    until(lambda: not processes_of(wrapper.folder))
    wrapper.ask("db", "recover")  # of an end that found the ledger locked for long
    assert not list(wrapper.folder.glob("ledger.db-journals/*"))
    runs = wrapper.json("runs")["runs"]
    assert [(run["status"], run["devices"]) for run in runs] == [("completed", 2)] * 4


def test_of_a_run_that_was_removed_nothing_is_written_and_nothing_waits(tmp_path: Path) -> None:
    url, path = ledger_url(str(tmp_path / "ledger.db")), tmp_path / "journal.jsonl"
    said: list[str] = []
    one = Recorded(count=2)
    with closing(open_ledger(url)) as ledger:
        RunWriter(ledger, one.run, recording_of(one.run), one.sensors)
    with engine.open_reader(url).connect() as connection:
        remove(url, [read.resolve_run(connection, one.name)])
    again = recording_of(one.begun, "node2", started_ms=now_ms())
    outbox = Outbox(url, [path], one.begun, again, one.sensors, said.append, said.append)
    outbox.put(windows=one.windows)
    outbox.send(now_ms())
    ended_ms = now_ms()
    assert outbox.finish(
        status=Status.COMPLETED, exit_code=0, ended_ms=ended_ms, heartbeat_ms=ended_ms
    )
    assert not path.exists()
    (line,) = said
    assert "was removed from this ledger" in line
    with engine.open_reader(url).connect() as connection:
        assert read.list_runs(connection) == []


def test_a_locked_ledger_never_delays_the_job_and_the_run_is_recovered(wrapper: Wrapper) -> None:
    assert wrapper.run("true").returncode == 0
    blocker = sqlite3.connect(wrapper.ledger, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    job = wrapper.hold("sh", "-c", "echo out; exit 3", options=("--name", "locked"))
    job.until_said("the ledger cannot be written now: database is locked")
    done = job.end()
    assert (done.returncode, done.stdout) == (3, "out\n")
    assert "carbontrack db recover" in done.stderr
    blocker.execute("ROLLBACK")
    blocker.close()
    # Its recorder goes on until the ledger is free; on a machine that is too busy, not long enough.
    wrapper.ask("db", "recover")
    wait_until(lambda: not list(wrapper.folder.glob("ledger.db-journals/*")))
    (run,) = [run for run in wrapper.json("runs")["runs"] if run["name"] == "locked"]
    assert (run["status"], run["exit_code"]) == ("failed", 3)
    assert run["energy_kwh"] > 0
    assert format_energy(run["energy_kwh"]) in done.stderr
    every_second_once(wrapper.seconds(), {})
    # What is recovered is in the ledger once, however often it is asked for.
    assert "Nothing to recover" in wrapper.ask("db", "recover").stdout


def test_what_another_recorder_left_in_its_journal_comes_in_with_the_next_run(
    wrapper: Wrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", wrapper.env["XDG_DATA_HOME"])
    left = Recorder(f"sqlite:///{wrapper.ledger}")
    left.spill(0, 100, ended=True)
    broken = left.path.with_name("of-a-later-version.jsonl")
    broken.write_text('{"run": {}}\n')
    broken.chmod(0o600)
    assert wrapper.run("true").returncode == 0
    wait_until(lambda: len(wrapper.json("runs")["runs"]) == 2)
    assert {run["name"] for run in wrapper.json("runs")["runs"]} == {"away", "true"}
    wait_until(lambda: list(left.path.parent.iterdir()) == [broken])


def test_the_ledgers_file_alone_holds_the_run_when_it_has_ended(wrapper: Wrapper) -> None:
    """People copy one file; what is still in the write-ahead log would stay behind."""
    assert wrapper.record(options=("--quiet", "--name", "copied")).returncode == 0
    copy = wrapper.folder / "copy.db"
    copy.write_bytes(wrapper.ledger.read_bytes())
    (run,) = wrapper.json("runs", "--db", str(copy))["runs"]
    assert (run["name"], run["devices"]) == ("copied", 2)
    assert not wrapper.ledger.with_name("ledger.db-wal").exists()


def test_a_lock_that_goes_away_loses_nothing(wrapper: Wrapper) -> None:
    assert wrapper.run("true").returncode == 0
    blocker = sqlite3.connect(wrapper.ledger, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    job = wrapper.hold(options=("--name", "locked"))
    job.until_said("the ledger cannot be written now: database is locked; will retry")
    blocker.execute("ROLLBACK")
    blocker.close()
    job.until_said("the ledger is written again; nothing was lost")
    done = job.end()
    assert done.returncode == 0
    run = wrapper.json("runs")["runs"][0]
    assert (run["name"], run["status"], run["devices"]) == ("locked", "completed", 2)
    assert format_energy(run["energy_kwh"]) in done.stderr
    every_second_once(wrapper.seconds(), {})


def test_an_unwritable_place_is_a_warning(wrapper: Wrapper, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    done = wrapper.run("sh", "-c", "exit 5", options=("--db", str(file / "ledger.db")))
    assert done.returncode == 5
    assert "the ledger cannot be written now" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small filesystem of its own for a test."""
    folder = tmp_path / "mounted"
    folder.mkdir()

    def mount(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"{OF_THE_MACHINE}: a filesystem cannot be mounted: {done.stderr}")
        return folder

    yield mount
    subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)


def test_a_read_only_folder_is_a_warning_and_the_run_is_kept_elsewhere(
    wrapper: Wrapper, mounted: Callable[[str], Path]
) -> None:
    folder = mounted("ro,size=1m")
    ledger = folder / "ledger.db"
    options = ("--quiet", "--db", str(ledger))
    done = wrapper.run("sh", "-c", "echo out; exit 5", options=options)
    assert (done.returncode, done.stdout) == (5, "out\n")
    # Even the quiet are told where it is, and who asks for the run that there is one.
    assert done.stderr.count("\n") == 1
    assert f"measurements are in {wrapper.folder}/data" in done.stderr
    for command in ("runs", "show"):
        said = wrapper.ask(command, "--db", str(ledger)).stderr
        assert f"1 journal waits: carbontrack db recover --db {ledger}" in said
    kill_recorders(wrapper)  # else it may write what is kept itself
    subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
    assert "1 run" in wrapper.ask("db", "recover", "--db", str(ledger)).stdout
    (run,) = wrapper.json("runs", "--db", str(ledger))["runs"]
    assert (run["status"], run["exit_code"]) == ("failed", 5)


def test_a_full_disk_never_stops_the_job_and_the_run_is_kept_elsewhere(
    wrapper: Wrapper, mounted: Callable[[str], Path]
) -> None:
    folder = mounted("size=320k")
    ledger, ballast = folder / "ledger.db", folder / "ballast"
    job = wrapper.hold("sh", "-c", "echo out; exit 6", options=("--db", str(ledger)))
    had = job.until_recorded(ledger=ledger)
    with suppress(OSError), ballast.open("wb") as file:  # nothing is left for anybody
        while True:
            file.write(b"x" * 1024)
            file.flush()
    job.until_said("the ledger cannot be written now: database or disk is full")
    done = job.end()
    assert (done.returncode, done.stdout) == (6, "out\n")
    assert "Traceback" not in done.stderr
    kill_recorders(wrapper)  # else it may write what is kept itself
    ballast.unlink()
    recovered(wrapper, ledger, exit_code=6, had=had, summary=done.stderr)


def test_a_ledger_that_is_deleted_is_made_anew_with_all_of_the_run(wrapper: Wrapper) -> None:
    job = wrapper.hold(options=())
    had = job.until_recorded(2)
    for path in wrapper.folder.glob("ledger.db*"):
        path.unlink()
    job.until_said("the ledger's file was removed or replaced; the run goes on in a new one")
    done = job.end()
    assert done.returncode == 0
    recovered(wrapper, wrapper.ledger, exit_code=0, had=had, summary=done.stderr)
    assert kinds(wrapper.json("show")) == ["ledger-replaced"]


@pytest.mark.parametrize("garbage", [b"", b"not a database " * 4096], ids=["emptied", "garbled"])
def test_a_ledger_that_is_overwritten_is_left_alone_and_the_rest_of_the_run_is_kept(
    wrapper: Wrapper, garbage: bytes
) -> None:
    job = wrapper.hold("sh", "-c", "exit 2", options=("--name", "kept"))
    had = job.until_recorded(2)
    wrapper.ledger.write_bytes(garbage)
    for path in wrapper.folder.glob("ledger.db-*"):
        if path.is_file():
            path.unlink()
    job.until_said("the ledger cannot be written now")
    done = job.end()
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert wrapper.ledger.read_bytes() == garbage
    journals = list(wrapper.folder.glob("ledger.db-journals/*.jsonl"))
    assert len(journals) == 1, done.stderr
    assert f"measurements are in {journals[0]}" in done.stderr
    # What the ledger had is gone with it; what came after is not.
    wrapper.ledger.unlink()
    assert wrapper.ask("db", "recover").returncode == 0
    run = wrapper.json("show", "kept")
    assert (run["status"], run["exit_code"]) == ("failed", 2)
    assert run["energy_kwh"] > 0
    assert all(not set(had[uuid][:-1]) & set(found) for uuid, found in wrapper.seconds().items())


def test_a_ledger_of_another_user_is_used_with_a_warning(wrapper: Wrapper) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    wrapper.ledger.touch(mode=0o666)
    os.chown(wrapper.ledger, 12345, 12345)
    done = wrapper.run("sh", "-c", "exit 3", options=())
    assert done.returncode == 3
    assert f"the ledger {wrapper.ledger} belongs to user 12345, who can read" in done.stderr
    assert wrapper.json("show")["exit_code"] == 3
