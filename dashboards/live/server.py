"""Starting the server: where it listens, and who may reach it from there."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path
from types import FrameType

import uvicorn

from carbontrack import config
from carbontrack.errors import CarbontrackError
from dashboards.live.app import create_app
from dashboards.live.guard import LOOPBACK
from dashboards.live.view import View

_LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp
_HIGHEST_PORT = 65535
_GRACE_S = 3  # more than a tick, after which open event streams end


class _Server(uvicorn.Server):
    """Tells open event streams that the server stops; it would wait for them."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.config.app.state.stopping = True  # type: ignore[union-attr]
        super().handle_exit(sig, frame)


def serve(url: str, flags: config.Layer, *, host: str, port: int) -> None:
    """Serve until interrupted; the address is printed. Port 0 takes any that is free.

    Raises CarbontrackError where the port is taken or the host is none of this machine.
    """
    listening = _listen(host, port)
    view = View(url, flags)
    loopback = host in LOOPBACK
    # From afar the name of this machine is unknown here, so the token alone decides.
    token = None if loopback else secrets.token_urlsafe(24)
    app = create_app(view, hosts=LOOPBACK if loopback else (), token=token)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listening.getsockname()[1]}/"
    print(f"{address}{'' if token is None else f'?token={token}'}", flush=True)
    settings = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=_GRACE_S,
        lifespan="off",
    )
    try:
        _Server(settings).run(sockets=[listening])
    finally:
        view.close()
        listening.close()


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= _HIGHEST_PORT:
        raise CarbontrackError(f"--port {port}: a port is a number up to {_HIGHEST_PORT}.")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise CarbontrackError(f"--host {host}: {error.strerror}.") from error
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        listening.close()
        holder = _holder(port)
        raise CarbontrackError(
            f"Port {port} of {host} cannot be used: {error.strerror}{holder}.",
            hint="Give another with --port, or --port 0 for any that is free.",
        ) from error
    return listening


def _holder(port: int) -> str:
    """Who listens on the port, where Linux tells us."""
    sockets = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            _, local, _, state, *_, inode = line.split()[:10]
            if state == _LISTEN and int(local.rpartition(":")[2], 16) == port:
                sockets.add(f"socket:[{inode}]")
    for link in Path("/proc").glob("[0-9]*/fd/*") if sockets else ():
        try:
            if str(link.readlink()) in sockets:
                process = link.parents[1]
                return f" (by {(process / 'comm').read_text().strip()}, process {process.name})"
        except OSError:  # it ended, or is another user's
            continue
    return ""
