"""Shipping a ledger to a collector, batch by batch: once by hand, or by a thread of the recorder.

Nothing waits for it. What cannot be delivered stays in the local ledger, which is the queue.
"""

from __future__ import annotations

import hashlib
import http.client
import random
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from carbontrack.errors import CarbontrackError
from carbontrack.ledger import backlog, set_aside
from carbontrack.ledger.batch import Held, encode
from carbontrack.ledger.transaction import Transaction, open_ledger
from carbontrack.record.collector import Answer, Collector
from carbontrack.record.ledger_writer import first_line
from carbontrack.record.ship_to import Address
from carbontrack.redact import redact_text
from carbontrack.report.escape import visible
from carbontrack.units import now_ms

EVERY_S = 10.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 300.0
_BUSY_TIMEOUT_MS = 250
_TAKEN = (200, 204)
_UNFIT = (400, 403, 413, 422)  # for what the batch holds: the same answer comes again
NO_TOKEN = 401
OTHER_VERSION = 409


class NotShipped(Exception):
    """The collector takes nothing now; `answer` is what it said, None if it did not answer."""

    def __init__(self, why: str, answer: Answer | None = None) -> None:
        super().__init__(why)
        self.answer = answer


@dataclass(slots=True)
class Shipped:
    """What came of it so far."""

    batches: int = 0
    rows: int = 0
    set_aside: list[str] = field(default_factory=list)  # why


class Shipping:
    """Everything that a collector lacks of one ledger."""

    def __init__(
        self,
        url: str,
        at: Address,
        token: Callable[[], str],
        with_seconds: Collection[str] = (),
    ) -> None:
        """`token` is asked for each batch, for it may change; of the runs `with_seconds` (ids) the
        seconds are shipped, too.
        """
        self.url = url
        self._target = str(at)
        self._collector = Collector(at)
        self._token = token
        self._with_seconds = with_seconds
        self._again: set[str] = set()  # recordings that were sent a second time
        self.shipped = Shipped()

    def waiting(self) -> list[str]:
        """The ids of the recordings with something to ship."""
        with self._transaction() as transaction:
            return backlog.recordings(transaction, self._target, self._with_seconds)

    def ship(self, recording_id: str) -> None:
        """All that waits of one recording. Raises NotShipped, or the ledger's error."""
        while True:
            with self._transaction() as transaction:
                part = backlog.next_part(
                    transaction,
                    recording_id,
                    self._target,
                    with_seconds=self._with_seconds,
                    now_ms=now_ms(),
                )
                here = part and part.batch.final and backlog.held(transaction, recording_id)
            if part is None:
                return
            body = encode(part.batch)
            answer = self._post(body)
            if answer.status not in _TAKEN:
                set_aside.put(self.url, recording_id, self._target, answer.reason, body)
                self.shipped.set_aside.append(answer.reason or f"status {answer.status}")
            self.shipped.batches += 1
            self.shipped.rows += part.batch.rows
            with self._transaction() as transaction:
                if (
                    here
                    and answer.held is not None
                    and self._lacks(recording_id, answer.held, here)
                ):
                    backlog.ship_again(transaction, [recording_id])
                    continue
                backlog.set_mark(transaction, recording_id, part.mark)
            if part.complete:
                return

    def retry(self) -> int:
        """Send again what was set aside; how many were taken. Raises NotShipped."""
        taken = 0
        for one in set_aside.found(self.url):
            if one.target == self._target and self._post(one.body).status in _TAKEN:
                one.path.unlink(missing_ok=True)
                taken += 1
        return taken

    def close(self) -> None:
        """Leave the connection."""
        self._collector.close()

    def _lacks(self, recording_id: str, there: Held, here: Held) -> bool:
        """Whether the collector has less than we: once, all is sent again."""
        less = any(getattr(there, name) < getattr(here, name) for name in Held.__dataclass_fields__)
        if not less or recording_id in self._again:
            return False
        self._again.add(recording_id)
        return True

    def _post(self, body: bytes) -> Answer:
        """An answer that settles what becomes of the batch. Raises NotShipped."""
        try:
            answer = self._collector.post(body, self._token())
        except (OSError, http.client.HTTPException) as error:
            raise NotShipped(f"{self._target} does not answer: {first_line(error)}") from None
        except CarbontrackError as error:
            raise NotShipped(str(error), Answer(NO_TOKEN)) from None
        if answer.status in _TAKEN or answer.status in _UNFIT:
            return answer
        said = visible(answer.reason) or f"status {answer.status}"
        raise NotShipped(f"{self._target} takes nothing now: {said}", answer)

    @contextmanager
    def _transaction(self) -> Iterator[Transaction]:
        with (
            closing(open_ledger(self.url, busy_timeout_ms=_BUSY_TIMEOUT_MS)) as ledger,
            ledger.begin() as transaction,
        ):
            yield transaction


class Shipper(threading.Thread):
    """Ships a ledger while a run is recorded, every few seconds, at a phase of its own host."""

    def __init__(self, shipping: Shipping, host: str, warn: Callable[[str], None]) -> None:
        super().__init__(name="ship", daemon=True)
        self._shipping = shipping
        self._warn = warn
        self._phase_s = int(hashlib.sha256(host.encode()).hexdigest(), 16) % 1000 / 1000 * EVERY_S
        self._woken = threading.Event()
        self._ending = threading.Event()
        self._warned = ""
        self._failures = 0

    def run(self) -> None:
        pause_s = _until_phase(self._phase_s)
        while True:
            self._woken.wait(pause_s)
            self._woken.clear()
            ending = self._ending.is_set()
            pause_s = self._once()
            if ending:
                return

    def finish(self, timeout_s: float) -> None:
        """Ship what the end of the recording has added, within a time; the rest stays queued."""
        self._ending.set()
        self._woken.set()
        self.join(timeout_s)

    def _once(self) -> float:
        """Ship what waits; the pause until the next time."""
        try:
            for recording_id in self._shipping.waiting():
                self._shipping.ship(recording_id)
        except NotShipped as error:
            return self._failed(error)
        except Exception as error:  # the ledger is locked, away or full: its writer says so
            self._say(f"nothing is shipped now: {first_line(error)}")
            return self._backed_off()
        if self._failures and self._warned:
            self._warn("the collector takes batches again; nothing was lost.")
        self._failures, self._warned = 0, ""
        for reason in self._shipping.shipped.set_aside:
            self._warn(f"the collector refused a batch, which is set aside: {visible(reason)}.")
        self._shipping.shipped.set_aside.clear()
        return _until_phase(self._phase_s)

    def _failed(self, error: NotShipped) -> float:
        answer = error.answer
        self._say(str(error))
        if answer is not None and answer.retry_after_s is not None:
            return max(answer.retry_after_s, self._backed_off())
        if answer is not None and answer.status in (NO_TOKEN, OTHER_VERSION):
            self._failures = max(self._failures, 6)  # a person has to do something
        return self._backed_off()

    def _backed_off(self) -> float:
        self._failures += 1
        pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(self._failures - 1, 10))
        return pause_s * random.uniform(0.75, 1.25)

    def _say(self, why: str) -> None:
        """Once, until it works again: a second failure in a row, or one that waiting cannot fix."""
        if not self._warned and self._failures:
            self._warned = why
            self._warn(f"{redact_text(why)}; it is kept here and sent later.")


def _until_phase(phase_s: float) -> float:
    """Seconds until the next time that is this host's."""
    since_s: float = (time.time() - phase_s) % EVERY_S
    return EVERY_S - since_s
