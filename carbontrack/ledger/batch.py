"""A batch: rows of one recording on their way to a team's ledger, as one compressed document.

Standard library only, for the recorder. What a collector makes of it is in `collect.wire`.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from carbontrack.ledger.packed import Segment, values_of
from carbontrack.ledger.recorded_rows import Amendment, Event, Recording, Run, Sensor, Step
from carbontrack.ledger.rows import ClockOffset, Import, Live, OverlapPart, Stated, Tombstone
from carbontrack.ledger.tables import RECORDINGS, RUNS, WINDOWS, Table, plain
from carbontrack.ledger.window import Window

VERSION = 1
"""Of the document; a collector refuses another one."""

EVERY_S = 10.0
"""How often a node posts what is new."""

PATH = "/v1/batches"
"""Where a collector takes batches."""

TOMBSTONES_PATH = "/v1/tombstones"
"""Where it takes tombstones, one at a time."""


LATE_HEADER = "Carbontrack-Late-Rows"
"""Of an answer to a batch: how many of its rows were left out, older than the collector keeps."""

TIME_HEADER = "Carbontrack-Time-Ms"
"""Of each answer: when it was made, in ms since the epoch by the collector's clock."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one recording, with all that is needed to write them into an empty ledger."""

    run: Run
    recording: Recording
    sensors: tuple[Sensor, ...]
    live: Live | None = None  # while it goes on
    windows: tuple[tuple[str, Window], ...] = ()  # with the UUID of the device
    segments: tuple[tuple[str, Segment], ...] = ()  # seconds by the minute, likewise
    steps: tuple[Step, ...] = ()
    events: tuple[tuple[int, Event], ...] = ()  # with their numbers in the recording
    clocks: tuple[ClockOffset, ...] = ()  # the newest of the recording
    amendments: tuple[Amendment, ...] = ()  # all of the run
    stated: tuple[Stated, ...] = ()  # all of the run
    imports: tuple[Import, ...] = ()  # all of the run
    overlaps: tuple[tuple[str, OverlapPart], ...] = ()  # of the last batch: all, by device
    final: bool = False  # the last of its recording: the answer is what the ledger then holds

    @property
    def rows(self) -> int:
        """How many rows there are beside the run, its recording and its sensors."""
        return len(self.windows) + len(self.segments) + len(self.steps) + len(self.events)


@dataclass(frozen=True, slots=True)
class Held:
    """How many rows of a recording a ledger holds, and what its hours add up to."""

    steps: int
    events: int
    minutes: int
    hours_mj: int


def encode(batch: Batch) -> bytes:
    """The document: compressed JSON."""
    number_of = {sensor.uuid: number for number, sensor in enumerate(batch.sensors)}
    document = {
        "version": VERSION,
        "run": _columns(RUNS, batch.run),
        "recording": _columns(RECORDINGS, batch.recording),
        "sensors": [plain(_fields(sensor)) for sensor in batch.sensors],
        "live": batch.live and _fields(batch.live),
        "windows": [
            [number_of[uuid], *WINDOWS.in_order(window)[:-1], int(window.flags)]
            for uuid, window in batch.windows
        ],
        "segments": [[number_of[uuid], *values_of(one)] for uuid, one in batch.segments],
        "steps": [plain(_fields(step)) for step in batch.steps],
        "clocks": [plain(_fields(clock)) for clock in batch.clocks],
        "amendments": [plain(_fields(one)) for one in batch.amendments],
        "stated": [plain(_fields(one)) for one in batch.stated],
        "imports": [plain(_fields(one)) for one in batch.imports],
        "overlaps": [[number_of[uuid], _fields(part)] for uuid, part in batch.overlaps],
        "final": batch.final,
        "events": [[number, plain(_fields(event))] for number, event in batch.events],
    }
    return _compressed(document)


def encode_tombstone(tombstone: Tombstone) -> bytes:
    """The document: compressed JSON."""
    return _compressed({"version": VERSION, "tombstone": plain(_fields(tombstone))})


def _compressed(document: Mapping[str, Any]) -> bytes:
    text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    return zlib.compress(text.encode())


def _columns(table: Table[Any], row: Any) -> Any:
    return plain({name: getattr(row, name) for name in table.fields})


def _fields(row: Any) -> dict[str, Any]:
    names: Sequence[str] = type(row).__dataclass_fields__
    return {name: getattr(row, name) for name in names}
