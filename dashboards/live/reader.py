"""The ledger behind the pages: it may come, go, be replaced or be upgraded while they are open."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from carbontrack.errors import CarbontrackError
from carbontrack.ledger import engine
from carbontrack.ledger.url import sqlite_path

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Unavailable(CarbontrackError):
    """The ledger cannot be read now; it may be again later."""


class LedgerReader:
    """Connections to a ledger, for any thread. `queries` counts how often it was asked."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._connect: Callable[[], AbstractContextManager[Connection]] | None = None
        self._close: Callable[[], None] | None = None
        self._file: tuple[int, int] | None = None
        self.queries = 0

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Raises NoLedger, or Unavailable while it cannot be read."""
        connect = self._open()
        try:
            with connect() as connection:
                yield connection
        except engine.LedgerUnusable as error:
            self.close()
            raise Unavailable(str(error)) from error

    def close(self) -> None:
        with self._lock:
            self._dispose()

    def _open(self) -> Callable[[], AbstractContextManager[Connection]]:
        """A file that was replaced is opened again: its schema may be another."""
        with self._lock:
            self.queries += 1
            if (file := self._inode()) != self._file:
                self._dispose()
                self._file = file
            if self._connect is None:
                try:
                    reader = engine.open_reader(self._url)
                except engine.NoLedger:
                    raise
                except CarbontrackError as error:
                    raise Unavailable(str(error)) from error
                self._connect, self._close = reader.connect, reader.dispose
            return self._connect

    def _inode(self) -> tuple[int, int] | None:
        path = sqlite_path(self._url)
        try:
            status = path.stat() if path is not None else None
        except OSError:
            return None
        return (status.st_dev, status.st_ino) if status else None

    def _dispose(self) -> None:
        if self._close is not None:
            self._close()
        self._connect = self._close = None
