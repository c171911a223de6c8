"""The journal: measurements that could not reach the ledger, one JSON object a line beside it.

A ledger may lie in a folder where others can write, too: a journal is our own file or none.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carbontrack.files import open_ours, write_ours
from carbontrack.ledger.rows import Event, Recording, Run, Sensor, Step
from carbontrack.ledger.tables import EVENTS, RECORDINGS, RUNS, SENSORS, STEPS, WINDOWS
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


def append(path: Path, entry: Entry) -> None:
    """Add an entry, durably. Raises OSError, also where the folder or the file is not ours."""
    # What a full disk tore off before must not take this line with it.
    write_ours(path, f"\n{json.dumps(dataclasses.asdict(entry))}\n".encode(), os.O_APPEND)


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
