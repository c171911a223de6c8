"""Ledgers that an older program left are used on; those of a newer one are let alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from carbontrack.errors import CarbontrackError
from carbontrack.ledger import engine, read
from carbontrack.ledger.models import Base
from carbontrack.ledger.rows import Node
from carbontrack.ledger.transaction import open_ledger
from carbontrack.ledger.url import sqlite_path
from carbontrack.ledger.write import RunWriter
from tests.fixtures.runs import Recorded

ASSETS = Path(__file__).parents[1] / "assets/ledger"
LeaveOld = Callable[[str], str]
OLD = ["0001"]


def use(url: str) -> None:
    """Read what was there, and record another run."""
    with engine.open_reader(url).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
        lost, good = read.list_runs(connection)
        assert (good.name, good.status, good.tags) == ("old-good", "completed", {"team": "nlp"})
        assert (lost.name, lost.status) == ("old-lost", "interrupted")
        assert [total.energy_j for total in read.totals(connection, good)] == [3600, 3600]
        assert read.step_totals(connection, good).tokens == 2048
        assert [event.data for event in read.events(connection, good)] == [{"loss": 2.5}]
    new = Recorded(name="new", count=2, number=9)
    ledger = open_ledger(url)
    run = RunWriter(ledger, new.run, Node("node1", None, "9", {}, new.start_ms), new.sensors)
    run.commit(windows=new.windows, steps=new.step_rows, heartbeat_ms=new.end_ms)
    ledger.close()
    with engine.open_reader(url).connect() as connection:
        assert [run.name for run in read.list_runs(connection)] == ["new", "old-lost", "old-good"]


@pytest.mark.parametrize("revision", OLD)
@pytest.mark.parametrize("opening", ["reader", "writer"])
def test_an_old_file_is_upgraded_by_use_with_a_backup_beside_it(
    tmp_path: Path, revision: str, opening: str
) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes((ASSETS / f"{revision}.db").read_bytes())
    url = engine.ledger_url(str(path))
    getattr(engine, f"open_{opening}")(url).dispose()
    use(url)

    backup = tmp_path / f"ledger.db.backup-{revision}"
    assert backup.stat().st_mode & 0o777 == 0o600
    with engine.open_as_it_is(engine.ledger_url(str(backup))).connect() as connection:
        assert engine.revision_of(connection, url) == revision
        assert connection.scalar(text("select sum(energy_j) from windows where level = 1")) == 7200
    assert {file.name for file in tmp_path.glob("*.new")} == set()


@pytest.mark.parametrize("revision", OLD)
def test_an_old_server_is_upgraded_on_request_only(leave_old: LeaveOld, revision: str) -> None:
    url = leave_old(revision)
    if sqlite_path(url) is None:
        for opening in (engine.open_reader, engine.open_writer):
            with pytest.raises(CarbontrackError, match="carbontrack db upgrade") as raised:
                opening(url)
            assert f"has schema {revision}" in str(raised.value)
    assert engine.upgrade(url) == revision
    assert engine.upgrade(url) == engine.HEAD
    use(url)


def test_a_backup_that_fails_leaves_the_ledger_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes((ASSETS / "0001.db").read_bytes())
    (tmp_path / "ledger.db.backup-0001").mkdir()
    with pytest.raises(CarbontrackError, match=r"not upgraded: its backup .* cannot be written"):
        engine.upgrade(engine.ledger_url(str(path)))
    with engine.open_as_it_is(engine.ledger_url(str(path))).connect() as connection:
        assert engine.revision_of(connection, "") == "0001"
    assert list(tmp_path.glob("*.new")) == []


@pytest.mark.parametrize("revision", ["0099", "000e1027a6ac"])
def test_a_newer_ledger_is_refused_and_left_alone(ledger_url: str, revision: str) -> None:
    writer = engine.open_writer(ledger_url)
    with writer.begin() as connection:
        connection.execute(text("update alembic_version set version_num = :r"), {"r": revision})
    for opening in (engine.open_reader, engine.open_writer, engine.upgrade):
        with pytest.raises(CarbontrackError, match="written by a newer carbontrack") as raised:
            opening(ledger_url)
        assert revision in str(raised.value)
        assert "\n" not in str(raised.value)
    with writer.connect() as connection:
        assert connection.scalar(text("select version_num from alembic_version")) == revision
    writer.dispose()
