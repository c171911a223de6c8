"""Opening a ledger: how to connect, and whether its schema is this program's.

A ledger is created or upgraded when it is first written. Opening one that is up to date reads one row and
imports no Alembic: this is on the recorder's way.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool, QueuePool

from carbontrack.errors import CarbontrackError
from carbontrack.ledger.url import ledger_url, sqlite_path, without_password

__all__ = [
    "HEAD",
    "NoLedger",
    "current_revision",
    "ledger_url",
    "open_reader",
    "open_writer",
    "upgrade",
]

HEAD = "0002"
"""The newest revision of `migrations/`; a test holds the two together."""

_BUSY_TIMEOUT_MS = 30_000
_ADVISORY_LOCK = 0x636172626F6E  # "carbon": one upgrade at a time


class NoLedger(CarbontrackError):
    """There is no ledger yet at this address."""


def open_writer(url: str, *, busy_timeout_ms: int = _BUSY_TIMEOUT_MS) -> Engine:
    """An engine for writing; the ledger is created, or a SQLite ledger upgraded, if need be.

    `url` is one of `ledger_url`. Raises CarbontrackError if it cannot be opened or is newer than we are;
    a ledger that stays locked raises SQLAlchemy's OperationalError, here and in every later write.
    """
    path = sqlite_path(url)
    if path is not None:
        _create_file(path)
    engine = _connectable(url, busy_timeout_ms=busy_timeout_ms)
    revision = _revision_of(engine, url)
    if revision != HEAD:
        if revision is not None and path is None:
            raise _outdated(url, revision)
        upgrade(engine, url)
    return engine


def open_reader(url: str) -> Engine:
    """An engine for reading; it cannot write. An older SQLite ledger is upgraded first.

    Raises NoLedger where there is none yet, CarbontrackError where it cannot be read.
    """
    path = sqlite_path(url)
    if path is not None and (not path.exists() or path.stat().st_size == 0):
        raise NoLedger(
            f"There is no ledger at {path} yet.", hint="Record a run: carbontrack run -- COMMAND"
        )
    engine = _connectable(url, read_only=True)
    revision = _revision_of(engine, url)
    if revision is None:
        raise NoLedger(
            f"There is no ledger in {without_password(url)} yet.",
            hint="Record a run: carbontrack run -- COMMAND",
        )
    if revision != HEAD:
        if path is None:
            raise _outdated(url, revision)
        open_writer(url).dispose()
    return engine


def upgrade(engine: Engine, url: str) -> None:
    """Bring the schema to HEAD under a lock; a SQLite ledger that holds data is backed up beside itself."""
    from carbontrack.ledger.migrations import migrate

    path = sqlite_path(url)
    with _one_upgrade_at_a_time(engine) as connection:
        revision = current_revision(connection)
        if revision == HEAD:
            return  # another process was faster
        _refuse_newer(revision, url)
        if revision is not None and path is not None:
            _back_up(path, revision)
        migrate(connection)


def current_revision(connection: Connection) -> str | None:
    """The ledger's schema revision, or None if it has no schema. One statement."""
    try:
        with connection.begin_nested() if connection.in_transaction() else connection.begin():
            return connection.scalar(text("select version_num from alembic_version"))
    except DBAPIError as error:
        if _says_no_table(error):
            return None
        raise


def _connectable(
    url: str, *, busy_timeout_ms: int = _BUSY_TIMEOUT_MS, read_only: bool = False
) -> Engine:
    try:
        if (path := sqlite_path(url)) is not None:
            return _sqlite(path, busy_timeout_ms, read_only)
        options = "-c default_transaction_read_only=on" if read_only else ""
        connect = {"connect_timeout": 5, "application_name": "carbontrack", "options": options}
        return create_engine(url, pool_size=2, pool_pre_ping=True, connect_args=connect)
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise CarbontrackError(
            f"Not a ledger's address: {without_password(url)}.",
            hint="Example: postgresql://USER:PASSWORD@HOST/DATABASE, with % written as %25.",
        ) from error
    except ImportError as error:
        raise CarbontrackError(
            "PostgreSQL needs a driver that is not installed.",
            hint="pip install 'carbontrack[postgres]'",
        ) from error


def _sqlite(path: Path, busy_timeout_ms: int, read_only: bool) -> Engine:
    def connect() -> sqlite3.Connection:
        mode = "ro" if read_only else "rw"
        connection = sqlite3.connect(
            f"{path.as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,  # we say BEGIN ourselves
            check_same_thread=False,
            timeout=busy_timeout_ms / 1000,
        )
        connection.execute("PRAGMA foreign_keys=ON")
        if not read_only:
            _use_wal(connection)
        return connection

    # A reader that keeps no connection sees a ledger that was moved or replaced.
    pool = NullPool if read_only else QueuePool
    engine = create_engine("sqlite://", creator=connect, poolclass=pool)
    begin = "BEGIN" if read_only else "BEGIN IMMEDIATE"
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def _use_wal(connection: sqlite3.Connection) -> None:
    """Write-ahead log where the filesystem can do it: readers then never wait for the recorder."""
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    if mode != "wal":
        (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    # In WAL, NORMAL may lose the last commits with the power, but never the file.
    connection.execute(f"PRAGMA synchronous={'NORMAL' if mode == 'wal' else 'FULL'}")


def _create_file(path: Path) -> None:
    """An empty file that only its owner can read: commands and host names are nobody else's business."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise CarbontrackError(
            f"The ledger {path} cannot be written: {error.strerror}.",
            hint="Name another one with --db or CARBONTRACK_DB.",
        ) from error


def _revision_of(engine: Engine, url: str) -> str | None:
    """The revision of a ledger that is asked for the first time: here all that is wrong comes to light."""
    try:
        with engine.connect() as connection:
            revision = current_revision(connection)
    except SQLAlchemyError as error:
        if "locked" in str(error):
            raise
        raise _unreadable(url, error) from error
    _refuse_newer(revision, url)
    return revision


def _refuse_newer(revision: str | None, url: str) -> None:
    if revision is not None and revision > HEAD:
        raise CarbontrackError(
            f"The ledger {_place(url)} was written by a newer carbontrack (schema {revision}, "
            f"this one knows {HEAD}).",
            hint="Upgrade: pip install -U carbontrack.",
        )


def _outdated(url: str, revision: str) -> CarbontrackError:
    return CarbontrackError(
        f"The ledger {_place(url)} has schema {revision}, this carbontrack needs {HEAD}.",
        hint="Take a backup, then run 'carbontrack db upgrade'.",
    )


def _unreadable(url: str, error: SQLAlchemyError) -> CarbontrackError:
    cause = str(getattr(error, "orig", None) or error).strip().splitlines()
    reason = cause[0].rstrip(".") if cause else type(error).__name__
    hint = "Check the address in --db or CARBONTRACK_DB, and that the server runs."
    if sqlite_path(url) is not None:
        hint = "Name another one with --db or CARBONTRACK_DB."
        if "not a database" in reason or "malformed" in reason:
            hint = "It is damaged or no ledger; move it away, or name another one with --db."
    return CarbontrackError(f"The ledger {_place(url)} cannot be read: {reason}.", hint=hint)


def _place(url: str) -> str:
    path = sqlite_path(url)
    return str(path) if path is not None else without_password(url)


def _says_no_table(error: DBAPIError) -> bool:
    message = str(error.orig)
    return (
        "no such table" in message or "does not exist" in message and "alembic_version" in message
    )


# Alembic keeps its context in a module: two threads must not migrate at once either.
_upgrading = threading.Lock()


@contextmanager
def _one_upgrade_at_a_time(engine: Engine) -> Iterator[Connection]:
    """A connection inside a transaction that no other upgrade can enter."""
    with _upgrading, engine.connect() as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        yield connection  # in SQLite, BEGIN IMMEDIATE is the lock


def _back_up(path: Path, revision: str) -> None:
    backup = path.with_name(f"{path.name}.backup-{revision}")
    backup.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM INTO ?", (str(backup),))
    backup.chmod(0o600)
