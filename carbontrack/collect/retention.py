"""What is older than a team's ledger keeps goes, in a thread beside the intake."""

from __future__ import annotations

import threading
from collections.abc import Callable

from carbontrack.collect.metrics import Metrics
from carbontrack.ledger.kept import Keep
from carbontrack.ledger.retain import drop_old, roll_hours
from carbontrack.ledger.transaction import WritableLedger
from carbontrack.redact import redact_text

_EVERY_S = 3_600.0


class Retention(threading.Thread):
    """Drops old partitions of a ledger on a server, and adds up the hours that are over, now and
    every hour.
    """

    def __init__(
        self, ledger: WritableLedger, keep: Keep, metrics: Metrics, log: Callable[[str], None]
    ) -> None:
        super().__init__(name="retention", daemon=True)
        self._ledger = ledger
        self._keep = keep
        self._metrics = metrics
        self._log = log

    def run(self) -> None:
        never = threading.Event()
        while True:
            self._once()
            never.wait(_EVERY_S)

    def _once(self) -> None:
        try:
            for one in drop_old(self._ledger, self._keep):
                self._metrics.dropped()
                self._log(f"dropped {one.name}, {one.size_bytes:,} bytes, which were too old")
            roll_hours(self._ledger)
        except Exception as error:  # the database is away, say: the next time it may be there
            self._metrics.not_dropped()
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            self._log(f"what is too old could not be dropped: {redact_text(reason)}")
