"""What waits on this host for a ledger on a server, which its recorders have not reached."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress

from carbontrack.ledger import HEAD, backlog, sqlite
from carbontrack.ledger.transaction import LedgerFile
from carbontrack.ledger.url import recorded_in, redacted_url, sqlite_path
from carbontrack.units import now_ms


def unsent(url: str) -> int:
    """How many recordings that ended here are not in the ledger at a URL yet; 0 of a file."""
    path = sqlite_path(recorded_in(url))
    if sqlite_path(url) is not None or path is None or not path.exists():
        return 0
    with (
        suppress(sqlite3.Error),  # it is only a remark
        closing(sqlite.connect(path, busy_timeout_ms=0, read_only=True)) as file,
    ):
        if sqlite.revision_of(file) == HEAD:
            return backlog.how_many_stopped(LedgerFile(file), redacted_url(url), now_ms=now_ms())
    return 0
