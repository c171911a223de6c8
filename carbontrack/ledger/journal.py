"""The journal: measurements that could not reach the ledger, one JSON object a line beside it.

A ledger may lie in a folder where others can write, too: a journal is our own file or none.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carbontrack.files import open_ours, write_ours
from carbontrack.ledger.recorded_rows import Event, Recording, Run, Sensor, Step
from carbontrack.ledger.recorded_tables import EVENTS, RECORDINGS, RUNS, SENSORS, STEPS, WINDOWS
from carbontrack.ledger.window import Window


@dataclass(frozen=True, slots=True)
class Entry:
    """One batch with all that is needed to write it into an empty ledger."""

    run: Run
    recording: Recording
    sensors: tuple[Sensor, ...]
    windows: tuple[tuple[str, Window], ...]
    steps: tuple[Step, ...]
    events: tuple[tuple[int, Event], ...]
    model: Mapping[str, Any]


def files(folder: Path) -> list[Path]:
    """The journals in a folder; none where it is closed to us, for there we wrote none."""
    try:
        return sorted(folder.glob("*.jsonl"))
    except OSError:
        return []


def append(path: Path, entry: Entry) -> None:
    """Add an entry, durably. Raises OSError, also where the folder or the file is not ours, or
    another process is just taking it into the ledger.
    """
    # What a full disk tore off before must not take this line with it.
    data = f"\n{json.dumps(dataclasses.asdict(entry))}\n".encode()
    with held(path, make=True) as is_held:
        if not is_held:
            raise OSError(errno.EAGAIN, "is just being taken into the ledger", str(path))
        write_ours(path, data, os.O_APPEND)


@contextmanager
def held(path: Path, *, make: bool = False) -> Iterator[bool]:
    """Whether this process alone has the journal meanwhile: what is added while another one takes
    it into the ledger would be deleted with it.

    Raises OSError as opening it does. A file system without locks has to do without.
    """
    if make:
        write_ours(path, b"", os.O_APPEND)
    try:
        descriptor = open_ours(path)
    except FileNotFoundError:
        yield False
        return
    try:
        yield _locks(descriptor)
    finally:
        os.close(descriptor)


def _locks(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return os.fstat(descriptor).st_nlink > 0  # or it was deleted before we had it


def read(path: Path) -> Iterator[Entry]:
    """The entries of a journal; a line torn by a crash or a full disk is passed over.

    Raises OSError, also for what is not our own file.
    """
    with os.fdopen(open_ours(path), encoding="utf-8") as file:
        for line in file:
            try:
                values = json.loads(line)
            except ValueError:
                continue
            yield Entry(
                run=RUNS.of_fields(values["run"]),
                recording=RECORDINGS.of_fields(values["recording"]),
                sensors=tuple(map(SENSORS.of_fields, values["sensors"])),
                windows=tuple((uuid, WINDOWS.of_fields(w)) for uuid, w in values["windows"]),
                steps=tuple(map(STEPS.of_fields, values["steps"])),
                events=tuple((n, EVENTS.of_fields(e)) for n, e in values["events"]),
                model=values["model"],
            )
