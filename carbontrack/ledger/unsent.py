"""What a file of this host says without being written: what waits for a ledger on a server, and how
far the clock here is off. It is only a remark, so nothing where the file cannot be read now.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

from carbontrack.folders import NoHome
from carbontrack.ledger import HEAD, backlog, sqlite
from carbontrack.ledger.rows import ClockOffset
from carbontrack.ledger.transaction import LedgerFile
from carbontrack.ledger.url import recorded_in, redacted_url, sqlite_path
from carbontrack.units import now_ms


def unsent(url: str) -> int:
    """How many recordings that ended here are not in the ledger at a URL yet; 0 of a file."""
    if sqlite_path(url) is None:
        with suppress(sqlite3.Error), _file(url) as file:
            if file is not None:
                return backlog.how_many_stopped(file, redacted_url(url), now_ms=now_ms())
    return 0


def last_clock(url: str) -> ClockOffset | None:
    """How far the clock here was off, as the newest recorder that ships found out; None if that is
    not known.
    """
    with suppress(sqlite3.Error), _file(url) as file:
        if file is not None:
            return backlog.last_clock(file)
    return None


@contextmanager
def _file(url: str) -> Iterator[LedgerFile | None]:
    """The file that recorders of this host write for a ledger; None if there is none of ours."""
    try:
        path = sqlite_path(recorded_in(url))
    except NoHome:
        path = None
    # With os.path, which answers of a folder that is closed to us, too.
    if path is None or not os.path.exists(path):  # noqa: PTH110
        yield None
        return
    with closing(sqlite.connect(path, busy_timeout_ms=0, read_only=True)) as file:
        yield LedgerFile(file) if sqlite.revision_of(file) == HEAD else None
