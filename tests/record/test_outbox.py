"""A ledger that cannot be written is never the job's problem, and what was measured is kept."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.wrap import PATIENCE_S, Wrapper


def recovered(wrapper: Wrapper, ledger: Path, *, exit_code: int, seconds: float) -> None:
    """After `db recover`, all of the two devices' run is in the ledger, the same at every level."""
    options = ("--db", str(ledger))
    wrapper.carbontrack("db", "recover", *options)
    done = wrapper.carbontrack("show", "--format", "json", *options)
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)
    assert (run["status"], run["exit_code"]) == ("failed" if exit_code else "completed", exit_code)
    assert len(run["devices"]) == 2
    assert run["coverage"] > 0.9
    assert run["duration_s"] > seconds - 0.5
    with closing(sqlite3.connect(ledger)) as connection:
        energies_j = [
            joules
            for (joules,) in connection.execute(
                "select sum(energy_j) from windows join runs on run_key = key where id = ? "
                "group by level",
                (run["id"],),
            )
        ]
    assert len(energies_j) == 3
    assert energies_j == pytest.approx([energies_j[0]] * 3, rel=1e-9)
    assert run["energy_kwh"] * 3.6e6 == pytest.approx(energies_j[0])
    assert run["energy_kwh"] * 3.6e6 > 2 * 50 * 0.9 * seconds  # no GPU idles below 50 W


def test_recorders_that_make_the_ledger_at_once_wait_for_each_other_in_silence(
    wrapper: Wrapper,
) -> None:
    jobs = [wrapper.start("sleep", "2", options=()) for _ in range(4)]
    said = [job.communicate(timeout=PATIENCE_S)[1] for job in jobs]
    assert [line for text in said for line in text.splitlines() if "cannot" in line] == []
    runs = wrapper.json("runs")["runs"]
    assert [(run["status"], run["devices"]) for run in runs] == [("completed", 2)] * 4


def test_a_locked_ledger_never_delays_the_job_and_the_run_is_recovered(wrapper: Wrapper) -> None:
    assert wrapper.run("true").returncode == 0
    blocker = sqlite3.connect(wrapper.ledger, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    done = wrapper.run("sh", "-c", "sleep 2; echo out; exit 3", options=("--name", "locked"))
    assert (done.returncode, done.stdout) == (3, "out\n")
    assert "the ledger cannot be written now: database is locked" in done.stderr
    assert "carbontrack db recover" in done.stderr
    blocker.execute("ROLLBACK")
    blocker.close()

    assert "1 run" in wrapper.carbontrack("db", "recover").stdout
    (run,) = [run for run in wrapper.json("runs")["runs"] if run["name"] == "locked"]
    assert (run["status"], run["exit_code"]) == ("failed", 3)
    assert run["energy_kwh"] > 0
    assert run["coverage"] > 0.9
    # What is recovered is in the ledger once, however often it is asked for.
    assert "Nothing to recover" in wrapper.carbontrack("db", "recover").stdout


def test_the_ledgers_file_alone_holds_the_run_when_it_has_ended(wrapper: Wrapper) -> None:
    """People copy one file; what is still in the write-ahead log would stay behind."""
    assert wrapper.run("true", options=("--quiet", "--name", "copied")).returncode == 0
    copy = wrapper.folder / "copy.db"
    copy.write_bytes(wrapper.ledger.read_bytes())
    (run,) = wrapper.json("runs", "--db", str(copy))["runs"]
    assert (run["name"], run["devices"]) == ("copied", 2)
    assert not wrapper.ledger.with_name("ledger.db-wal").exists()


def test_a_lock_that_goes_away_loses_nothing(wrapper: Wrapper) -> None:
    assert wrapper.run("true").returncode == 0
    blocker = sqlite3.connect(wrapper.ledger, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    job = wrapper.start("sleep", "6")
    time.sleep(3)
    blocker.execute("ROLLBACK")
    blocker.close()
    _, err = job.communicate(timeout=PATIENCE_S)
    assert (job.returncode, err) == (0, "")
    run = wrapper.json("runs")["runs"][0]
    assert (run["status"], run["devices"]) == ("completed", 2)
    assert run["coverage"] > 0.95


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
            pytest.skip(f"a filesystem cannot be mounted here (needs root): {done.stderr}")
        return folder

    yield mount
    subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)


def test_a_read_only_folder_is_a_warning_and_the_run_is_kept_elsewhere(
    wrapper: Wrapper, mounted: Callable[[str], Path]
) -> None:
    folder = mounted("ro,size=1m")
    ledger = folder / "ledger.db"
    options = ("--quiet", "--db", str(ledger))
    done = wrapper.run("sh", "-c", "sleep 1; echo out; exit 5", options=options)
    assert (done.returncode, done.stdout) == (5, "out\n")
    # Even the quiet are told where it is, and who asks for the run that there is one.
    assert done.stderr.count("\n") == 1
    assert f"measurements are kept in {wrapper.folder}/data" in done.stderr
    for command in ("runs", "show"):
        said = wrapper.carbontrack(command, "--db", str(ledger)).stderr
        assert f"1 journal waits: carbontrack db recover --db {ledger}" in said
    subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
    recovered(wrapper, ledger, exit_code=5, seconds=1)


def test_a_full_disk_never_stops_the_job_and_the_run_is_kept_elsewhere(
    wrapper: Wrapper, mounted: Callable[[str], Path]
) -> None:
    folder = mounted("size=320k")
    ledger, ballast = folder / "ledger.db", folder / "ballast"
    job = wrapper.start(
        "sh",
        "-c",
        "sleep 6; echo out; exit 6",
        options=("--db", str(ledger), "--meter", "sim:a100x2"),
    )
    time.sleep(2.5)
    with suppress(OSError), ballast.open("wb") as file:  # nothing is left for anybody
        while True:
            file.write(b"x" * 1024)
            file.flush()
    out, err = job.communicate(timeout=PATIENCE_S)
    assert (job.returncode, out) == (6, "out\n")
    assert "the ledger cannot be written now: database or disk is full" in err
    assert "Traceback" not in err
    ballast.unlink()
    recovered(wrapper, ledger, exit_code=6, seconds=6)


def test_a_ledger_that_is_deleted_is_made_anew_with_all_of_the_run(wrapper: Wrapper) -> None:
    job = wrapper.start("sleep", "6", options=())
    time.sleep(3)
    for path in wrapper.folder.glob("ledger.db*"):
        path.unlink()
    _, err = job.communicate(timeout=PATIENCE_S)
    assert job.returncode == 0
    assert "the ledger's file was removed or replaced; the run goes on in a new one" in err
    recovered(wrapper, wrapper.ledger, exit_code=0, seconds=6)
    assert [e["kind"] for e in wrapper.json("show")["events"]] == ["ledger-replaced"]


@pytest.mark.parametrize("garbage", [b"", b"not a database " * 4096], ids=["emptied", "garbled"])
def test_a_ledger_that_is_overwritten_is_left_alone_and_the_rest_of_the_run_is_kept(
    wrapper: Wrapper, until: Callable[[Callable[[], Any]], Any], garbage: bytes
) -> None:
    job = wrapper.start("sh", "-c", "sleep 6; exit 2", options=("--quiet", "--name", "kept"))
    until(lambda: wrapper.ledger.exists() and wrapper.json("runs")["runs"])
    time.sleep(2)  # at least one commit more
    wrapper.ledger.write_bytes(garbage)
    for path in wrapper.folder.glob("ledger.db-*"):
        if path.is_file():
            path.unlink()
    _, err = job.communicate(timeout=PATIENCE_S)
    assert job.returncode == 2
    assert "Traceback" not in err
    assert wrapper.ledger.read_bytes() == garbage
    journals = list(wrapper.folder.glob("ledger.db-journals/*.jsonl"))
    assert len(journals) == 1, err
    assert f"measurements are kept in {journals[0]}" in err
    # What the ledger had is gone with it; what came after is not.
    wrapper.ledger.unlink()
    assert wrapper.carbontrack("db", "recover").returncode == 0
    run = wrapper.json("show", "kept")
    assert (run["status"], run["exit_code"]) == ("failed", 2)
    assert run["energy_kwh"] > 0
    assert 0.2 < run["coverage"] < 0.9
