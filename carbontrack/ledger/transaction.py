"""Transactions that write, in a ledger's file without SQLAlchemy.

Importing that takes 0.3 s and 25 MB: longer than many a job lasts, and more than all the rest of a
recorder. So a ledger's file is made and written through `sqlite3` alone; one that has to be
upgraded first, and a server, through SQLAlchemy. Statements are of the SQL that both databases have
in common: `:name` stands for a value, and `is :name` compares with one that may be NULL.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

from carbontrack.ledger import BUSY_TIMEOUT_MS, HEAD, file_windows, sqlite
from carbontrack.ledger.recorded_tables import WINDOWS
from carbontrack.ledger.table import Table, plain
from carbontrack.ledger.url import sqlite_path
from carbontrack.ledger.window import FIRST_MS, LAST_MS
from carbontrack.units import now_ms

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, TextClause

    from carbontrack.ledger.joined import Better, Joined
    from carbontrack.ledger.packed import Stored
    from carbontrack.ledger.server_windows import ServerWindows

Values = Mapping[str, Any]
_ROWS_AT_ONCE = 1000


class Transaction(Protocol):
    """What can be asked and written between a BEGIN and its COMMIT."""

    def ask(self, statement: str, values: Values) -> Iterator[dict[str, Any]]:
        """The rows that a query finds, one at a time."""

    def now_ms(self) -> int:
        """By the clock of the ledger: that of its server, or of this machine."""

    def write(self, statement: str, rows: Sequence[Values]) -> None:
        """Run a statement for each of these; of none, nothing is done."""

    def put(self, table: Table[Any], rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert rows as `Table.in_order` makes them, or replace those of the same key."""

    def hold(self, recording_ids: Sequence[str]) -> None:
        """Let no other transaction write these recordings, as far as they are there, before this
        one ends; two that hold some of the same wait for each other in one order.
        """

    def array(self, values: Sequence[float | None]) -> Any:
        """Numbers as a column of `Table.arrays` takes them."""

    def put_better(self, rows: Sequence[tuple[Any, ...]], is_better: Better) -> Joined:
        """Insert windows, with the columns of `WINDOWS` in order; of two of one place the better
        one stays.
        """

    def put_segments(self, segments: Sequence[Stored], is_better: Better) -> None:
        """Insert seconds that are packed by the minute, likewise."""

    def remove_windows(
        self,
        recording_key: int,
        levels_s: Sequence[int],
        *,
        from_ms: int = FIRST_MS,
        to_ms: int = LAST_MS,
        sensors: Sequence[int] | None = None,
    ) -> None:
        """Delete a recording's windows of these lengths between two times, which are whole minutes;
        of all sensors, or of some.
        """


class WritableLedger(Protocol):
    """A ledger that is open for writing, thread-safe. What fails raises the database's error, or
    SQLAlchemy's.
    """

    def begin(self) -> AbstractContextManager[Transaction]:
        """A transaction: written whole at its end, or not at all where an error leaves it."""

    def reading(self) -> AbstractContextManager[Transaction]:
        """A transaction that only asks: it sees one moment, and does not wait for writers."""

    def close(self) -> None:
        """Leave it: the last user of a file moves what was written ahead into the file itself."""


def open_ledger(
    url: str, *, busy_timeout_ms: int = BUSY_TIMEOUT_MS, deadline_s: float | None = None
) -> WritableLedger:
    """The ledger at a URL of `ledger_url`; it is made, or its file upgraded, if need be. With a
    deadline a server's answer is waited for so long only, here and in each transaction.

    Raises CarbontrackError as `engine.open_writer` does, and for an error of the database.
    """
    path = sqlite_path(url)
    if path is None:
        from carbontrack.ledger.engine import open_writer

        engine = open_writer(url, busy_timeout_ms=busy_timeout_ms, deadline_s=deadline_s)
        return LedgerServer(engine, deadline_s)
    sqlite.create_file(path)
    file = sqlite.connect(path, busy_timeout_ms=busy_timeout_ms)
    try:
        sqlite.make_schema(file)
        if sqlite.revision_of(file) == HEAD:
            return LedgerFile(file)
    except BaseException:
        file.close()
        raise
    file.close()
    from carbontrack.ledger.engine import open_writer

    open_writer(url, busy_timeout_ms=busy_timeout_ms).dispose()
    return LedgerFile(sqlite.connect(path, busy_timeout_ms=busy_timeout_ms))


@contextmanager
def changing(url: str) -> Iterator[Transaction]:
    """One transaction of a command on the ledger at a URL, which is made if there is none.

    Raises CarbontrackError if the ledger cannot be written, and nothing is.
    """
    from carbontrack.ledger.engine import errors_in_one_line

    with (
        errors_in_one_line(url),
        closing(open_ledger(url)) as ledger,
        ledger.begin() as transaction,
    ):
        yield transaction


def recorders_url(url: str) -> str:
    """Where a recorder writes that is meant to write at `url`: there, but for a file of an older
    schema beside it, for to upgrade that may take minutes.
    """
    path = sqlite_path(url)
    if path is None or not path.exists() or path.stat().st_size == 0:
        return url
    with closing(sqlite.connect(path, busy_timeout_ms=0, read_only=True)) as file:
        revision = sqlite.revision_of(file)
    if revision is None or revision >= HEAD:
        return url
    return f"sqlite:///{path.with_name(f'{path.stem}-{HEAD}{path.suffix}')}"


class LedgerFile:
    """A SQLite ledger; it is its own transaction, for it has one at a time: other threads wait."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._alone = threading.RLock()  # a second one of the same thread is SQLite's error

    @contextmanager
    def begin(self) -> Iterator[LedgerFile]:
        with self._alone, sqlite.transaction(self._connection):
            yield self

    @contextmanager
    def reading(self) -> Iterator[LedgerFile]:
        with self._alone, sqlite.transaction(self._connection, "BEGIN"):
            yield self

    def ask(self, statement: str, values: Values) -> Iterator[dict[str, Any]]:
        cursor = self._connection.execute(file_windows.translated(statement), values)
        names = [name for name, *_ in cursor.description]
        return (dict(zip(names, row, strict=True)) for row in cursor)

    def now_ms(self) -> int:
        return now_ms()

    def write(self, statement: str, rows: Sequence[Values]) -> None:
        self._connection.executemany(statement, rows)

    def put(self, table: Table[Any], rows: Sequence[tuple[Any, ...]]) -> None:
        self._connection.executemany(table.upsert_in_order, rows)

    def hold(self, recording_ids: Sequence[str]) -> None:
        """One transaction writes a file at a time."""

    def array(self, values: Sequence[float | None]) -> Any:
        return json.dumps(values)

    def put_better(self, rows: Sequence[tuple[Any, ...]], is_better: Better) -> Joined:
        return file_windows.put_better(self._connection, rows, is_better)

    def put_segments(self, segments: Sequence[Stored], is_better: Better) -> None:
        from carbontrack.ledger.packed import unpack  # a recorder packs nothing

        self.put_better(list(chain.from_iterable(map(unpack, segments))), is_better)

    def remove_windows(
        self,
        recording_key: int,
        levels_s: Sequence[int],
        *,
        from_ms: int = FIRST_MS,
        to_ms: int = LAST_MS,
        sensors: Sequence[int] | None = None,
    ) -> None:
        file_windows.remove(self._connection, recording_key, levels_s, from_ms, to_ms, sensors)

    def close(self) -> None:
        self._connection.close()


class LedgerServer:
    """A ledger on a server, through an engine that finds it again after its restart."""

    def __init__(self, engine: Engine, deadline_s: float | None = None) -> None:
        self._engine = engine
        self._deadline_s = deadline_s
        self._clause = cache(_clause)

    @contextmanager
    def begin(self) -> Iterator[_ServerTransaction]:
        from carbontrack.ledger.postgresql import deadline

        with deadline(self._engine, self._deadline_s), self._engine.begin() as connection:
            yield _ServerTransaction(connection, self._clause)

    def reading(self) -> AbstractContextManager[Transaction]:
        return self.begin()

    def close(self) -> None:
        self._engine.dispose()


class _ServerTransaction:
    def __init__(self, connection: Connection, clause: Callable[[str], TextClause]) -> None:
        self._connection = connection
        self._clause = clause

    def ask(self, statement: str, values: Values) -> Iterator[dict[str, Any]]:
        if self._connection.dialect.name == "sqlite":
            statement = file_windows.translated(statement)
        found = self._connection.execute(self._clause(statement), values)
        names = list(found.keys())
        parts = found.partitions(_ROWS_AT_ONCE)  # one at a time they take twice as long
        return (dict(zip(names, row, strict=True)) for part in parts for row in part)

    def now_ms(self) -> int:
        if self._connection.dialect.name == "sqlite":
            return now_ms()
        return int(self._connection.execute(self._clause(_NOW), {}).scalar_one())

    def write(self, statement: str, rows: Sequence[Values]) -> None:
        if rows:
            self._connection.execute(self._clause(statement), rows)

    def put(self, table: Table[Any], rows: Sequence[tuple[Any, ...]]) -> None:
        if table is WINDOWS:
            self._windows().put(rows, None)
            return
        named = [dict(zip(table.columns, map(plain, row), strict=True)) for row in rows]
        self.write(table.upsert, named)

    def hold(self, recording_ids: Sequence[str]) -> None:
        if self._connection.dialect.name == "postgresql":
            self._connection.execute(self._clause(_HOLD), {"ids": list(recording_ids)}).all()

    def array(self, values: Sequence[float | None]) -> Any:
        return list(values)

    def put_better(self, rows: Sequence[tuple[Any, ...]], is_better: Better) -> Joined:
        return self._windows().put(rows, is_better)

    def put_segments(self, segments: Sequence[Stored], is_better: Better) -> None:
        self._windows().put_segments(segments, is_better)

    def remove_windows(
        self,
        recording_key: int,
        levels_s: Sequence[int],
        *,
        from_ms: int = FIRST_MS,
        to_ms: int = LAST_MS,
        sensors: Sequence[int] | None = None,
    ) -> None:
        self._windows().remove(recording_key, levels_s, from_ms, to_ms, sensors)

    def _windows(self) -> ServerWindows:
        from carbontrack.ledger.server_windows import ServerWindows

        return ServerWindows(self._connection)


_NOW = "select cast(extract(epoch from clock_timestamp()) * 1000 as bigint)"
_HOLD = "select key from recordings where id = any(:ids) order by key for no key update"


def asking(connection: Connection) -> Transaction:
    """What a connection that reads can be asked as a transaction is; it is not to be written."""
    return _ServerTransaction(connection, _clause)


class Within:
    """A ledger all of whose transactions are parts of one."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    @contextmanager
    def begin(self) -> Iterator[Transaction]:
        yield self._transaction

    def reading(self) -> AbstractContextManager[Transaction]:
        return self.begin()

    def close(self) -> None:
        """Does nothing: the one transaction ends by itself."""


def _clause(statement: str) -> TextClause:
    """With IS translated to IS NOT DISTINCT FROM."""
    from sqlalchemy import text

    return text(statement.replace(" is :", " is not distinct from :"))
