"""Opening a ledger: how to connect, and whether its schema is this program's.

A ledger is created or upgraded when it is first written. Opening one that is up to date reads one
row and imports no Alembic.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

from sqlalchemy import Connection, Engine, ExceptionContext, event, inspect, text
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from carbontrack.errors import CarbontrackError, NotFoundError
from carbontrack.ledger import BUSY_TIMEOUT_MS, HEAD, PRE_RELEASES, journal, postgresql, sqlite
from carbontrack.ledger.url import db_option, journal_folders, ledger_url, redacted_url, sqlite_path
from carbontrack.redact import redact_text

__all__ = [
    "HEAD",
    "LedgerUnusable",
    "NoLedger",
    "connect",
    "damage",
    "errors_in_one_line",
    "lacks_rights",
    "ledger_url",
    "met_another",
    "open_as_it_is",
    "open_reader",
    "open_writer",
    "refuses_rows",
    "revision_of",
    "upgrade",
    "writing",
]


class NoLedger(NotFoundError):
    """There is no ledger yet at this address."""

    def __init__(self, url: str) -> None:
        hint = f"Record a run: carbontrack run{db_option(url)} -- COMMAND"
        if sqlite_path(url) is None:
            hint = f"Create it: carbontrack db upgrade --db {redacted_url(url)}"
        if any(map(journal.files, journal_folders(url))):
            hint = f"The measurements are in a journal: carbontrack db recover{db_option(url)}"
        super().__init__(f"There is no ledger at {redacted_url(url)} yet.", hint=hint)


class LedgerUnusable(CarbontrackError):
    """The database refused: it is locked, damaged, away or full."""


def open_writer(
    url: str, *, busy_timeout_ms: int = BUSY_TIMEOUT_MS, deadline_s: float | None = None
) -> Engine:
    """An engine for writing; the ledger is created, or a SQLite ledger upgraded, if need be. With
    a deadline a server that does not answer is waited for so long only.

    `url` is one of `ledger_url`. Raises CarbontrackError if it is not an address, or the schema is
    newer than ours, or older on a server; what the database says (that it is locked, away, damaged)
    raises SQLAlchemyError, here and in every later write.
    """
    path = sqlite_path(url)
    if path is not None:
        sqlite.create_file(path)
    engine = connect(url, busy_timeout_ms=busy_timeout_ms)
    try:
        with postgresql.deadline(engine, deadline_s):
            with engine.connect() as connection:
                revision = revision_of(connection, url)
            if path is None and revision not in (None, HEAD):
                raise _outdated(url, revision)
            if revision != HEAD:
                _migrate(engine, url)
    except BaseException:
        engine.dispose()
        raise
    return engine


@contextmanager
def writing(url: str) -> Iterator[Engine]:
    """`open_writer` for the length of a block."""
    engine = open_writer(url)
    try:
        yield engine
    finally:
        engine.dispose()


def open_reader(url: str) -> Engine:
    """An engine for reading; it cannot write. An older SQLite ledger is upgraded first.

    Raises NoLedger where there is none yet, and CarbontrackError, here and in every later query,
    where it cannot be read.
    """
    engine = open_as_it_is(url)
    with engine.connect() as connection:
        revision = revision_of(connection, url)
    if revision is None:
        raise NoLedger(url)
    if revision != HEAD:
        if sqlite_path(url) is None:
            raise _outdated(url, revision)
        upgrade(url)
    return engine


_last_read: str | None = None


def damage() -> LedgerUnusable | None:
    """What is wrong with the ledger that was read last, for a command that broke; None if nothing
    is, or none was read.
    """
    from carbontrack.ledger.damage import first_damage

    url, path = _last_read, _last_read and sqlite_path(_last_read)
    if not url or not path or not path.exists():
        return None
    try:
        with closing(sqlite.connect(path, busy_timeout_ms=0, read_only=True)) as connection:
            found = first_damage(connection)
    except sqlite3.Error as error:
        return _unusable(url, error)
    if found is None:
        return None
    return LedgerUnusable(
        f"The ledger {redacted_url(url)} has values in {found} that it cannot have.",
        hint="It is damaged, or another program wrote it; name another one with --db.",
    )


def open_as_it_is(url: str) -> Engine:
    """An engine for reading a ledger of any schema. Raises NoLedger if its file is not there."""
    global _last_read
    path = sqlite_path(url)
    if path is not None:
        sqlite.check_file(path)
        if not path.exists() or path.stat().st_size == 0:
            raise NoLedger(url)
    engine = connect(url, read_only=True)
    _last_read = url

    def explain(context: ExceptionContext) -> None:
        raise _unusable(url, context.original_exception) from context.original_exception

    event.listen(engine, "handle_error", explain)
    return engine


def upgrade(url: str, *, busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> str | None:
    """Bring a ledger's schema to HEAD; gives the revision it had, None if it had none.

    A SQLite ledger that has a schema is backed up beside itself. Raises NoLedger, or
    CarbontrackError if it cannot be written or is newer than we are.
    """
    path = sqlite_path(url)
    if path is not None and not path.exists():
        raise NoLedger(url)
    with errors_in_one_line(url):
        engine = connect(url, busy_timeout_ms=busy_timeout_ms)
        try:
            return _migrate(engine, url)
        finally:
            engine.dispose()


def revision_of(connection: Connection, url: str) -> str | None:
    """The ledger's schema revision, or None if it has no schema.

    Raises CarbontrackError if the revision is not one of ours, or of a pre-release.
    """
    if not (tables := inspect(connection).get_table_names()):
        return None
    if sqlite_path(url) is not None and not {"alembic_version", "windows"} <= set(tables):
        raise sqlite.another_program(redacted_url(url))
    if "alembic_version" not in tables:
        return None
    revision: str | None = connection.scalar(text("select version_num from alembic_version"))
    if revision in PRE_RELEASES:
        raise CarbontrackError(
            f"The ledger {redacted_url(url)} was written by a pre-release of carbontrack "
            f"(schema {revision}).",
            hint="Name another file with --db or CARBONTRACK_DB, or read it with that version.",
        )
    if revision is not None and not _is_known(revision):
        raise CarbontrackError(
            f"The ledger {redacted_url(url)} was written by a newer carbontrack "
            f"(schema {revision}, this one knows {HEAD}), or by another program.",
            hint="Upgrade: pip install -U carbontrack.",
        )
    return revision


def _is_known(revision: str) -> bool:
    """Whether it is the number of a revision up to ours; another program may have put anything."""
    is_number = isinstance(revision, str) and revision.isdigit() and len(revision) == len(HEAD)
    return is_number and "0" * len(HEAD) < revision <= HEAD


@contextmanager
def errors_in_one_line(url: str) -> Iterator[None]:
    """Errors of the database become a CarbontrackError, for commands that write."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise _unusable(url, error) from error


def refuses_rows(error: Exception) -> bool:
    """Whether what is written is the reason of an error, and not the database's state."""
    if isinstance(error, (SQLAlchemyError, sqlite3.Error)):
        kinds = (DataError, IntegrityError, sqlite3.DataError, sqlite3.IntegrityError)
        return isinstance(error, kinds) or _sqlstate(error) == _TOO_LONG
    return not isinstance(error, OSError)


def met_another(error: Exception) -> bool:
    """Whether two writers stood in each other's way, so that the same works again at once."""
    return _sqlstate(error) in _MET_ANOTHER


def _sqlstate(error: Exception) -> str | None:
    """PostgreSQL's code of an error."""
    return getattr(getattr(error, "orig", None), "sqlstate", None)


_TOO_LONG = "54000"  # program_limit_exceeded: a name that no index holds
_MET_ANOTHER = ("40001", "40P01")  # serialization_failure, deadlock_detected


def connect(url: str, *, busy_timeout_ms: int = BUSY_TIMEOUT_MS, read_only: bool = False) -> Engine:
    """An engine on a ledger of any schema, or of none. Raises CarbontrackError for no address."""
    if (path := sqlite_path(url)) is not None:
        return sqlite.engine(path, busy_timeout_ms=busy_timeout_ms, read_only=read_only)
    return postgresql.create(url, busy_timeout_ms=busy_timeout_ms, read_only=read_only)


# Alembic keeps its context in a module: two threads must not migrate at once either.
_migrating = threading.Lock()


def _migrate(engine: Engine, url: str) -> str | None:
    """Run the revisions the ledger has not seen, one process at a time; gives the one it had."""
    from carbontrack.ledger.migrations import migrate

    path = sqlite_path(url)
    with _migrating, engine.begin() as connection:  # in SQLite, BEGIN IMMEDIATE is the lock
        if path is None:
            postgresql.lock_upgrades(connection)
        revision = revision_of(connection, url)
        if revision == HEAD:
            return revision  # another process was faster
        if path is not None and revision is not None:
            sqlite.back_up(path, revision)
        migrate(connection)
        return revision


def _outdated(url: str, revision: str | None) -> CarbontrackError:
    return CarbontrackError(
        f"The ledger {redacted_url(url)} has schema {revision}, this carbontrack needs {HEAD}.",
        hint=f"Take a backup, then run: carbontrack db upgrade{db_option(url)}",
    )


_INSUFFICIENT_PRIVILEGE = "42501"


def lacks_rights(error: BaseException) -> bool:
    """Whether our role may not do what was asked."""
    return getattr(getattr(error, "orig", error), "sqlstate", None) == _INSUFFICIENT_PRIVILEGE


def _unusable(url: str, error: BaseException) -> LedgerUnusable:
    """The error of a driver, or SQLAlchemy's of one, by its first line."""
    error = getattr(error, "orig", None) or error
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    reason = redact_text(first).rstrip(".")
    if lacks_rights(error):
        hint = "Let the ledger's owner grant the role what docs/collector.md says of roles."
    elif sqlite_path(url) is None:
        hint = "Check the address in --db or CARBONTRACK_DB, and that the server runs."
    elif sqlite.is_locked(error):
        hint = "Another process is writing into it; try again."
    elif sqlite.is_damaged(error):
        hint = "It is damaged or not a ledger; move it away, or name another one with --db."
    else:
        hint = "Name another one with --db or CARBONTRACK_DB."
    return LedgerUnusable(f"The ledger {redacted_url(url)} cannot be used: {reason}.", hint=hint)
