"""Opening a ledger: who may do what, side by side, and what is said when it cannot be opened."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from carbontrack.errors import CarbontrackError
from carbontrack.ledger import engine, models, read
from carbontrack.ledger.transaction import WritableLedger, open_ledger
from carbontrack.ledger.write import RunWriter
from tests.fixtures.postgres import PostgresServer
from tests.fixtures.runs import Recorded, recording_of
from tests.fixtures.wrap import PATIENCE_S

ROOT = Path(__file__).parents[2]
PROCESSES = 8
LOCKED = (OperationalError, sqlite3.OperationalError)


def record(ledger: WritableLedger, number: int = 1) -> None:
    one = Recorded(number=number, count=2)
    run = RunWriter(ledger, one.run, recording_of(one.run), one.sensors)
    run.commit(windows=one.windows, heartbeat_ms=one.end_ms)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_new_file_is_its_owners_alone_and_writes_ahead(tmp_path: Path) -> None:
    path = tmp_path / "new/ledger.db"
    url = engine.ledger_url(str(path))
    ledger = open_ledger(url)
    record(ledger)
    assert mode(path.parent) == 0o700
    assert {file.name: mode(file) for file in path.parent.iterdir()} == {
        "ledger.db": 0o600,
        "ledger.db-wal": 0o600,
        "ledger.db-shm": 0o600,
    }
    writer = engine.open_writer(url)
    with writer.connect() as connection:
        assert connection.scalar(text("PRAGMA journal_mode")) == "wal"
        assert connection.scalar(text("PRAGMA foreign_keys")) == 1
    writer.dispose()
    ledger.close()


def test_an_open_file_is_not_touched_by_opening_it_again(tmp_path: Path) -> None:
    url = engine.ledger_url(str(tmp_path / "ledger.db"))
    first = open_ledger(url)
    with first.begin():
        # Were the lock of `first` lost by another opening, this would not wait for it.
        second = open_ledger(url, busy_timeout_ms=50)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            record(second)
        second.close()
        with pytest.raises(OperationalError, match="locked"):
            engine.open_writer(url, busy_timeout_ms=50)
        begin = "import sqlite3, sys; sqlite3.connect(sys.argv[1], 0).execute('BEGIN IMMEDIATE')"
        other = [sys.executable, "-c", begin, str(tmp_path / "ledger.db")]
        done = subprocess.run(other, capture_output=True, text=True, check=False)
        assert "database is locked" in done.stderr
    first.close()


@pytest.mark.parametrize("name", ["a b.db", "100%25.db", "what?mode=ro.db", "#1.db", "é.db"])
def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    url = engine.ledger_url(str(tmp_path / name))
    with closing(open_ledger(url)) as ledger:
        record(ledger)
    with engine.open_reader(url).connect() as connection:
        assert len(read.list_runs(connection)) == 1
    assert [file for file in tmp_path.iterdir() if not file.name.startswith(name)] == []


def test_a_reader_cannot_write(reader: Connection) -> None:
    with pytest.raises(CarbontrackError, match=r"read-?only"):
        reader.execute(models.Run.__table__.delete())


def test_readers_see_what_is_committed_while_a_writer_writes(
    ledger_url: str, ledger: WritableLedger, writer: Engine
) -> None:
    record(ledger)
    readers = engine.open_reader(ledger_url)
    with writer.begin() as writing:
        writing.execute(text("update runs set name = 'changed'"))
        with readers.connect() as reading:
            assert read.list_runs(reading)[0].name == "llama2-7b"
    with readers.connect() as reading:
        assert read.list_runs(reading)[0].name == "changed"


def test_a_writer_does_not_wait_for_readers(ledger_url: str, ledger: WritableLedger) -> None:
    record(ledger)
    with engine.open_reader(ledger_url).connect() as reading:
        assert len(read.list_runs(reading)) == 1
        record(ledger, number=2)
        assert len(read.list_runs(reading)) in (1, 2)  # by the database's own isolation


def test_a_locked_ledger_is_given_up_after_the_timeout(ledger_url: str, writer: Engine) -> None:
    patient = open_ledger(ledger_url, busy_timeout_ms=300)
    with writer.begin() as blocking:
        if writer.dialect.name == "postgresql":
            blocking.execute(text("lock table runs"))
        with pytest.raises(LOCKED, match=r"locked|lock timeout"):
            record(patient)
    record(patient)
    patient.close()


def test_a_locked_file_is_not_opened_either(tmp_path: Path) -> None:
    url = engine.ledger_url(str(tmp_path / "ledger.db"))
    writer = engine.open_writer(url)
    with writer.begin(), pytest.raises(OperationalError, match="database is locked"):
        engine.open_writer(url, busy_timeout_ms=10)
    writer.dispose()


def test_an_upgrade_of_a_locked_file_says_who_is_in_the_way(
    tmp_path: Path,
) -> None:
    url = engine.ledger_url(str(tmp_path / "ledger.db"))
    engine.open_writer(url).dispose()
    blocker = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(CarbontrackError, match=r"database is locked\. Another process"):
        engine.upgrade(url, busy_timeout_ms=50)
    blocker.close()


def record_at_once(url: str) -> None:
    """Many processes open the ledger at one moment, and each records a run."""
    code = f"""
import os, sys
from carbontrack.ledger import engine, migrations
from carbontrack.ledger.transaction import open_ledger
from tests.ledger.test_engine import record
waiting, go = os.pipe()
for number in range({PROCESSES}):
    if os.fork() == 0:
        os.close(go)
        os.read(waiting, 1)  # until all are there
        ledger = open_ledger(sys.argv[1], busy_timeout_ms={round(1000 * PATIENCE_S)})
        record(ledger, 100 + number)
        ledger.close()
        sys.exit()
os.close(go)
sys.exit(max(os.wait()[1] for _ in range({PROCESSES})))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    with engine.open_reader(url).connect() as connection:
        assert len(read.list_runs(connection, name="llama2-7b")) == PROCESSES
        assert engine.revision_of(connection, url) == engine.HEAD


def test_processes_that_start_at_once_make_one_ledger(ledger_url: str) -> None:
    record_at_once(ledger_url)


def test_a_ledger_that_is_up_to_date_is_opened_without_alembic(ledger_url: str) -> None:
    engine.open_writer(ledger_url).dispose()
    code = (
        "import sys\n"
        "from carbontrack.ledger import engine\n"
        "engine.open_writer(sys.argv[1]).dispose()\n"
        "sys.exit('alembic' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, ledger_url], check=False).returncode == 0


def test_where_there_is_no_ledger_yet(tmp_path: Path, ledger_url: str) -> None:
    hint = "db upgrade" if ledger_url.startswith("postgresql") else "carbontrack run"
    with pytest.raises(engine.NoLedger, match=hint):
        engine.open_reader(ledger_url)
    assert list(tmp_path.iterdir()) == []


def test_another_programs_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with sqlite3.connect(path) as theirs:
        theirs.execute("create table moz_places (x)")
    theirs.close()
    before = path.read_bytes()
    url = engine.ledger_url(str(path))
    for opening in (engine.open_writer, engine.open_reader, open_ledger):
        with pytest.raises(CarbontrackError, match="database of another program"):
            opening(url)
    assert path.read_bytes() == before


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"no database" * 1000)
    for opening in (engine.open_reader, engine.upgrade):
        with pytest.raises(CarbontrackError, match="file is not a database") as raised:
            opening(engine.ledger_url(str(path)))
        assert str(path) in str(raised.value)


def test_damage_that_shows_later_is_one_line_too(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    url = engine.ledger_url(str(path))
    with closing(open_ledger(url)) as ledger:
        record(ledger)
    writer = engine.open_writer(url)
    with writer.connect() as connection:
        page = connection.scalar(text("select rootpage from sqlite_master where name = 'runs'"))
        size = connection.scalar(text("PRAGMA page_size"))
    writer.dispose()
    assert page is not None and size is not None
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(os.urandom(size))
    with (
        engine.open_reader(url).connect() as connection,
        pytest.raises(CarbontrackError, match="malformed") as raised,
    ):
        read.list_runs(connection)
    assert "\n" not in str(raised.value)


def test_a_server_without_this_database_is_named(postgres_server: PostgresServer) -> None:
    url = engine.ledger_url(postgres_server.url("nobodys"))
    with pytest.raises(CarbontrackError, match='database "nobodys" does not exist') as raised:
        engine.open_reader(url)
    assert "\n" not in str(raised.value)


def test_a_server_that_does_not_answer_is_named_without_the_password() -> None:
    url = engine.ledger_url("postgresql://ada:s3cr%25t@127.0.0.1:1/none")
    for opening in (engine.open_reader, engine.upgrade):
        with pytest.raises(CarbontrackError, match="that the server runs") as raised:
            opening(url)
        assert "\n" not in str(raised.value)
        assert "127.0.0.1:1/none" in str(raised.value)
        assert "s3cr" not in str(raised.value)


def test_a_password_of_any_signs_reaches_the_server(postgres_server: PostgresServer) -> None:
    # The server trusts everyone on its socket: what counts is that the address is understood.
    user = postgres_server.user
    plain = engine.ledger_url(postgres_server.new_database())
    url = plain.replace(f"://{user}@", f"://{user}:100%25%40%2F%3A@")
    assert url != plain
    engine.open_writer(url).dispose()
    with engine.open_reader(url).connect() as connection:
        assert read.list_runs(connection) == []


def test_what_a_driver_says_has_no_password() -> None:
    said = 'connection to "postgresql://ada:s3cret@db.lab/x" failed'
    with (
        pytest.raises(CarbontrackError) as caught,
        engine.errors_in_one_line("postgresql+psycopg://ada@db.lab/x"),
    ):
        raise OperationalError(said, None, sqlite3.OperationalError(said))
    assert "s3cret" not in str(caught.value)
    assert "db.lab" in str(caught.value)
