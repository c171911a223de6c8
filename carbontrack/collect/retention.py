"""What is older than a team's ledger keeps goes, in a thread beside the intake."""

from __future__ import annotations

import threading
from collections.abc import Callable

from carbontrack.ledger.kept import Keep
from carbontrack.ledger.retain import drop_old
from carbontrack.ledger.transaction import WritableLedger
from carbontrack.redact import redact_text

_EVERY_S = 3_600.0


class Retention(threading.Thread):
    """Drops old partitions of a ledger on a server, now and every hour."""

    def __init__(self, ledger: WritableLedger, keep: Keep, log: Callable[[str], None]) -> None:
        super().__init__(name="retention", daemon=True)
        self._ledger = ledger
        self._keep = keep
        self._log = log
        self.dropped = 0  # partitions
        self.failures = 0

    def run(self) -> None:
        never = threading.Event()
        while True:
            self._once()
            never.wait(_EVERY_S)

    def _once(self) -> None:
        try:
            for one in drop_old(self._ledger, self._keep):
                self.dropped += 1
                self._log(f"dropped {one.name}, {one.size_bytes:,} bytes, which were too old")
        except Exception as error:  # the database is away, say: the next time it may be there
            self.failures += 1
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            self._log(f"what is too old could not be dropped: {redact_text(reason)}")
