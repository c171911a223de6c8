"""A collector as its nodes see it: one request a batch.

Standard library only. Each request has a deadline as a whole: a server, or what lies before it, may
take the connection and then say nothing, or a byte a second.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from carbontrack.errors import CarbontrackError
from carbontrack.ledger.batch import (
    LATE_HEADER,
    PATH,
    TIME_HEADER,
    TOMBSTONES_PATH,
    Batch,
    Held,
    encode,
    encode_tombstone,
)
from carbontrack.ledger.clock import measured
from carbontrack.ledger.rows import ClockOffset, Tombstone
from carbontrack.record.ledger_writer import first_line
from carbontrack.record.ship_to import Address
from carbontrack.record.target import NO_TOKEN, Answer, NotShipped
from carbontrack.report.escape import visible
from carbontrack.units import MS_PER_S, now_ms

DEADLINE_S = 5.0
_MAX_ANSWER_BYTES = 64 << 10
_LAST_MS = 1 << 53  # what is later is no time


class Collector:
    """Posts batches. A connection is used again while it lasts."""

    def __init__(self, at: Address, token: Callable[[], str]) -> None:
        """`token` is asked for each batch, for it may change."""
        self.name = str(at)
        self._at = at
        self._token = token
        self._connection: http.client.HTTPConnection | None = None

    def send(self, batch: Batch) -> Answer:
        """Send a batch. Raises NotShipped."""
        return self._send(PATH, encode(batch))

    def remove(self, tombstone: Tombstone) -> Answer:
        """Send a tombstone. Raises NotShipped."""
        return self._send(TOMBSTONES_PATH, encode_tombstone(tombstone))

    def _send(self, path: str, body: bytes) -> Answer:
        try:
            answer = self._post(path, body, self._token())
        except (OSError, http.client.HTTPException) as error:
            raise NotShipped(f"{self.name} does not answer: {first_line(error)}") from None
        except CarbontrackError as error:
            raise NotShipped(str(error), Answer(NO_TOKEN)) from None
        if answer.is_final:
            return answer
        said = visible(answer.reason) or f"status {answer.status}"
        raise NotShipped(f"{self.name} takes nothing now: {said}", answer)

    def close(self) -> None:
        """Leave the connection."""
        if self._connection is not None:
            with suppress(OSError):
                self._connection.close()
            self._connection = None

    def _post(self, path: str, body: bytes, token: str) -> Answer:
        kept = self._connection is not None
        try:
            return self._exchange(path, body, token)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            if not kept:
                raise
            return self._exchange(path, body, token)  # it had closed the connection that was kept

    def _exchange(self, path: str, body: bytes, token: str) -> Answer:
        connection = self._connection or self._connect()
        self._connection = connection
        deadline = threading.Timer(DEADLINE_S, _hang_up, [connection])
        deadline.daemon = True
        deadline.start()
        try:
            headers = {
                "Authorization": f"Bearer {token}",
                "Content-Type": "application/json",
                "Content-Encoding": "deflate",
            }
            if connection.sock is None:
                connection.connect()  # which takes longer than what is timed
            sent_ms, sent_s = now_ms(), time.monotonic()
            connection.request("POST", f"{self._at.path}{path}", body, headers)
            answer = connection.getresponse()
            took_ms = round((time.monotonic() - sent_s) * MS_PER_S)
            content = answer.read(_MAX_ANSWER_BYTES + 1)
            if len(content) > _MAX_ANSWER_BYTES:
                raise http.client.HTTPException("the answer is too long")
        except BaseException:
            self.close()
            raise
        finally:
            deadline.cancel()
        return replace(_answer(answer, content), clock=_clock(answer, sent_ms, took_ms))

    def _connect(self) -> http.client.HTTPConnection:
        at = self._at
        if not at.https:
            return http.client.HTTPConnection(at.host, at.port, timeout=DEADLINE_S)
        import ssl  # which trusts what SSL_CERT_FILE names

        context = ssl.create_default_context()
        return http.client.HTTPSConnection(at.host, at.port, timeout=DEADLINE_S, context=context)


def _hang_up(connection: http.client.HTTPConnection) -> None:
    """End what waits on a connection, from another thread."""
    if connection.sock is not None:
        with suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)


def _clock(answer: http.client.HTTPResponse, sent_ms: int, took_ms: int) -> ClockOffset | None:
    """None where what answers is no collector."""
    with suppress(ValueError):
        there_ms = int(answer.getheader(TIME_HEADER, ""))
        if abs(there_ms) <= _LAST_MS:
            return measured(sent_ms, took_ms, there_ms)
    return None


def _answer(answer: http.client.HTTPResponse, content: bytes) -> Answer:
    said: object = None
    with suppress(ValueError):
        said = json.loads(content) if content else None
    reason, held = "", None
    if isinstance(said, dict):
        reason = str(said.get("error", ""))[:500]
        with suppress(KeyError, TypeError, ValueError):
            held = Held(**{name: int(said[name]) for name in Held.__dataclass_fields__})
    wait_s: float | None = None
    with suppress(ValueError):
        wait_s = float(answer.getheader("Retry-After", ""))
    late_rows = 0
    with suppress(ValueError):
        late_rows = max(0, int(answer.getheader(LATE_HEADER, "0")))
    return Answer(answer.status, reason, wait_s, held, late_rows=late_rows)
