"""A ledger on a server: PostgreSQL, set up so that a recorder never hangs on it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import NullPool, QueuePool

from carbontrack.errors import CarbontrackError
from carbontrack.ledger.url import without_password

_CONNECT_TIMEOUT_S = 5
_SILENCE_TIMEOUT_MS = 10_000  # a network that swallows what we send counts as broken after this
# So does a host that is gone without a word, which has acknowledged all that we sent.
_KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
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
                **_KEEPALIVES,
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

    opened = _open[engine] = WeakSet()

    def limit(connection: Any, _record: Any) -> None:
        opened.add(connection)
        # To compile a question would take longer than any of ours takes.
        connection.execute(f"set lock_timeout = {busy_timeout_ms}; set jit = off")
        connection.commit()

    event.listen(engine, "connect", limit)
    return engine


# Their connections, for `deadline`.
_open: WeakKeyDictionary[Engine, WeakSet[Any]] = WeakKeyDictionary()


@contextmanager
def deadline(engine: Engine, deadline_s: float | None) -> Iterator[None]:
    """What waits for the engine's server meanwhile waits so long only, and raises the driver's
    error: a server, or a proxy before it, that acknowledges what it gets and never answers would
    hold it for ever, whatever timeouts are set.
    """
    if deadline_s is None:
        yield
        return
    left = threading.Event()

    def watch() -> None:
        while not left.wait(deadline_s):  # it may have connected again, and wait again
            for connection in list(_open.get(engine, ())):
                _hang_up(connection)

    threading.Thread(target=watch, name="deadline", daemon=True).start()
    try:
        yield
    finally:
        left.set()


def _hang_up(connection: Any) -> None:
    """From another thread, for that one waits."""
    with (
        suppress(Exception),  # it has just been closed
        socket.socket(fileno=os.dup(connection.fileno())) as line,
    ):
        line.shutdown(socket.SHUT_RDWR)


def lock_upgrades(connection: Connection) -> None:
    """Let no other process upgrade this ledger until the transaction ends."""
    connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
