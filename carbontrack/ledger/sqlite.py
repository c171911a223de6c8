"""A ledger in a file: SQLite, set up so that recorder and readers never wait for each other."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from carbontrack.errors import CarbontrackError
from carbontrack.units import now_ms
from carbontrack.vocabulary import EventKind

if TYPE_CHECKING:
    from sqlalchemy import Engine

MAGIC = b"SQLite format 3\0"
"""What a file of SQLite begins with."""
MOUNTS = Path("/proc/mounts")
SET_MS = (
    "coalesce((select json_extract(data, '$.set_ms') from events "
    "where events.recording_key = recordings.key "
    f"and events.kind = '{EventKind.CLOCK_SET.value}' order by number desc limit 1), 0)"
)
"""Of a row of `recordings`, in ms: how far the clock here was set since it began."""
_MAX_VALUE_BYTES = 4 * 2**20  # of what is read: a command, a message, a line's extras are less
_SCHEMA = Path(__file__).with_name("schema.sql")
# The write-ahead log needs memory that all its users share; across machines there is none.
_NETWORK = re.compile(
    r"^(nfs\d*|lustre|gpfs|cifs|smb\w*|beegfs|ceph|glusterfs|afs|9p|pvfs2|panfs|fuse(\.\w+)?)$"
)


def create_file(path: Path) -> None:
    """An empty file that only its owner can read: what people run is private.

    A file that is there is not opened: closing it would drop the locks of its other connections.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise CarbontrackError(
            f"The ledger {path} cannot be written: {error.strerror}.",
            hint="Name another one with --db or CARBONTRACK_DB.",
        ) from error


def check_file(path: Path) -> None:
    """Raise CarbontrackError for a FIFO, a folder or a device, where SQLite would wait for a
    writer, and for a file that is closed to us, of which it does not give the reason.
    """
    reason = ""
    if path.exists() and not path.is_file():
        reason = "is not a regular file"
    elif path.exists() and not os.access(path, os.R_OK):
        reason = f"cannot be read: {os.strerror(errno.EACCES)}"
    if reason:
        raise CarbontrackError(
            f"The ledger {path} {reason}.", hint="Name another one with --db or CARBONTRACK_DB."
        )


def connect(path: Path, *, busy_timeout_ms: int, read_only: bool = False) -> sqlite3.Connection:
    """A connection to a ledger's file, on which callers issue BEGIN and COMMIT.

    Raises CarbontrackError as `check_file` does.
    """
    check_file(path)
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode={'ro' if read_only else 'rw'}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=busy_timeout_ms / 1000,
    )
    try:
        connection.execute("PRAGMA foreign_keys=ON")
        _refuse_programs(connection, path)
        if read_only:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE_BYTES)
        else:
            _refuse_others(connection, path)
            _journal_in(connection, "TRUNCATE" if on_network(path) else "WAL", busy_timeout_ms)
    except BaseException:
        connection.close()
        raise
    return connection


def engine(path: Path, *, busy_timeout_ms: int, read_only: bool) -> Engine:
    """An engine on a ledger file. A reader cannot write; a writer is alone from its BEGIN on."""
    from sqlalchemy import create_engine, event
    from sqlalchemy.pool import NullPool, QueuePool

    made = create_engine(
        "sqlite://",
        creator=partial(connect, path, busy_timeout_ms=busy_timeout_ms, read_only=read_only),
        # A reader that keeps no connection sees a ledger that was moved or replaced.
        poolclass=NullPool if read_only else QueuePool,
    )
    # A transaction that turns from reading to writing fails at once, whatever the timeout.
    begin = "BEGIN" if read_only else "BEGIN IMMEDIATE"
    event.listen(made, "begin", lambda connection: connection.exec_driver_sql(begin))
    return made


def make_schema(connection: sqlite3.Connection) -> None:
    """Give a file that is empty our schema: what all migrations make is in `schema.sql`, and done
    in a moment.
    """
    if not _names(connection):
        with transaction(connection):
            if not _names(connection):  # no other process was faster
                for statement in _SCHEMA.read_text(encoding="utf-8").split(";\n"):
                    connection.execute(statement)


def revision_of(connection: sqlite3.Connection) -> str | None:
    """The revision of the schema; None if there is none."""
    if "alembic_version" not in _names(connection):
        return None
    row = connection.execute("select version_num from alembic_version").fetchone()
    return row and str(row[0])


@contextmanager
def transaction(connection: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """What is written inside is written whole, or not at all where an error leaves it."""
    # A transaction that turns from reading to writing fails at once, whatever the timeout.
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # of a full disk SQLite has rolled back itself
            connection.execute("ROLLBACK")
        raise


def is_recorded(connection: sqlite3.Connection) -> bool:
    """Whether a recorder lives that writes into this file, or whose rows are shipped here."""
    from carbontrack.ledger.outcome import is_silent  # of which a recorder needs nothing

    newest = (
        f"select max(heartbeat_ms + {SET_MS}), live.recording_key is not null, max(heard_ms) "
        "from recordings "
        "left join live on live.recording_key = recordings.key where ended_ms is null group by 2"
    )
    return any(
        not is_silent(heartbeat_ms, heard_ms, now_ms=now_ms())
        for heartbeat_ms, _, heard_ms in connection.execute(newest)
    )


def _names(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("select name from sqlite_master")}


def back_up(path: Path, revision: str) -> Path:
    """Copy the ledger beside itself, named after its schema, in the place of an earlier copy.

    Raises CarbontrackError, for instance where the disk is full.
    """
    backup = path.with_name(f"{path.name}.backup-{revision}")
    fresh = backup.with_name(f"{backup.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        create_file(fresh)
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            connection.execute("VACUUM INTO ?", (str(fresh),))
        fresh.replace(backup)
    except (OSError, sqlite3.Error) as error:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise CarbontrackError(
            f"The ledger {path} is not upgraded: its backup {backup} cannot be written: {error}.",
            exit_code=1,
        ) from error
    return backup


def on_network(path: Path) -> bool:
    """Whether several machines may share the file's filesystem; of FUSE that is unknown."""
    return bool(_NETWORK.match(_filesystem(path.resolve())))


def _filesystem(path: Path) -> str:
    """The type of the filesystem mounted nearest above `path`; "" if unknown."""
    try:
        lines = MOUNTS.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    nearest, found = -1, ""
    for line in lines:
        _, place, kind, *_ = line.split(" ")
        folder = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), place))
        # Of two mounts on one folder the later one is seen.
        if path.is_relative_to(folder) and len(folder.parts) >= nearest:
            nearest, found = len(folder.parts), kind
    return found


def _refuse_programs(connection: sqlite3.Connection, path: Path) -> None:
    """A ledger has no views and no triggers: what they say would run here."""
    query = "select name from sqlite_master where type in ('view', 'trigger') limit 1"
    if (found := connection.execute(query).fetchone()) is not None:
        raise CarbontrackError(
            f"The ledger {path} has a view or trigger, {found[0]}, which carbontrack did not make.",
            hint="Ask who made it; it is not read.",
        )


def _refuse_others(connection: sqlite3.Connection, path: Path) -> None:
    """Nothing is written into a file of another program, not even how it is to be journalled."""
    names = _names(connection)
    if names and not {"alembic_version", "windows"} <= names:
        raise another_program(str(path))


def another_program(name: str) -> CarbontrackError:
    """The error for a file that is neither written nor taken for an empty ledger."""
    return CarbontrackError(
        f"{name} is a database of another program.",
        hint="Name another file with --db or CARBONTRACK_DB.",
    )


def is_locked(error: BaseException) -> bool:
    """Whether another process holds the file."""
    return _primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_damaged(error: BaseException) -> bool:
    """Whether the file is not a database, or a broken one."""
    return _primary_code(error) in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


def _primary_code(error: BaseException) -> int | None:
    """SQLite's primary result code: the low byte of the extended one. None if unknown."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _journal_in(connection: sqlite3.Connection, wanted: str, busy_timeout_ms: int) -> None:
    """Set how the file is journalled, which needs it for a moment alone."""
    deadline = time.monotonic() + busy_timeout_ms / 1000
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    while mode.upper() != wanted:
        try:
            (mode,) = connection.execute(f"PRAGMA journal_mode={wanted}").fetchone()
            break  # with any answer: a filesystem may not be able to write ahead
        except sqlite3.OperationalError:
            # Two that both want to switch are refused at once: SQLite's own timeout does not apply.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    # In WAL, NORMAL may lose the last commits with the power, but never the file.
    connection.execute(f"PRAGMA synchronous={'NORMAL' if mode == 'wal' else 'FULL'}")
