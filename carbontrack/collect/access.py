"""Which project a token lets write into, asked of the ledger at most every few seconds."""

from __future__ import annotations

import threading
import time

from carbontrack.ledger import tokens
from carbontrack.ledger.transaction import WritableLedger

_REMEMBERED_S = 5.0  # after which a revoked token is refused
_MOST = 4_096


class Access:
    """Thread-safe."""

    def __init__(self, ledger: WritableLedger) -> None:
        """`ledger` is one of its own, for the intake may be writing into its for long."""
        self._ledger = ledger
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, str | None]] = {}  # by the token's hash

    def remembered(self, secret: str) -> str | None:
        """The project of a token that was looked up a moment ago; else None."""
        until_s, project = self._known.get(tokens.hash_of(secret), (0.0, None))
        return project if time.monotonic() < until_s else None

    def project_of(self, secret: str) -> str | None:
        """None for one that is unknown or revoked. Raises the database's error."""
        hash = tokens.hash_of(secret)
        now_s = time.monotonic()
        with self._lock:
            until_s, project = self._known.get(hash, (0.0, None))
        if now_s < until_s:
            return project
        with self._ledger.reading() as transaction:
            project = tokens.project_of(transaction, secret)
        with self._lock:
            if len(self._known) >= _MOST:  # somebody tries tokens
                self._known.clear()
            self._known[hash] = (now_s + _REMEMBERED_S, project)
        return project

    def look(self) -> None:
        """Raise the database's error if it does not answer."""
        with self._ledger.reading() as transaction:
            list(transaction.ask("select 1 as one from tokens limit 1", {}))
