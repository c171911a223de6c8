"""A server that is stopped by a signal, whenever that comes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from socket import socket

import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_STOPPING = (signal.SIGINT, signal.SIGTERM)


class Server(uvicorn.Server):
    """uvicorn's, which says when it answers. A signal that comes while it starts is kept until it
    can stop: one that broke into the making of an event loop left a traceback, as did one during
    an answer that takes longer than its stop may.
    """

    def __init__(self, config: uvicorn.Config, answers: Callable[[], None]) -> None:
        super().__init__(config)
        self._answers = answers
        self._came: list[int] = []

    def run(self, sockets: list[socket] | None = None) -> None:
        """Serve until a signal, which then does what it would have done."""
        before = {one: signal.signal(one, lambda signo, _: self._keep(signo)) for one in _STOPPING}
        try:
            self.config.load()
            self.config.loaded_app = _Stoppable(self.config.loaded_app)
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


class _Stoppable:
    """An app whose requests are answered, too, when they are given up as the server stops."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def note(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, note)
        except asyncio.CancelledError:
            if has_begun:
                with suppress(Exception):  # shorter than it was to be
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
            else:
                stops = PlainTextResponse("The server stops.\n", HTTPStatus.SERVICE_UNAVAILABLE)
                await stops(scope, receive, send)
