"""Ledgers of an older schema are used on or written beside; those of a newer one, or of a
pre-release, are let alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from carbontrack.errors import CarbontrackError
from carbontrack.ledger import engine, migrations, read, transaction
from carbontrack.ledger.beside import files_beside
from carbontrack.ledger.transaction import open_ledger
from carbontrack.ledger.url import db_option, sqlite_path
from carbontrack.ledger.write import RunWriter
from carbontrack.units import MS_PER_HOUR, now_ms
from tests.fixtures.runs import Recorded, recording_of, write_ledger
from tests.fixtures.wrap import Wrapper
from tests.ledger.test_recover import Recorder

OLD = engine.HEAD
NEW = f"{int(OLD) + 1}"
MADE_UP = f'''
import sqlalchemy as sa
from alembic import op
revision, down_revision = "{NEW}", "{OLD}"
def upgrade():
    op.create_table("made_up", sa.Column("key", sa.Integer, primary_key=True))
'''


@pytest.fixture
def url(ledger_url: str) -> str:
    """A ledger with a run, as today's program makes it."""
    with closing(open_ledger(ledger_url)) as ledger:
        record(ledger, 1)
    return ledger_url


def record(ledger: transaction.WritableLedger, number: int) -> None:
    one = Recorded(name=f"run-{number}", number=number, count=2)
    run = RunWriter(ledger, one.run, recording_of(one.run), one.sensors)
    run.commit(windows=one.windows, steps=one.step_rows, heartbeat_ms=one.end_ms)


@pytest.fixture
def newer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """From its first use on this program is a newer one, with a revision more."""
    versions = tmp_path / "versions"
    versions.mkdir()
    (versions / "made_up.py").write_text(MADE_UP)
    config = migrations.config
    ours = Path(migrations.__file__).parent / "versions"

    def with_made_up(connection: engine.Connection) -> migrations.Config:
        settings = config(connection)
        settings.set_main_option("path_separator", "newline")
        settings.set_main_option("version_locations", f"{ours}\n{versions}")
        return settings

    monkeypatch.setattr(migrations, "config", with_made_up)
    for module in (engine, transaction):
        monkeypatch.setattr(module, "HEAD", NEW)
    yield


def use(url: str) -> None:
    """Read what was there, and record another run."""
    with closing(open_ledger(url)) as ledger:
        record(ledger, 2)
    with engine.open_reader(url).connect() as connection:
        assert inspect(connection).has_table("made_up")
        new, old = read.list_runs(connection)
        assert (old.name, new.name) == ("run-1", "run-2")
        assert [total.energy_j for total in read.totals(connection, old)] == [2592000] * 2


@pytest.mark.parametrize("opening", ["reader", "writer"])
def test_an_old_file_is_upgraded_by_use_with_a_backup_beside_it(
    tmp_path: Path, newer: None, opening: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = old_file(tmp_path, monkeypatch)
    url = engine.ledger_url(str(path))
    getattr(engine, f"open_{opening}")(url).dispose()
    use(url)

    backup = tmp_path / f"ledger.db.backup-{OLD}"
    assert backup.stat().st_mode & 0o777 == 0o600
    with engine.open_as_it_is(engine.ledger_url(str(backup))).connect() as connection:
        assert engine.revision_of(connection, url) == OLD
        assert connection.scalar(text("select count(*) from runs")) == 1
    assert {file.name for file in tmp_path.glob("*.new")} == set()


def old_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with monkeypatch.context() as before:
        before.setattr(transaction, "HEAD", OLD)
        path = folder / "ledger.db"
        with closing(open_ledger(engine.ledger_url(str(path)))) as ledger:
            record(ledger, 1)
    return path


def test_an_old_server_is_upgraded_on_request_only(
    url: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue("newer")
    if sqlite_path(url) is None:
        for opening in (engine.open_reader, engine.open_writer):
            with pytest.raises(CarbontrackError, match=f"has schema {OLD}") as raised:
                opening(url)
            assert raised.value.hint.endswith(f"carbontrack db upgrade{db_option(url)}")
    assert engine.upgrade(url) == OLD
    assert engine.upgrade(url) == NEW
    use(url)


def test_a_backup_that_fails_leaves_the_ledger_as_it_was(
    tmp_path: Path, newer: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = old_file(tmp_path, monkeypatch)
    (tmp_path / f"ledger.db.backup-{OLD}").mkdir()
    with pytest.raises(CarbontrackError, match=r"not upgraded: its backup .* cannot be written"):
        engine.upgrade(engine.ledger_url(str(path)))
    with engine.open_as_it_is(engine.ledger_url(str(path))).connect() as connection:
        assert engine.revision_of(connection, "") == OLD
    assert list(tmp_path.glob("*.new")) == []


def set_revision(path: Path, revision: str) -> None:
    with closing(sqlite3.connect(path)) as ledger, ledger:
        ledger.execute("update alembic_version set version_num = ?", (revision,))


@pytest.mark.parametrize("revision", ["1000", "0002"])
def test_a_recorder_writes_beside_an_older_file_and_says_so(
    wrapper: Wrapper, revision: str
) -> None:
    write_ledger(wrapper.ledger, Recorded(count=2))
    set_revision(wrapper.ledger, revision)
    before = wrapper.ledger.read_bytes()
    beside = wrapper.folder / f"ledger-{engine.HEAD}.db"
    for name in ("one", "two"):
        done = wrapper.run("true", options=("--quiet", "--name", name))
        assert done.returncode == 0
        assert done.stderr == (
            f"carbontrack: the ledger {wrapper.ledger} is of an older carbontrack; "
            f"this run is recorded in {beside}.\n"
        )
    assert wrapper.ledger.read_bytes() == before
    runs = wrapper.json("runs", "--db", str(beside))["runs"]
    assert [(run["name"], run["status"]) for run in runs] == [
        ("two", "completed"),
        ("one", "completed"),
    ]


def test_what_was_recorded_beside_an_older_file_is_taken_in(
    wrapper: Wrapper,
) -> None:
    """With a journal that waits for it, and once it is no longer written."""
    write_ledger(wrapper.ledger, Recorded(name="before", count=2))
    set_revision(wrapper.ledger, "1000")
    beside = wrapper.folder / f"ledger-{engine.HEAD}.db"
    assert wrapper.run("true", options=("--quiet", "--name", "beside")).returncode == 0
    Recorder(engine.ledger_url(str(beside))).spill(0, 60)
    set_revision(wrapper.ledger, engine.HEAD)  # as a migration would
    assert wrapper.json("db", "status")["beside"] == [str(beside)]
    assert "beside    1 file of runs" in wrapper.ask("db", "status").stdout
    with closing(sqlite3.connect(beside)) as ledger, ledger:
        ledger.execute(
            f"update recordings set ended_ms = null, heartbeat_ms = {now_ms() + MS_PER_HOUR}"
        )
    done = wrapper.ask("db", "upgrade")
    assert done.stdout.splitlines()[1:] == [
        f"2 runs of {beside.name} taken in; a run is still recorded there: "
        "upgrade again when it has ended."
    ]
    assert beside.exists()
    with closing(sqlite3.connect(beside)) as ledger, ledger:
        ledger.execute("update recordings set ended_ms = started_ms, heartbeat_ms = started_ms")
    kept = f"{beside.name}.merged"
    done = wrapper.ask("db", "upgrade")
    assert done.stdout.splitlines()[1:] == [
        f"0 runs of {beside.name} taken in; the file is {kept} now."
    ]
    names = {run["name"] for run in wrapper.json("runs")["runs"]}
    assert names == {"before", "beside", "away"}
    assert not beside.exists()
    assert (wrapper.folder / kept).exists()
    assert wrapper.json("db", "status")["beside"] == []
    assert len(wrapper.ask("db", "upgrade").stdout.splitlines()) == 1


def test_a_ledger_of_a_year_is_not_taken_for_one_of_a_revision(tmp_path: Path) -> None:
    path = write_ledger(tmp_path / "ledger.db", Recorded(count=1))
    write_ledger(tmp_path / "ledger-2024.db", Recorded(number=2, count=1))
    assert files_beside(engine.ledger_url(str(path))) == []


@pytest.mark.parametrize("revision", ["0001", "0002"])
def test_a_ledger_of_a_pre_release_is_refused_in_one_line(wrapper: Wrapper, revision: str) -> None:
    write_ledger(wrapper.ledger, Recorded(count=2))
    set_revision(wrapper.ledger, revision)
    before = wrapper.ledger.read_bytes()
    for command in (["runs"], ["table"], ["db", "upgrade"]):
        done = wrapper.carbontrack(*command)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), command
        assert "was written by a pre-release of carbontrack" in done.stderr
        assert "Name another file with --db" in done.stderr
    assert wrapper.ledger.read_bytes() == before


@pytest.mark.parametrize("revision", ["9999", "000e1027a6ac"])
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
