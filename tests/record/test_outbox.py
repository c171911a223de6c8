"""A ledger that cannot be written is never the job's problem, and what was measured is kept."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

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
