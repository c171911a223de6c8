"""Where the rows come from that a ledger takes in: another ledger, as it is at one moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from sqlalchemy import Connection, text

from carbontrack.errors import CarbontrackError
from carbontrack.ledger import HEAD, engine
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
        return int(self.connection.scalar(text(f'select count(*) from "{table.name}"')) or 0)

    def rows(self, table: Table[Any]) -> Iterator[tuple[Any, ...]]:
        if table is WINDOWS:
            yield from self._windows()
            return
        yield from map(tuple, self.connection.execute(text(table.query)))

    def _windows(self) -> Iterator[tuple[Any, ...]]:
        """As the table's key has them: to sort them would take room for all."""
        keys = self.connection.execute(text(f"select key from {RECORDINGS.name}")).scalars().all()
        query = text(
            f"{WINDOWS.query} where recording_key = :key and level = :level "
            "order by start_ms, sensor_key"
        )
        for key in keys:
            for level in reversed(LEVELS_S):
                found = self.connection.execute(query, {"key": key, "level": level})
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
            if revision != HEAD:
                raise CarbontrackError(
                    f"The ledger {redacted_url(url)} has schema {revision}, not {HEAD}.",
                    hint=f"Upgrade it first: carbontrack db upgrade{db_option(url)}",
                )
            yield LedgerSource(redacted_url(url), connection)
    finally:
        reader.dispose()
