"""Batches to send, of a run with two devices."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from carbontrack.ledger.batch import Batch, encode
from carbontrack.ledger.packed import Segment, pack, segment_of
from carbontrack.ledger.recorded_rows import Amendment, Event, Step
from carbontrack.ledger.rows import ClockOffset, Import, Live, OverlapPart, Stated
from carbontrack.ledger.tables import WINDOWS
from carbontrack.ledger.window import Flag, Pyramid, Window
from carbontrack.units import MS_PER_HOUR, now_ms
from carbontrack.vocabulary import Status
from tests.fixtures.runs import Recorded, recording_of

RECORDED = Recorded(count=2, project="nlp")
AMENDMENT = "0199bbbb-0000-4000-8000-000000000001"
BEGIN_MS = (now_ms() - 2 * MS_PER_HOUR) // MS_PER_HOUR * MS_PER_HOUR


ODD_S = 70  # a second of the second device, of which no segment holds what it has


def second(number: int, energy_j: float = 300.0, *, waits: bool = False) -> Window:
    """The second that begins so many seconds after the start; its energy may wait for a counter."""
    _, hour = RECORDED.windows[0]
    return replace(
        hour,
        level_s=1,
        start_ms=BEGIN_MS + 1000 * number,
        energy_j=energy_j,
        energy_s=1.0,
        sampled_s=1.0,
        samples=10,
        flags=Flag.INTEGRAL if waits else Flag.COUNTER,
    )


def minutes(uuid: str, seconds: list[Window]) -> tuple[list[tuple[str, Segment]], list[Window]]:
    """Seconds packed by the minute, and those that do not fit."""
    segments, odd = [], []
    for start_ms in sorted({one.start_ms // 60_000 for one in seconds}):
        of_minute = [one for one in seconds if one.start_ms // 60_000 == start_ms]
        segment, rest = pack([WINDOWS.in_order(one, 1, 1) for one in of_minute])
        if segment is not None:
            segments.append((uuid, segment_of(segment)))
        odd += [WINDOWS.read(dict(zip(WINDOWS.columns, row, strict=True))) for row in rest]
    return segments, odd


def live(end: int) -> Live:
    """What is now at the end of these seconds; the second device has not been read."""
    return Live(BEGIN_MS + 1000 * (end - 1), (300.0, None), (300.0 * end, None), (50.0, None))


def batch(
    begin: int = 0,
    end: int = 60,
    *,
    run: str | None = None,
    ended: bool = False,
    waits_from: int = 1 << 30,
) -> Batch:
    """These seconds with their minutes and hours, as they are at their end, a step and an event.
    From one second on the energy of the first device waits for its counter.
    """
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
    segments: list[tuple[str, Segment]] = []
    for number, sensor in enumerate(RECORDED.sensors):
        pyramid = Pyramid()
        seconds = [
            second(at, 300.0 + number - waits, waits=waits)
            for at in range(end)
            for waits in [number == 0 and at >= waits_from]
        ]
        if number == 1 and end > ODD_S:
            seconds[ODD_S] = replace(seconds[ODD_S], memory_max_bytes=1025)
        for one in seconds:
            pyramid.add(one)
        packed, odd = minutes(sensor.uuid, seconds[begin:])
        segments += packed
        windows += [(sensor.uuid, one) for one in odd]
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
        segments=tuple(segments),
        steps=(Step(step=end, time_ms=BEGIN_MS + 1000 * end, loss=1.5, tokens=7),),
        events=((end, Event(BEGIN_MS + 1000 * end, "checkpoint", "saved")),),
        clocks=(ClockOffset(BEGIN_MS, 3_000, 5),),
        amendments=(
            Amendment(
                AMENDMENT if run is None else f"0199bbbb{run[8:]}",
                *(of_run.id, BEGIN_MS, "ada", "name", "llama2-7b", "llama2"),
            ),
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
