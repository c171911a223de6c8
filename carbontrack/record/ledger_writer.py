"""The run's rows written into its ledger, which may be moved or replaced meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from carbontrack.files import NotOurs, check_ours
from carbontrack.ledger.recorded_rows import Event, Recording, Run, Sensor, Step
from carbontrack.ledger.sqlite import MAGIC, connect
from carbontrack.ledger.transaction import LedgerFile, open_ledger, recorders_url
from carbontrack.ledger.url import redacted_url, sqlite_path
from carbontrack.ledger.window import Window
from carbontrack.ledger.write import RunWriter
from carbontrack.redact import redact_text
from carbontrack.units import MS_PER_HOUR, now_ms
from carbontrack.vocabulary import EventKind

BUSY_TIMEOUT_MS = 250  # what one attempt may wait for another writer


@dataclass(slots=True)
class Rows:
    """What is not in the ledger yet, oldest first."""

    windows: dict[tuple[str, int, int], Window] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    events: list[tuple[int, Event]] = field(default_factory=list)
    model: dict[str, Any] = field(default_factory=dict)

    def put(
        self,
        windows: Sequence[tuple[str, Window]],
        steps: Sequence[Step],
        events: Sequence[tuple[int, Event]],
        model: Mapping[str, Any] | None,
    ) -> None:
        """Add rows. A coarse window that is still growing replaces its earlier state."""
        for uuid, window in windows:
            self.windows[uuid, window.level_s, window.start_ms] = window
        self.steps += steps
        self.events += events
        self.model.update(model or {})

    def before(self, newer: Rows) -> Rows:
        """These, then `newer`."""
        return Rows(
            {**self.windows, **newer.windows},
            self.steps + newer.steps,
            self.events + newer.events,
            {**self.model, **newer.model},
        )

    def window_rows(self) -> list[tuple[str, Window]]:
        """The windows with the UUIDs of their devices."""
        return [(uuid, window) for (uuid, _, _), window in self.windows.items()]

    def __len__(self) -> int:
        return len(self.windows) + len(self.steps) + len(self.events)


class LedgerWriter:
    """Writes a run into the ledger at `url`, opened when it is first needed. Not thread-safe."""

    def __init__(
        self,
        url: str,
        run: Run,
        recording: Recording,
        numbers: Iterator[int],
        warn: Callable[[str], None],
        alarm: Callable[[str], None],
    ) -> None:
        """`numbers` are those of the recording's next events; `alarm` is for what even the quiet
        have to know.
        """
        self.url = url
        self._run = run
        self._recording = recording
        self._numbers = numbers
        self._warn = warn
        self._alarm = alarm
        self._writer: RunWriter | None = None
        self._sensors: Sequence[Sensor] = ()  # as the ledger has them
        self._file: _File | None = None  # which one that is, for a path can be reused
        self._hour = recording.started_ms // MS_PER_HOUR  # up to which overlaps were looked at
        self._may_overlap = False  # what another recording has

    def write(self, rows: Rows, sensors: Sequence[Sensor], heartbeat_ms: int) -> None:
        """Write in one transaction. Raises CarbontrackError, the database's error or OSError."""
        writer = self._open(rows, sensors)
        writer.commit(
            windows=rows.window_rows(),
            steps=rows.steps,
            events=rows.events,
            heartbeat_ms=heartbeat_ms,
            model=rows.model or None,
        )
        if heartbeat_ms // MS_PER_HOUR > self._hour:
            self._hour = heartbeat_ms // MS_PER_HOUR
            _keep_overlaps(writer)

    def finish(self, ended: Recording) -> None:
        """Write how the recording ended, and leave the ledger. Raises as `write` does."""
        if self._writer is None or ended.ended_ms is None:
            return
        self._writer.finish(status=ended.status, exit_code=ended.exit_code, ended_ms=ended.ended_ms)
        self._may_overlap = _shares_devices(self._writer)
        _close(self._writer)

    def keep_overlaps(self) -> None:
        """After `finish`, when nothing waits for us: which of the recording's last hours others
        recorded, too. Raises nothing, and makes no ledger where there is none any more.
        """
        path = sqlite_path(self.url)
        if self._writer is None or path is None or not self._may_overlap:
            return
        with suppress(Exception):
            from carbontrack.ledger import kept_overlaps

            file = connect(path, busy_timeout_ms=BUSY_TIMEOUT_MS)
            with closing(LedgerFile(file)) as ledger:
                kept_overlaps.keep(ledger, [self._writer.key])

    def _open(self, rows: Rows, sensors: Sequence[Sensor]) -> RunWriter:
        if self._writer is None or self._file != _identity(self.url):
            before = self._writer
            if before is None:
                self._look_where_to_write()
                self._warn_of_owner()
            self._writer = self._writer_of(sensors)
            self._file = _identity(self.url)
            if before is not None:
                moved = self._move(before, self._writer)
                rows.events.append((next(self._numbers), moved))
        elif sensors is not self._sensors:
            self._writer.describe(sensors)
        self._sensors = sensors
        return self._writer

    def _writer_of(self, sensors: Sequence[Sensor]) -> RunWriter:
        ledger = open_ledger(self.url, busy_timeout_ms=BUSY_TIMEOUT_MS)
        try:
            return RunWriter(ledger, self._run, self._recording, sensors)
        except BaseException:
            ledger.close()
            raise

    def _look_where_to_write(self) -> None:
        asked, self.url = self.url, recorders_url(self.url)
        if self.url != asked:
            self._alarm(
                f"the ledger {redacted_url(asked)} is of an older carbontrack; "
                f"this run is recorded in {redacted_url(self.url)}."
            )

    def _warn_of_owner(self) -> None:
        """A file that another user made beforehand lets that user read what is recorded."""
        path = sqlite_path(self.url)
        if path is None or not path.exists():
            return
        try:
            check_ours(path, path.stat())
        except NotOurs as error:
            self._warn(f"the ledger {path} {error.strerror}, who can read and change it.")

    def _move(self, before: RunWriter, now: RunWriter) -> Event:
        """Take what the run has in a file that is gone from its place, but that we still hold."""
        try:
            now.copy_from(before)
            outcome = "the run goes on in a new one, with all that it had"
        except Exception as error:
            outcome = f"the run goes on in a new one without what it had: {first_line(error)}"
        _close(before)
        message = f"the ledger's file was removed or replaced; {outcome}"
        self._warn(f"{message}.")
        return Event(now_ms(), EventKind.LEDGER_REPLACED, message, host=self._recording.host)


def first_line(error: Exception) -> str:
    """SQLAlchemy's messages carry the statement and its parameters; people need the cause."""
    cause = getattr(error, "orig", None) or error
    return redact_text((str(cause).splitlines() or [type(cause).__name__])[0].rstrip("."))


def _close(writer: RunWriter) -> None:
    """A reader may stand in the way of the last tidying; nothing depends on it."""
    with suppress(Exception):
        writer.close()


def _shares_devices(writer: RunWriter) -> bool:
    try:
        return writer.shares_devices()
    except Exception:  # the run is written, whatever this is
        return True


def _keep_overlaps(writer: RunWriter) -> None:
    """Each hour, so that little is left for the job's end. Where it fails, reports decide from the
    seconds.
    """
    with suppress(Exception):
        writer.keep_overlaps()


_File = tuple[tuple[int, int], tuple[int, int] | None]


def _identity(url: str) -> _File | None:
    """Device and inode of a SQLite ledger and of its log; None for a server, or if it is gone.

    An open file that was removed or overwritten takes rows that are lost, unnoticed by SQLite.
    Raises OSError if the file has become something else.
    """
    path = sqlite_path(url)
    if path is None or (identity := _inode(path)) is None:
        return None
    head = _head(identity)
    if head is not None and head != MAGIC:
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
    that this process has on it, and the next to close the ledger would remove the write-ahead log
    under our hands (sqlite.org/howtocorrupt.html, 2.2).
    """
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - numbers, not paths
        with suppress(OSError):  # the descriptor of this very listing is closed again
            status = os.fstat(int(name))
            if (status.st_dev, status.st_ino) == identity:
                return os.pread(int(name), len(MAGIC), 0)
    return None
