"""Starting the server: where it listens, and who may reach it from there."""

from __future__ import annotations

import gc
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Collection
from types import FrameType

import uvicorn

from carbontrack import config
from carbontrack.errors import CarbontrackError
from carbontrack.listening import address, listen
from carbontrack.record.warning import warn
from carbontrack.serving import Server
from dashboards.live.app import create_app
from dashboards.live.guard import LOOPBACK
from dashboards.live.view import View

PORT = 8720
_END_S = 10
_GRACE_S = 3  # many ticks, after one of which open event streams end


class _Server(Server):
    """Ends the open event streams when the server stops; it would wait for them."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.config.app.state.stopping = True  # type: ignore[union-attr]
        super().handle_exit(sig, frame)


def serve(url: str, flags: config.Layer, *, host: str, port: int) -> None:
    """Serve until interrupted; the address is printed. Port 0 takes any that is free.

    Raises CarbontrackError where the port is taken or the host is not an address of this machine.
    """
    listening = listen(host, port)
    loopback = host in LOOPBACK
    # From afar the name of this machine is unknown here, so the token alone decides.
    token = None if loopback else secrets.token_urlsafe(24)
    at = f"{address(listening, host)}{'' if token is None else f'?token={token}'}"
    view = View(url, flags)
    hosts = LOOPBACK if loopback else ()
    _run(_server(view, hosts, token, lambda: print(at, flush=True)), view, listening)


def serve_beside(url: str, flags: config.Layer, run_id: str) -> None:
    """Serve on loopback while a run lasts: until our stdin ends. Prints the address on stderr."""
    try:
        listening = listen(LOOPBACK[0], PORT)
    except CarbontrackError:
        listening = listen(LOOPBACK[0], 0)
    page = f"{address(listening, LOOPBACK[0])}#/run/{run_id}"
    warn(f"watch this run at {page}")
    view = View(url, flags)
    beside = _server(view, LOOPBACK, None, lambda: None)

    def stop_with_stdin() -> None:
        sys.stdin.buffer.read()
        signal.setitimer(signal.ITIMER_REAL, _END_S)  # whatever it is stuck in, the kernel ends it
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)  # a reader of the job's stderr waits for its end
        os.close(null)
        beside.handle_exit(signal.SIGTERM, None)

    threading.Thread(target=stop_with_stdin, daemon=True).start()
    _run(beside, view, listening)


def _server(
    view: View, hosts: Collection[str], token: str | None, answers: Callable[[], None]
) -> _Server:
    settings = uvicorn.Config(
        create_app(view, hosts=hosts, token=token),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=_GRACE_S,
        lifespan="off",
    )
    return _Server(settings, answers)


def _run(server: _Server, view: View, listening: socket.socket) -> None:
    gc.freeze()  # what was imported stays, and to look through all of it takes 50 ms each time
    try:
        server.run(sockets=[listening])
    finally:
        view.close()
        listening.close()
