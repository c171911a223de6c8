"""Deletes what is left of runs that were removed, and what is now of nodes that never came back,
beside the batches that are taken.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing

from carbontrack.ledger import live_row
from carbontrack.ledger.remove import sweep
from carbontrack.ledger.transaction import WritableLedger
from carbontrack.units import MS_PER_DAY, now_ms

LOST_MS = 7 * MS_PER_DAY
"""A node that was not heard of for so long is no longer among those that are recorded now."""

_AGAIN_S = 60.0  # another command may have left something; the database may have been away


class Sweeper:
    """A thread that looks for them when a tombstone has come, and every now and then."""

    def __init__(self, ledger: Callable[[], WritableLedger], log: Callable[[str], None]) -> None:
        """`ledger` opens it, for this thread alone."""
        self._ledger = ledger
        self._log = log
        self._woken = threading.Event()
        self._woken.set()
        threading.Thread(target=self._run, name="sweep", daemon=True).start()

    def wake(self) -> None:
        """A run was removed."""
        self._woken.set()

    def _run(self) -> None:
        while True:
            self._woken.wait(_AGAIN_S)
            self._woken.clear()
            try:
                with closing(self._ledger()) as ledger:
                    swept = sweep(ledger)
                    with ledger.begin() as transaction:
                        live_row.forget(transaction, now_ms() - LOST_MS)
            except Exception:  # the database is away: `/healthz` says so
                continue
            if swept:
                self._log(f"{swept} removed run{'s are' if swept > 1 else ' is'} deleted")
