"""Measurements that waited in journals, brought into the ledger they were meant for."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

from carbontrack.errors import CarbontrackError
from carbontrack.files import open_ours
from carbontrack.ledger import journal
from carbontrack.ledger.engine import errors_in_one_line
from carbontrack.ledger.transaction import WritableLedger, open_ledger
from carbontrack.ledger.url import journal_folders
from carbontrack.ledger.window import LEVELS_S
from carbontrack.ledger.write import RunWriter
from carbontrack.units import MS_PER_S


def waiting(url: str) -> list[Path]:
    """The journals of this ledger, one a recording, that are our own files."""
    return [path for path, problem in _found(url) if problem is None]


def refused(url: str) -> list[str]:
    """What lies among the journals of this ledger and is not taken, each with the reason."""
    return [f"{path} {problem}" for path, problem in _found(url) if problem is not None]


def _found(url: str) -> list[tuple[Path, str | None]]:
    found: list[tuple[Path, str | None]] = []
    for folder in journal_folders(url):
        for path in sorted(folder.glob("*.jsonl")):
            problem = None
            try:
                os.close(open_ours(path))
            except FileNotFoundError:
                continue  # it has just been taken
            except OSError as error:
                problem = error.strerror or str(error)
            found.append((path, problem))
    return found


def recover(url: str) -> dict[str, str]:
    """Write the journals into their ledger and delete each one that is in; the runs' names by id.

    Each batch is a transaction of upserts: a recovery that breaks off can be repeated. Raises
    CarbontrackError if the ledger cannot be written, or a journal is not this program's.
    """
    names: dict[str, str] = {}
    journals = waiting(url)
    if not journals:
        return names
    with errors_in_one_line(url), closing(open_ledger(url)) as ledger:
        for path in journals:
            names |= _take(path, ledger)
    return names


def _take(path: Path, ledger: WritableLedger) -> dict[str, str]:
    """Write one journal; once more if its run, still recorded, has added to it meanwhile."""
    names: dict[str, str] = {}
    size = None
    while size != path.stat().st_size:
        size = path.stat().st_size
        try:
            entries = list(journal.read(path))
        except (KeyError, TypeError, ValueError) as error:
            raise CarbontrackError(
                f"The journal {path} was not written by this version of carbontrack.",
                hint="Recover it with the version that wrote it.",
            ) from error
        for entry in entries:
            _write(entry, ledger)
            names[entry.run.id] = entry.run.name
    path.unlink()
    return names


def _write(entry: journal.Entry, ledger: WritableLedger) -> None:
    seconds = [(uuid, w) for uuid, w in entry.windows if w.level_s == LEVELS_S[0]]
    last_sign_ms = max((w.start_ms + MS_PER_S for _, w in seconds), default=0)
    recording = entry.recording
    run = RunWriter(ledger, entry.run, recording, entry.sensors)
    run.commit(
        windows=seconds,
        steps=entry.steps,
        events=entry.events,
        heartbeat_ms=max(recording.heartbeat_ms, last_sign_ms, recording.end_ms),
        model=entry.model,
    )
    run.rebuild(seconds)
    if recording.ended_ms is not None:
        run.finish(
            status=recording.status, exit_code=recording.exit_code, ended_ms=recording.ended_ms
        )
