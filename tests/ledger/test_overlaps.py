"""Which part of a run other runs recorded too, in both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Connection

from carbontrack.ledger import overlaps, read
from carbontrack.ledger.transaction import WritableLedger
from carbontrack.ledger.window import Pyramid
from carbontrack.ledger.write import RunWriter
from tests.fixtures.pictures import window_at
from tests.fixtures.runs import START_MS, Recorded, recording_of

POWER_W = 250.0


def put(
    ledger: WritableLedger, number: int, start_s: int, end_s: int, *, seconds: bool = True
) -> None:
    """A run of two devices between two times, in windows of all levels or without the seconds."""
    recorded = Recorded(number=number, count=2)
    start_ms, end_ms = START_MS + start_s * 1000, START_MS + end_s * 1000
    run = replace(recorded.run, started_ms=start_ms, ended_ms=end_ms, heartbeat_ms=end_ms)
    writer = RunWriter(ledger, run, recording_of(run), recorded.sensors)
    for sensor in recorded.sensors:
        pyramid = Pyramid()
        fine = [window_at(at, 1, POWER_W) for at in range(start_ms, end_ms, 1000)]
        for window in fine:
            pyramid.add(window)
        kept = [*pyramid.take_changed(), *(fine if seconds else [])]
        writer.commit(windows=[(sensor.uuid, w) for w in kept], heartbeat_ms=end_ms)


def found(reader: Connection) -> dict[int, list[tuple[str, float, float]]]:
    runs = read.list_runs(reader)
    repeated = overlaps.recorded_twice(reader, runs)
    numbers = {run.id: int(run.id[4:8], 16) for run in runs}
    return {
        numbers[run_id]: sorted((one.uuid, one.energy_j, one.seconds) for one in rows)
        for run_id, rows in repeated.items()
    }


def both(seconds: float) -> list[tuple[str, float, float]]:
    return [(f"GPU-nvml-{i}", pytest.approx(seconds * POWER_W), seconds) for i in range(2)]


def test_runs_after_each_other_share_nothing(ledger: WritableLedger, reader: Connection) -> None:
    put(ledger, 1, 0, 30)
    put(ledger, 2, 30, 60)
    assert found(reader) == {}


def test_the_run_that_began_first_keeps_what_both_recorded(
    ledger: WritableLedger, reader: Connection
) -> None:
    put(ledger, 1, 0, 100)
    put(ledger, 2, 80, 130)
    assert found(reader) == {2: both(20)}


def test_three_at_once_count_each_second_once(ledger: WritableLedger, reader: Connection) -> None:
    put(ledger, 1, 0, 100)
    put(ledger, 2, 40, 160)
    put(ledger, 3, 50, 200)
    assert found(reader) == {2: both(60), 3: both(110)}


def test_without_the_seconds_it_is_known_to_the_minute(
    ledger: WritableLedger, reader: Connection
) -> None:
    put(ledger, 1, 0, 120)
    put(ledger, 2, 60, 180, seconds=False)
    assert found(reader) == {2: both(60)}
