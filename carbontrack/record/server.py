"""A team's ledger on a server that is written by SQL, batch by batch, as a collector writes it.

Each batch has a connection of its own: a server holds a few hundred, and a node needs it for a
moment in ten seconds. And each has a deadline: a server, or what lies before it, may take what it
gets and then say nothing.
"""

from __future__ import annotations

import threading
from contextlib import closing

from carbontrack.errors import CarbontrackError
from carbontrack.ledger.batch import Batch, Held
from carbontrack.ledger.transaction import open_ledger
from carbontrack.ledger.url import redacted_url
from carbontrack.record.ledger_writer import first_line
from carbontrack.record.target import OTHER_VERSION, Answer, NotShipped

DEADLINE_S = 10.0
_BUSY_TIMEOUT_MS = 5_000


class Server:
    """Takes batches into the ledger at a URL, with all that they say: who has its password may
    write every project.
    """

    def __init__(self, url: str) -> None:
        self.name = redacted_url(url)
        self._url = url

    def send(self, batch: Batch) -> Answer:
        """Write a batch. Raises NotShipped."""
        from carbontrack.ledger.engine import refuses_rows
        from carbontrack.ledger.postgresql import hang_up

        deadline = threading.Timer(DEADLINE_S, hang_up)
        deadline.daemon = True
        deadline.start()
        try:
            return Answer(200, held=self._write(batch))
        except CarbontrackError as error:  # its schema, or the address
            raise NotShipped(str(error), Answer(OTHER_VERSION)) from None
        except Exception as error:
            if refuses_rows(error):
                return Answer(422, first_line(error))
            raise NotShipped(f"{self.name} cannot be written: {first_line(error)}") from None
        finally:
            deadline.cancel()

    def close(self) -> None:
        """Nothing is kept."""

    def _write(self, batch: Batch) -> Held | None:
        from carbontrack.ledger.shipped import take

        with (
            closing(open_ledger(self._url, busy_timeout_ms=_BUSY_TIMEOUT_MS)) as ledger,
            ledger.begin() as transaction,
        ):
            return take(transaction, [(batch, None)])[0]
