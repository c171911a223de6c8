"""Batches to send, of a run with two devices."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from carbontrack.ledger.batch import Batch, encode
from carbontrack.ledger.rows import Amendment, Event, Import, Live, OverlapPart, Stated, Step
from carbontrack.ledger.window import Pyramid, Window
from carbontrack.units import MS_PER_HOUR, now_ms
from carbontrack.vocabulary import Status
from tests.fixtures.runs import Recorded, recording_of

RECORDED = Recorded(count=2, project="nlp")
AMENDMENT = "0199bbbb-0000-4000-8000-000000000001"
BEGIN_MS = (now_ms() - 2 * MS_PER_HOUR) // MS_PER_HOUR * MS_PER_HOUR


def second(number: int, energy_j: float = 300.0) -> Window:
    """The second that begins so many seconds after the start."""
    _, hour = RECORDED.windows[0]
    return replace(
        hour,
        level_s=1,
        start_ms=BEGIN_MS + 1000 * number,
        energy_j=energy_j,
        energy_s=1.0,
        sampled_s=1.0,
        samples=10,
    )


def live(end: int) -> Live:
    """What is now at the end of these seconds; the second device has not been read."""
    return Live(BEGIN_MS + 1000 * (end - 1), (300.0, None), (300.0 * end, None), (50.0, None))


def batch(begin: int = 0, end: int = 60, *, run: str | None = None, ended: bool = False) -> Batch:
    """Minutes and hours of these seconds, as they are at their end, with a step and an event."""
    of_run = RECORDED.run if run is None else replace(RECORDED.run, id=run)
    recording = replace(
        recording_of(of_run),
        started_ms=BEGIN_MS,
        heartbeat_ms=BEGIN_MS + 1000 * end,
        ended_ms=BEGIN_MS + 1000 * end if ended else None,
        status=Status.COMPLETED if ended else Status.RUNNING,
        exit_code=0 if ended else None,
    )
    if run is not None:
        recording = replace(recording, id=run)
    windows: list[tuple[str, Window]] = []
    for number, sensor in enumerate(RECORDED.sensors):
        pyramid = Pyramid()
        for at in range(end):
            pyramid.add(second(at, 300.0 + number))
        changed = pyramid.take_changed()
        windows += [
            (sensor.uuid, window)
            for window in changed
            if window.level_s == 3600 or window.start_ms >= BEGIN_MS + 1000 * begin
        ]
    return Batch(
        run=replace(of_run, started_ms=BEGIN_MS),
        recording=recording,
        sensors=tuple(RECORDED.sensors),
        live=None if ended else live(end),
        windows=tuple(windows),
        steps=(Step(step=end, time_ms=BEGIN_MS + 1000 * end, loss=1.5, tokens=7),),
        events=((end, Event(BEGIN_MS + 1000 * end, "checkpoint", "saved")),),
        amendments=(
            Amendment(AMENDMENT, of_run.id, BEGIN_MS, "ada", "name", "llama2-7b", "llama2"),
        ),
        stated=(Stated("TPU v4", 2, 3.0, None, 1.5, "a colleague"),),
        imports=(
            Import("ab", BEGIN_MS, "power.csv", "csv", "UTC", 1, 9, 0, ("a note",), {"a": 1}),
        ),
        overlaps=(
            ((RECORDED.sensors[1].uuid, OverlapPart(BEGIN_MS, 600.0, 2.0)),) if ended else ()
        ),
        final=ended,
    )


def altered(change: Callable[[dict[str, Any]], None]) -> bytes:
    """A body whose document was changed."""
    document = json.loads(zlib.decompress(encode(batch())))
    change(document)
    return zlib.compress(json.dumps(document).encode())
