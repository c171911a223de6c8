"""A team's ledger on a server that is written by SQL, batch by batch, as a collector writes it.

Each batch has a connection of its own: a server holds a few hundred, and a node needs it for a
moment in ten seconds. And each has a deadline.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from typing import TYPE_CHECKING

from carbontrack.errors import CarbontrackError
from carbontrack.ledger.batch import Batch
from carbontrack.ledger.clock import measured
from carbontrack.ledger.rows import ClockOffset, Tombstone
from carbontrack.ledger.transaction import Transaction, WritableLedger, open_ledger
from carbontrack.ledger.url import redacted_url
from carbontrack.record.ledger_writer import first_line
from carbontrack.record.target import OTHER_VERSION, REMOVED, Answer, NotShipped
from carbontrack.units import MS_PER_S, now_ms

if TYPE_CHECKING:
    from carbontrack.ledger.shipped import Reply, Sent

_DEADLINE_S = 10.0
_BUSY_TIMEOUT_MS = 5_000


class Server:
    """Takes batches into the ledger at a URL, with all that they say: who has its password may
    write every project.
    """

    def __init__(self, url: str) -> None:
        self.name = redacted_url(url)
        self._url = url
        self._clock: ClockOffset | None = None

    def send(self, batch: Batch) -> Answer:
        """Write a batch. Raises NotShipped."""
        return self._answer(lambda: self._take(batch))

    def remove(self, tombstone: Tombstone) -> Answer:
        """Write a tombstone, and delete what is there of the run. Raises NotShipped: the next time
        what is left is deleted.
        """
        return self._answer(lambda: self._remove(tombstone))

    def close(self) -> None:
        """Nothing is kept."""

    def _answer(self, write: Callable[[], Reply]) -> Answer:
        from carbontrack.ledger.engine import lacks_rights, refuses_rows

        try:
            try:
                reply = write()
            except Exception as error:
                if isinstance(error, CarbontrackError) or not refuses_rows(error):
                    raise
                reply = write()  # another writer may have come between
        except CarbontrackError as error:  # its schema, or the address
            raise NotShipped(str(error), Answer(OTHER_VERSION)) from None
        except Exception as error:
            if refuses_rows(error):
                return Answer(422, first_line(error))
            said = f"{self.name} cannot be written: {first_line(error)}"
            if lacks_rights(error):
                said += "; its owner has to grant what docs/collector.md says of roles"
            raise NotShipped(said) from None
        status = REMOVED if reply.is_removed else 200
        return Answer(status, held=reply.held, clock=self._clock)

    def _take(self, sent: Sent) -> Reply:
        from carbontrack.ledger.shipped import take

        with self._open() as ledger, ledger.begin() as transaction:
            self._clock = _clock(transaction)
            return take(transaction, [(sent, None)])[0]

    def _remove(self, tombstone: Tombstone) -> Reply:
        from carbontrack.ledger.remove import sweep

        reply = self._take(tombstone)
        with self._open() as ledger:
            sweep(ledger)
        return reply

    def _open(self) -> AbstractContextManager[WritableLedger]:
        ledger = open_ledger(self._url, busy_timeout_ms=_BUSY_TIMEOUT_MS, deadline_s=_DEADLINE_S)
        return closing(ledger)


def _clock(transaction: Transaction) -> ClockOffset:
    sent_ms, sent_s = now_ms(), time.monotonic()
    there_ms = transaction.now_ms()
    took_ms = round((time.monotonic() - sent_s) * MS_PER_S)
    return measured(sent_ms, took_ms, there_ms)
