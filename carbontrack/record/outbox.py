"""What is not in the ledger yet, for a ledger may be locked, full or away for a while.

Rows wait in memory; beyond a bound, or when the run ends before the ledger is back, they go to a
journal file that `carbontrack db recover` reads. The ledger is written in a thread of its own, one
attempt at a time: a server or a file system that does not answer holds up nothing else.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from carbontrack.errors import CarbontrackError
from carbontrack.ledger.recorded_rows import Event, Recording, Run, Sensor, Step
from carbontrack.ledger.url import db_option
from carbontrack.ledger.window import Window
from carbontrack.ledger.write import RunRemoved
from carbontrack.record.ledger_writer import LedgerWriter, Rows, first_line
from carbontrack.vocabulary import Status

MAX_WAITING_ROWS = 50_000  # about 20 MB: 1.7 hours of 8 devices
ANSWER_S = 10.0  # a ledger that takes longer does not answer
_SILENT_FAILURES = 1  # two that start at once both make the ledger: one has to wait
_LAST_ATTEMPTS_S = 0.6  # what the job's end may wait for a ledger that refuses
_LOOK_S = 0.05
# For a ledger that is busy, when nothing waits for us any more: other recorders write at once.
_PATIENCE_S, _PATIENT_MS = 30.0, 5_000


class Outbox:
    """Rows on their way to the ledger at `url`, in the order of their making."""

    def __init__(
        self,
        url: str,
        journals: Sequence[Path],
        run: Run,
        recording: Recording,
        sensors: Sequence[Sensor],
        warn: Callable[[str], None],
        alarm: Callable[[str], None],
    ) -> None:
        """`journals` are tried in this order; `alarm` says what must be said even to the quiet."""
        self._url = url
        self._journals = journals
        self._run = run
        self._recording = recording
        self._sensors = sensors
        self._warn = warn
        self._alarm = alarm
        self._numbers = count()  # of the events
        self._writer = LedgerWriter(url, run, recording, self._numbers, warn, alarm)
        self._attempt: _Attempt | None = None
        self._failures = 0  # attempts in a row
        self._warned = False  # of these
        self._is_finished = False
        self._is_removed = False  # the run, from the ledger: nothing of it is to come back
        self._waiting = Rows()

    @property
    def ledger(self) -> str:
        """The URL of the ledger that is written."""
        return self._writer.url

    def put(
        self,
        *,
        windows: Sequence[tuple[str, Window]] = (),
        steps: Sequence[Step] = (),
        events: Sequence[Event] = (),
        model: Mapping[str, Any] | None = None,
    ) -> None:
        """Queue rows. A coarse window that is still growing replaces its earlier state."""
        numbered = [(next(self._numbers), event) for event in events]
        self._waiting.put(windows, steps, numbered, model)

    def describe(self, sensors: Sequence[Sensor]) -> None:
        """Replace what is known of the devices."""
        self._sensors = sensors

    def send(self, heartbeat_ms: int) -> None:
        """Begin to write all that waits, unless the last attempt still runs. What became of that
        one is known at the next call.
        """
        self._settle()
        if self._is_removed:
            self._waiting = Rows()
        elif self._attempt is None:
            self._begin(heartbeat_ms, None)
        elif self._attempt.age_s > ANSWER_S:
            self._say_it_is_silent(self._attempt)
        if len(self._waiting) > MAX_WAITING_ROWS:
            self._spill()

    def finish(
        self, *, status: Status, exit_code: int | None, ended_ms: int, heartbeat_ms: int
    ) -> bool:
        """Write the rest and how the recording ended; False if it went to the journal, for the
        ledger refuses or does not answer.
        """
        ended = replace(self._recording, status=status, exit_code=exit_code, ended_ms=ended_ms)
        give_up_s = time.monotonic() + _LAST_ATTEMPTS_S
        while self._answers():
            self._settle()
            self._begin(heartbeat_ms, ended)
            if not self._answers():
                break
            if self._settle() or self._is_removed:
                self._is_finished = True
                return True
            if time.monotonic() > give_up_s:
                break
            time.sleep(_LOOK_S)
        if self._attempt is not None:
            self._waiting = self._attempt.rows.before(self._waiting)  # whether it arrived or not
        self._recording = ended
        self._spill()
        self._is_finished = True
        return False

    def tidy(self) -> None:
        """When the job's end waits for nothing any more: decide what others recorded as well, and
        bring in what waits for this ledger in journals, ours and others', while it is only busy.
        """
        if self._attempt is not None:
            return  # it does not answer
        self._writer.keep_overlaps()
        if self._writer.url != self._url:
            return  # it is of an older schema
        # With os.path, which answers of a folder that is closed to us, too.
        if not any(os.path.exists(path.parent) for path in self._journals):  # noqa: PTH110
            return
        from carbontrack.ledger.journals import take_if_free

        give_up_s = time.monotonic() + _PATIENCE_S
        while not take_if_free(self._url, busy_timeout_ms=_PATIENT_MS):
            if time.monotonic() > give_up_s:
                break
            time.sleep(_LOOK_S)

    def save(
        self, *, status: Status, exit_code: int | None, ended_ms: int, heartbeat_ms: int
    ) -> None:
        """From another thread, before the process is ended, whatever its own one is stuck in: what
        is not in the ledger goes to the journal.
        """
        if self._is_finished or self._is_removed:
            return
        rows = self._waiting if self._attempt is None else self._attempt.rows.before(self._waiting)
        ended = replace(
            self._recording,
            status=status,
            exit_code=exit_code,
            ended_ms=ended_ms,
            heartbeat_ms=heartbeat_ms,
        )
        self._write_journal(rows, ended)

    def _begin(self, heartbeat_ms: int, ended: Recording | None) -> None:
        rows, self._waiting = self._waiting, Rows()
        sensors = self._sensors

        def write() -> None:
            self._writer.write(rows, sensors, heartbeat_ms)
            if ended is not None:
                self._writer.finish(ended)

        self._attempt = _Attempt(write, rows)
        try:
            self._attempt.start()
        except RuntimeError:  # no thread to spare
            self._attempt.run()

    def _answers(self) -> bool:
        """Wait for the attempt that runs, if one does; False if the ledger does not answer."""
        attempt = self._attempt
        if attempt is None or attempt.ended.wait(max(0.0, ANSWER_S - attempt.age_s)):
            return True
        self._say_it_is_silent(attempt)
        return False

    def _settle(self) -> bool:
        """Take note of how the attempt ended, if it has; whether all is in the ledger."""
        attempt = self._attempt
        if attempt is None or not attempt.ended.is_set():
            return False
        self._attempt = None
        if attempt.error is not None:
            self._is_removed = isinstance(attempt.error, RunRemoved)
            self._waiting = attempt.rows.before(self._waiting)
            self._say_why(attempt.error)
            return False
        if self._warned:
            self._warn("the ledger is written again; nothing was lost.")
        self._failures, self._warned = 0, False
        return True

    def _say_why(self, error: Exception) -> None:
        # Whatever it is, recording goes on: the next attempt may succeed.
        self._failures += 1
        # Our own errors are about what the ledger is, which no waiting changes.
        lasts = isinstance(error, CarbontrackError)
        if not self._warned and (lasts or self._failures > _SILENT_FAILURES):
            self._warned = True
            hope = "" if lasts else "; will retry"
            self._warn(f"the ledger cannot be written now: {first_line(error)}{hope}.")

    def _say_it_is_silent(self, attempt: _Attempt) -> None:
        """Another attempt begins when this one has ended."""
        if not self._warned:
            self._warned = True
            self._warn(f"the ledger has not answered for {attempt.age_s:.0f} s; will retry.")

    def _spill(self) -> None:
        rows, self._waiting = self._waiting, Rows()
        self._write_journal(rows, self._recording)

    def _write_journal(self, rows: Rows, recording: Recording) -> None:
        from carbontrack.ledger import journal

        entry = journal.Entry(
            run=self._run,
            recording=recording,
            sensors=tuple(self._sensors),
            windows=tuple(rows.window_rows()),
            steps=tuple(rows.steps),
            events=tuple(rows.events),
            model=rows.model,
        )
        failures = []
        for path in self._journals:
            try:
                journal.append(path, entry)
            except OSError as error:
                failures.append(f"{path.parent}: {error.strerror}")
            else:
                self._alarm(
                    f"measurements are in {path}; the next run brings them into the ledger, or "
                    f"'carbontrack db recover{db_option(self._url)}'."
                )
                return
        self._alarm(f"measurements are lost: {'; '.join(failures)}.")


class _Attempt(threading.Thread):
    """One attempt to write `rows`; `error` is why it failed."""

    def __init__(self, write: Callable[[], None], rows: Rows) -> None:
        super().__init__(name="ledger", daemon=True)
        self._write = write
        self._began_s = time.monotonic()
        self.rows = rows
        self.ended = threading.Event()
        self.error: Exception | None = None

    @property
    def age_s(self) -> float:
        return time.monotonic() - self._began_s

    def run(self) -> None:
        try:
            self._write()
        except Exception as error:
            self.error = error
        finally:
            self.ended.set()
