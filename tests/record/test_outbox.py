"""A ledger that cannot be written is never the job's problem, and what was measured is kept."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.wrap import Wrapper


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


def test_a_lock_that_goes_away_loses_nothing(wrapper: Wrapper) -> None:
    assert wrapper.run("true").returncode == 0
    blocker = sqlite3.connect(wrapper.ledger, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    job = wrapper.start("sleep", "6")
    time.sleep(3)
    blocker.execute("ROLLBACK")
    blocker.close()
    _, err = job.communicate(timeout=30)
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


def test_a_read_only_folder_is_a_warning_and_the_run_is_kept_elsewhere(
    wrapper: Wrapper, tmp_path: Path
) -> None:
    folder = tmp_path / "read-only"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "ro,size=256k", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a read-only folder cannot be mounted here (needs root): {done.stderr}")
    try:
        ledger = folder / "ledger.db"
        done = wrapper.run("sh", "-c", "echo out; exit 5", options=("--db", str(ledger)))
        assert (done.returncode, done.stdout) == (5, "out\n")
        assert "the ledger cannot be written now" in done.stderr
        assert "Traceback" not in done.stderr
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 256 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a small filesystem cannot be mounted here (needs root): {done.stderr}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_never_stops_the_job(wrapper: Wrapper, small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(b"x" * 60_000)
    wrapper.meter = "sim:a100x8"
    options = ("--db", str(small_disk / "ledger.db"))
    done = wrapper.run("sh", "-c", "sleep 9; echo out; exit 6", options=options)
    assert (done.returncode, done.stdout) == (6, "out\n")
    assert "the ledger cannot be written now: database or disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    (run,) = json.loads(wrapper.carbontrack("runs", "--format", "json", *options).stdout)["runs"]
    assert run["devices"] == 8, "what was committed before is there"


def test_a_ledger_that_is_deleted_is_made_anew(wrapper: Wrapper) -> None:
    job = wrapper.start("sleep", "6", options=())
    time.sleep(3)
    for path in wrapper.folder.glob("ledger.db*"):
        path.unlink()
    _, err = job.communicate(timeout=30)
    assert job.returncode == 0
    assert "the ledger's file was removed" in err
    run = wrapper.json("show")
    assert (run["status"], len(run["devices"])) == ("completed", 2)
    assert run["energy_kwh"] > 0


def test_a_ledger_that_is_corrupted_is_left_alone_and_the_run_is_kept(wrapper: Wrapper) -> None:
    assert wrapper.run("true").returncode == 0
    job = wrapper.start("sh", "-c", "sleep 5; exit 2", options=("--name", "kept"))
    time.sleep(2.5)
    garbage = b"not a database " * 4096
    wrapper.ledger.write_bytes(garbage)
    for path in wrapper.folder.glob("ledger.db-*"):
        if path.is_file():
            path.unlink()
    _, err = job.communicate(timeout=30)
    assert job.returncode == 2
    assert "Traceback" not in err
    journals = list(wrapper.folder.glob("ledger.db-journals/*.jsonl"))
    assert len(journals) == 1
    assert "carbontrack db recover" in err
