"""A ledger on a server: PostgreSQL, set up so that a recorder never hangs on it."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Any
from weakref import WeakSet

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import NullPool, QueuePool

from carbontrack.errors import CarbontrackError
from carbontrack.ledger.url import without_password

_CONNECT_TIMEOUT_S = 5
_SILENCE_TIMEOUT_MS = 10_000  # a network that swallows what we send counts as broken after this
_ADVISORY_LOCK = 0x636172626F6E  # "carbon"


def create(url: str, *, busy_timeout_ms: int, read_only: bool) -> Engine:
    """An engine on a server's database. A reader cannot write; a lock is waited for so long only.

    Raises CarbontrackError if `url` is not an address, or the driver is not installed.
    """
    try:
        engine = create_engine(
            url,
            poolclass=NullPool if read_only else QueuePool,
            pool_pre_ping=True,
            connect_args={
                "application_name": "carbontrack",
                "connect_timeout": _CONNECT_TIMEOUT_S,
                "tcp_user_timeout": _SILENCE_TIMEOUT_MS,
            },
            execution_options={"postgresql_readonly": read_only},
        )
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise CarbontrackError(
            f"Not a ledger's address: {without_password(url)}.",
            hint="Example: postgresql://USER:PASSWORD@HOST/DATABASE, with % written as %25.",
        ) from error
    except ImportError as error:
        raise CarbontrackError(
            "PostgreSQL needs a driver that is not installed.",
            hint="pip install 'carbontrack[postgres]'",
        ) from error

    def limit(connection: Any, _record: Any) -> None:
        _open.add(connection)
        # To compile a question would take longer than any of ours takes.
        connection.execute(f"set lock_timeout = {busy_timeout_ms}; set jit = off")
        connection.commit()

    event.listen(engine, "connect", limit)
    return engine


# This process's connections, for `hang_up`.
_open: WeakSet[Any] = WeakSet()


def hang_up() -> None:
    """End every call of this process that waits for a server: it raises the driver's error.

    From another thread, for that one waits: a server, or a proxy before it, that acknowledges what
    it gets and never answers would hold it for ever, whatever timeouts are set.
    """
    for connection in list(_open):
        with (
            suppress(Exception),  # it has just been closed
            socket.socket(fileno=os.dup(connection.fileno())) as line,
        ):
            line.shutdown(socket.SHUT_RDWR)


def lock_upgrades(connection: Connection) -> None:
    """Let no other process upgrade this ledger until the transaction ends."""
    connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
