"""The journals that wait for a ledger: found, and taken into it. Imports no SQLAlchemy."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path

from carbontrack.errors import CarbontrackError
from carbontrack.files import open_ours
from carbontrack.ledger import journal
from carbontrack.ledger.transaction import WritableLedger, open_ledger
from carbontrack.ledger.url import journal_folders
from carbontrack.ledger.window import LEVELS_S, Window
from carbontrack.ledger.write import RunRemoved, RunWriter
from carbontrack.units import MS_PER_S

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_EXTENDED = 0xFF  # the rest of SQLite's codes says more of the same error


def waiting(url: str) -> list[Path]:
    """The journals of this ledger, one a recording, that are our own files."""
    return [path for path, problem in _found(url) if problem is None]


def refused(url: str) -> list[str]:
    """What lies among the journals of this ledger and is not taken, each with the reason."""
    return [f"{path} {problem}" for path, problem in _found(url) if problem is not None]


def _found(url: str) -> list[tuple[Path, str | None]]:
    found: list[tuple[Path, str | None]] = []
    for folder in journal_folders(url):
        for path in journal.files(folder):
            problem = None
            try:
                os.close(open_ours(path))
            except FileNotFoundError:
                continue  # it has just been taken
            except OSError as error:
                problem = error.strerror or str(error)
            found.append((path, problem))
    return found


def take_if_free(url: str, *, busy_timeout_ms: int) -> bool:
    """Write the journals of the file at a URL into it, as a recorder does that nobody waits for;
    whether that was all, or cannot be helped by waiting. Raises nothing.

    Those that another process is taking, or that are not this version's, are left alone.
    """
    try:
        if not (journals := waiting(url)):
            return True
        with closing(open_ledger(url, busy_timeout_ms=busy_timeout_ms)) as ledger:
            for of_recording in by_recording(journals):
                with suppress(CarbontrackError):  # another version's
                    take(of_recording, ledger)
    except sqlite3.OperationalError as error:
        return getattr(error, "sqlite_errorcode", 0) & _EXTENDED not in _BUSY
    except Exception:  # it is said, and done, by `db recover`
        return True
    return True


def by_recording(journals: Iterable[Path]) -> list[list[Path]]:
    """Those of one recording together: a disk that filled up made it go on elsewhere."""
    found: dict[str, list[Path]] = {}
    for path in journals:
        found.setdefault(path.name, []).append(path)
    return list(found.values())


def take(journals: Sequence[Path], ledger: WritableLedger) -> dict[str, str]:
    """Write the journals of a recording and delete them; the run's name by its id, nothing where
    another process is just taking them.
    """
    names: dict[str, str] = {}
    with ExitStack() as held:
        if not all(held.enter_context(journal.held(path)) for path in journals):
            return names
        entries = read_entries(journals)
        if entries and write_entries(entries, ledger):
            names[entries[-1].run.id] = entries[-1].run.name
        for path in journals:
            path.unlink()
    return names


def write_entries(entries: Sequence[journal.Entry], ledger: WritableLedger) -> bool:
    """Write what journals have of one recording; False if its run was removed, and stays so."""
    newest = entries[-1]
    seconds = {(u, w.start_ms): w for entry in entries for u, w in entry.windows if _is_second(w)}
    last_sign_ms = max((start_ms + MS_PER_S for _, start_ms in seconds), default=0)
    recording = newest.recording
    try:
        run = RunWriter(ledger, newest.run, recording, newest.sensors)
    except RunRemoved:
        return False
    run.add_late([(uuid, window) for (uuid, _), window in seconds.items()])
    run.commit(
        steps=[step for entry in entries for step in entry.steps],
        events=[event for entry in entries for event in entry.events],
        heartbeat_ms=max(recording.heartbeat_ms, last_sign_ms, recording.end_ms),
        model={name: value for entry in entries for name, value in entry.model.items()},
    )
    if recording.ended_ms is not None:
        run.finish(
            status=recording.status, exit_code=recording.exit_code, ended_ms=recording.ended_ms
        )
    return True


def _is_second(window: Window) -> bool:
    """The coarse windows of a journal may be older than those of the ledger."""
    return window.level_s == LEVELS_S[0]


def read_entries(journals: Sequence[Path]) -> list[journal.Entry]:
    """What journals have. Raises CarbontrackError if one is not this program's."""
    entries = []
    for path in journals:
        try:
            entries += list(journal.read(path))
        except (KeyError, TypeError, ValueError) as error:
            raise CarbontrackError(
                f"The journal {path} was not written by this version of carbontrack.",
                hint="Recover it with the version that wrote it.",
            ) from error
    return entries
