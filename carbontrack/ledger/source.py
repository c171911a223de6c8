"""Where the rows come from that a ledger takes in: another ledger, as it is at one moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from sqlalchemy import Connection, text

from carbontrack.errors import CarbontrackError
from carbontrack.ledger import engine
from carbontrack.ledger.stored_windows import count_windows
from carbontrack.ledger.tables import RECORDINGS, WINDOWS, Table
from carbontrack.ledger.url import db_option, redacted_url, sqlite_path
from carbontrack.ledger.window import LEVELS_S


class Source(Protocol):
    """Rows of all tables of `CARRIED`, which refer to each other by integers of their own."""

    @property
    def name(self) -> str:
        """What people call it."""

    def count(self, table: Table[Any]) -> int:
        """How many rows it has of a table."""

    def rows(self, table: Table[Any]) -> Iterator[tuple[Any, ...]]:
        """Their columns as `Table.carried` names them, JSON as text. Of a recording's windows the
        longer ones come first.
        """


class LedgerSource:
    """A ledger on an open connection."""

    def __init__(self, name: str, connection: Connection) -> None:
        self.name = name
        self.connection = connection.execution_options(stream_results=True)

    def count(self, table: Table[Any]) -> int:
        if table is WINDOWS:
            return count_windows(self.connection)
        return int(self.connection.scalar(text(f'select count(*) from "{table.name}"')) or 0)

    def rows(self, table: Table[Any]) -> Iterator[tuple[Any, ...]]:
        if table is not WINDOWS:
            yield from map(tuple, self.connection.execute(text(table.query)))
            return
        keys = self.connection.execute(text(f"select key from {RECORDINGS.name} order by key"))
        for key in keys.scalars().all():
            yield from self.of_recording(table, key)

    def of_recording(self, table: Table[Any], key: int) -> Iterator[tuple[Any, ...]]:
        """The rows of a recording, in the order of time; windows level by level, longer ones first,
        which is how their key has them: to sort them would take room for all.
        """
        query = f"{table.query} where recording_key = :key"
        if table is not WINDOWS:
            ordered = text(f"{query} order by time_ms")
            yield from map(tuple, self.connection.execute(ordered, {"key": key}))
            return
        of_level = text(f"{query} and level = :level order by start_ms, sensor_key")
        for level in reversed(LEVELS_S):
            found = self.connection.execute(of_level, {"key": key, "level": level})
            yield from map(tuple, found)


@contextmanager
def open_source(url: str) -> Iterator[LedgerSource]:
    """A ledger at a URL of `ledger_url`, as it is now; nothing is written into it.

    Raises CarbontrackError if there is none, it cannot be read or has another schema.
    """
    reader = engine.open_as_it_is(url)
    try:
        with reader.connect() as connection:
            if sqlite_path(url) is None:  # where each query would see a later state
                connection.execution_options(isolation_level="REPEATABLE READ")
            revision = engine.revision_of(connection, url)
            if revision is None:
                raise engine.NoLedger(url)
            if revision != engine.HEAD:
                raise CarbontrackError(
                    f"The ledger {redacted_url(url)} has schema {revision}, not {engine.HEAD}.",
                    hint=f"Upgrade it first: carbontrack db upgrade{db_option(url)}",
                )
            yield LedgerSource(redacted_url(url), connection)
    finally:
        reader.dispose()
