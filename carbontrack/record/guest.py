"""The recorder's end of a wrapper that joined by the run's socket."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import dataclass

from carbontrack.record.messages import Hello, Outcome
from carbontrack.record.rendezvous import peer_uid

_PIECE = 1 << 16
_MAX_MESSAGE = 1 << 18
_MAX_DESCRIPTORS = 2


@dataclass(frozen=True, slots=True)
class Guest:
    """A job whose wrapper joined, and its steps file, open here."""

    hello: Hello
    steps_fd: int | None


class GuestWrapper:
    """A wrapper that joined, at the other end of a socket."""

    def __init__(self, connection: socket.socket) -> None:
        self.descriptor = connection.fileno()
        self.outcome: Outcome | None = None
        self.has_joined = self.has_ended = False
        self._connection = connection
        self._stderr = -1

    @property
    def is_ours(self) -> bool:
        """Whether it is a process of our user."""
        return peer_uid(self._connection) == os.getuid()

    def read(self) -> Guest | None:
        """Hear one message: it joins, its job ended, or it is gone."""
        joins = None
        try:
            data, descriptors, _, _ = socket.recv_fds(
                self._connection, _MAX_MESSAGE, _MAX_DESCRIPTORS
            )
            if not self.has_joined and data:
                self._stderr, *steps = descriptors
                joins = Guest(Hello.from_json(data), steps[0] if steps else None)
                self.has_joined = True
            elif data:
                self.outcome = Outcome.from_json(data)
        except (OSError, ValueError, LookupError, TypeError):  # it died, or it is not one of ours
            data = b""
        self.has_ended = not data or self.outcome is not None
        return joins

    def take_stderr(self) -> None:
        """It is the last: the summary is for its stderr."""
        if self.outcome is not None:
            with suppress(OSError):
                os.dup2(self._stderr, 2)
        self._close_stderr()

    def listens(self) -> bool:
        """Whether it still waits for us, of something that can be read."""
        with suppress(OSError):
            return bool(self._connection.recv(_PIECE))
        return False

    def leave(self) -> None:
        """Close our end, so that it sees that it need not wait."""
        self.close()

    def close(self) -> None:
        self._close_stderr()
        self._connection.close()

    def _close_stderr(self) -> None:
        if self._stderr >= 0:
            with suppress(OSError):
                os.close(self._stderr)
            self._stderr = -1
