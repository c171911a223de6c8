"""A socket that listens, or one line that says who has the port."""

from __future__ import annotations

import socket
from pathlib import Path

from carbontrack.errors import CarbontrackError

_LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp
_HIGHEST_PORT = 65535


def listen(
    host: str, port: int, *, options: tuple[str, str] = ("--host", "--port"), backlog: int = 128
) -> socket.socket:
    """A listening socket; port 0 takes any that is free. `options` set host and port.

    Raises CarbontrackError if the port is in use or the host is not an address of this machine.
    """
    if not 0 <= port <= _HIGHEST_PORT:
        raise CarbontrackError(f"{options[1]} {port}: a port is a number up to {_HIGHEST_PORT}.")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise CarbontrackError(f"{options[0]} {host}: {error.strerror}.") from error
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
        listening.listen(backlog)
    except OSError as error:
        listening.close()
        holder = _holder(port)
        zero = f"{options[1]} {'0' if options[0] != options[1] else f'{host}:0'}"
        raise CarbontrackError(
            f"Port {port} of {host} cannot be used: {error.strerror}{holder}.",
            hint=f"Give another with {options[1]}, or {zero} for any that is free.",
        ) from error
    return listening


def address(listening: socket.socket, host: str, *, scheme: str = "http") -> str:
    """The URL of what listens there."""
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}:{listening.getsockname()[1]}/"


def _holder(port: int) -> str:
    """Which process listens on the port; empty if unknown."""
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
