"""A server that is stopped by a signal, whenever that comes."""

from __future__ import annotations

import signal
from collections.abc import Callable
from socket import socket

import uvicorn

_STOPPING = (signal.SIGINT, signal.SIGTERM)


class Server(uvicorn.Server):
    """uvicorn's, which says when it answers. A signal that comes while it starts is kept until it
    can stop: one that broke into the making of an event loop left a traceback.
    """

    def __init__(self, config: uvicorn.Config, answers: Callable[[], None]) -> None:
        super().__init__(config)
        self._answers = answers
        self._came: list[int] = []

    def run(self, sockets: list[socket] | None = None) -> None:
        """Serve until a signal, which then does what it would have done."""
        before = {one: signal.signal(one, lambda signo, _: self._keep(signo)) for one in _STOPPING}
        try:
            super().run(sockets)
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)
        if self._came:
            signal.raise_signal(self._came[0])

    def _keep(self, signo: int) -> None:
        self._came.append(signo)

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        self._answers()
        if self._came:
            self.handle_exit(self._came[0], None)
