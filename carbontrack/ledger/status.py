"""What a ledger is and holds, as `db status` and `doctor` show it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select

from carbontrack.ledger import engine, models, stored_windows
from carbontrack.ledger.beside import files_beside
from carbontrack.ledger.find import PRESENT
from carbontrack.ledger.journals import waiting
from carbontrack.ledger.url import redacted_url, sqlite_path


@dataclass(frozen=True, slots=True)
class LedgerStatus:
    """A ledger as `db status` shows it. Its counts are None if the ledger does not exist."""

    ledger: str  # without the password
    dialect: str
    revision: str | None
    head: str
    runs: int | None = None
    windows: int | None = None
    size_bytes: int | None = None
    journals: int = 0  # what waits for `db recover`
    beside: tuple[str, ...] = ()  # files that wait for `db upgrade`


def status_of(url: str) -> LedgerStatus:
    """Look at a ledger as it is: missing, of this or of an older schema.

    Raises CarbontrackError if it cannot be read or is newer than we are.
    """
    path = sqlite_path(url)
    dialect = "sqlite" if path is not None else "postgresql"
    known = (redacted_url(url), dialect)
    waits: dict[str, Any] = {
        "journals": len(waiting(url)),
        "beside": tuple(str(file) for file in files_beside(url)),
    }
    try:
        reader = engine.open_as_it_is(url)
    except engine.NoLedger:
        return LedgerStatus(*known, revision=None, head=engine.HEAD, **waits)
    with reader.connect() as connection:
        revision = engine.revision_of(connection, url)
        return LedgerStatus(
            *known,
            revision=revision,
            head=engine.HEAD,
            runs=_count(connection, models.Run, PRESENT) if revision else None,
            windows=stored_windows.count_windows(connection) if revision else None,
            size_bytes=_file_size(path) if path else _database_size(connection),
            **waits,
        )


def _count(connection: Connection, table: type[models.Base], *wanted: ColumnElement[bool]) -> int:
    return connection.scalar(select(func.count()).select_from(table).where(*wanted)) or 0


def _file_size(path: Path) -> int:
    """With what was written ahead: a young ledger is still all there."""
    files = (path, path.with_name(f"{path.name}-wal"))
    return sum(file.stat().st_size for file in files if file.exists())


def _database_size(connection: Connection) -> int | None:
    return connection.scalar(select(func.pg_database_size(func.current_database())))
