"""What is not in the ledger yet, for a ledger may be locked, full or away for a while.

Rows wait in memory; beyond a bound, or when the run ends before the ledger is back, they go to a
journal file that `carbontrack db recover` reads. The job never hears of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from carbontrack.errors import CarbontrackError
from carbontrack.ledger import journal
from carbontrack.ledger.rows import Event, Node, Run, Sensor, Step
from carbontrack.ledger.transaction import open_ledger
from carbontrack.ledger.url import db_option, sqlite_path
from carbontrack.ledger.window import Window
from carbontrack.ledger.write import RunWriter
from carbontrack.redact import redact_text
from carbontrack.units import now_ms
from carbontrack.vocabulary import EventKind, Status

MAX_WAITING_ROWS = 50_000  # about 20 MB: 1.7 hours of 8 devices
BUSY_TIMEOUT_MS = 250  # what one attempt may wait for another writer
_SILENT_FAILURES = 1  # two that start at once both make the ledger: one has to wait
_SQLITE_MAGIC = b"SQLite format 3\0"
_LAST_ATTEMPTS_S = 0.6  # what the job's end may wait for the ledger


class Outbox:
    """Rows on their way to the ledger at `url`, in the order of their making."""

    def __init__(
        self,
        url: str,
        journals: Sequence[Path],
        run: Run,
        node: Node,
        sensors: Sequence[Sensor],
        warn: Callable[[str], None],
        alarm: Callable[[str], None],
    ) -> None:
        """`journals` are tried in this order; `alarm` says what nobody may miss."""
        self._url = url
        self._journals = journals
        self._run = run
        self._node = node
        self._sensors = sensors
        self._described = True  # whether an open writer knows these sensors
        self._warn = warn
        self._alarm = alarm
        self._writer: RunWriter | None = None
        self._file: _File | None = None  # which one that is, for a path can be reused
        self._failures = 0  # attempts in a row
        self._warned = False  # of these
        self._windows: dict[tuple[str, int, int], Window] = {}
        self._steps: list[Step] = []
        self._events: list[Event] = []
        self._model: dict[str, Any] = {}

    def put(
        self,
        *,
        windows: Sequence[tuple[str, Window]] = (),
        steps: Sequence[Step] = (),
        events: Sequence[Event] = (),
        model: Mapping[str, Any] | None = None,
    ) -> None:
        """Queue rows. A coarse window that is still growing replaces its earlier state."""
        for uuid, window in windows:
            self._windows[uuid, window.level_s, window.start_ms] = window
        self._steps += steps
        self._events += events
        self._model.update(model or {})

    def describe(self, sensors: Sequence[Sensor]) -> None:
        """Replace what is known of the devices."""
        self._sensors = sensors
        self._described = False

    def send(self, heartbeat_ms: int) -> bool:
        """Write all that waits, in one transaction. False, and a warning once, if that failed."""
        try:
            writer = self._open()
            writer.commit(
                windows=[(uuid, window) for (uuid, _, _), window in self._windows.items()],
                steps=self._steps,
                events=self._events,
                heartbeat_ms=heartbeat_ms,
                model=self._model or None,
            )
        except Exception as error:
            # Whatever it is, recording goes on: the next attempt may succeed.
            self._failures += 1
            # Our own errors are about what the ledger is, which no waiting changes.
            lasts = isinstance(error, CarbontrackError)
            if not self._warned and (lasts or self._failures > _SILENT_FAILURES):
                self._warned = True
                hope = "" if lasts else "; will retry"
                self._warn(f"the ledger cannot be written now: {_first_line(error)}{hope}.")
            self._spill_if_full()
            return False
        if self._warned:
            self._warn("the ledger is written again; nothing was lost.")
        self._failures, self._warned = 0, False
        self._clear()
        return True

    def finish(
        self, *, status: Status, exit_code: int | None, ended_ms: int, heartbeat_ms: int
    ) -> bool:
        """Write the rest and how the run ended; False if it went to the journal, for the ledger
        does not come back.
        """
        deadline = time.monotonic() + _LAST_ATTEMPTS_S
        while True:
            try:
                if self.send(heartbeat_ms):
                    writer = self._open()
                    writer.finish(status=status, exit_code=exit_code, ended_ms=ended_ms)
                    _close(writer)
                    return True
            except Exception as error:
                self._warn(f"the run's end cannot be written: {_first_line(error)}.")
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        self._run = replace(self._run, status=status, exit_code=exit_code, ended_ms=ended_ms)
        self._spill()
        return False

    def _open(self) -> RunWriter:
        if self._writer is None or self._file != _identity(self._url):
            before = self._writer
            ledger = open_ledger(self._url, busy_timeout_ms=BUSY_TIMEOUT_MS)
            self._writer = RunWriter(ledger, self._run, self._node, self._sensors)
            self._file = _identity(self._url)
            if before is not None:
                self._move(before, self._writer)
        elif not self._described:
            self._writer.describe(self._sensors)
        self._described = True
        return self._writer

    def _move(self, before: RunWriter, now: RunWriter) -> None:
        """Take what the run has in a file that is gone from its place, but that we still hold."""
        try:
            now.copy_from(before)
            kept = "the run goes on in a new one, with all that it had"
        except Exception as error:
            kept = f"the run goes on in a new one without what it had: {_first_line(error)}"
        _close(before)
        message = f"the ledger's file was removed or replaced; {kept}"
        self._warn(f"{message}.")
        self._events.append(
            Event(now_ms(), EventKind.LEDGER_REPLACED, message, host=self._node.host)
        )

    def _spill_if_full(self) -> None:
        if len(self._windows) + len(self._steps) + len(self._events) > MAX_WAITING_ROWS:
            self._spill()

    def _spill(self) -> None:
        entry = journal.Entry(
            run=self._run,
            node=self._node,
            sensors=tuple(self._sensors),
            windows=tuple((uuid, window) for (uuid, _, _), window in self._windows.items()),
            steps=tuple(self._steps),
            events=tuple(self._events),
            model=dict(self._model),
        )
        failures = []
        for path in self._journals:
            try:
                journal.append(path, entry)
            except OSError as error:
                failures.append(f"{path}: {error.strerror}")
            else:
                self._alarm(
                    f"measurements are kept in {path}; "
                    f"'carbontrack db recover{db_option(self._url)}' takes them into the ledger."
                )
                break
        else:
            self._alarm(f"measurements are lost: {'; '.join(failures)}.")
        self._clear()

    def _clear(self) -> None:
        self._windows.clear()
        self._steps.clear()
        self._events.clear()
        self._model.clear()


def _close(writer: RunWriter) -> None:
    """A reader may stand in the way of the last tidying; nothing depends on it."""
    with suppress(Exception):
        writer.close()


_File = tuple[tuple[int, int], tuple[int, int] | None]


def _identity(url: str) -> _File | None:
    """Device and inode of a SQLite ledger and of its log; None for a server, or if it is gone.

    An open file that was removed or overwritten takes rows for nobody, and SQLite does not notice.
    Raises OSError if the file has become something else.
    """
    path = sqlite_path(url)
    if path is None or (identity := _inode(path)) is None:
        return None
    head = _head(identity)
    if head is not None and head != _SQLITE_MAGIC:
        raise OSError(f"{path} is damaged")
    return identity, _inode(path.with_name(f"{path.name}-wal"))


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _head(identity: tuple[int, int]) -> bytes | None:
    """The first bytes of a file that this process has open; None if it has not.

    Read through SQLite's own descriptor: to open the file again and close it would drop every lock
    that this process has on it, and whoever closes the ledger next would remove the write-ahead log
    under our hands (sqlite.org/howtocorrupt.html, 2.2).
    """
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - numbers, not paths
        with suppress(OSError):  # the descriptor of this very listing is closed again
            status = os.fstat(int(name))
            if (status.st_dev, status.st_ino) == identity:
                return os.pread(int(name), len(_SQLITE_MAGIC), 0)
    return None


def _first_line(error: Exception) -> str:
    """SQLAlchemy's messages carry the statement and its parameters; people need the cause."""
    cause = getattr(error, "orig", None) or error
    return redact_text((str(cause).splitlines() or [type(cause).__name__])[0].rstrip("."))
