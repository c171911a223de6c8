"""What the recorder keeps in memory: right, and hardly more after weeks than after hours."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

from carbontrack.ledger.recorded_rows import Step
from carbontrack.ledger.url import ledger_url
from carbontrack.ledger.window import Pyramid
from carbontrack.meters.base import Device, Reading
from carbontrack.record.clock import Clock
from carbontrack.record.logged import LoggedLines, LoggedStep
from carbontrack.record.outbox import Outbox
from carbontrack.record.reduce import WindowBuilder
from carbontrack.record.totals import Totals
from carbontrack.units import MS_PER_HOUR, NS_PER_S
from carbontrack.vocabulary import DeviceKind, Quality, Status
from tests.fixtures.pictures import window_at
from tests.fixtures.runs import START_MS, Recorded, recording_of

HOURS = 35 * 24
POWER_W = 400.0


def test_thirty_five_days_of_eight_gpus_stay_small() -> None:
    sensors = Recorded(count=8).sensors
    totals = Totals()
    tracemalloc.start()
    for hour in range(HOURS):
        at_ms = START_MS + hour * MS_PER_HOUR
        for minute in (0, 20, 40):  # an hour's row comes again and again as it fills
            row = window_at(at_ms, 3600, POWER_W)
            steps = [
                LoggedStep(Step(90 * hour + 30 * minute // 20 + number, at_ms, tokens=4096))
                for number in range(30)
            ]
            totals.add([(sensor.uuid, row) for sensor in sensors], LoggedLines(steps=steps))
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    of_steps = 28 * totals.steps().steps
    assert grown < 6 * 2**20 + of_steps, "a row for each device and hour, 28 bytes for each step"
    usage = totals.usage(sensors)
    assert sum(one.energy_j or 0 for one in usage) == 8 * HOURS * 3600 * POWER_W
    assert totals.steps().tokens == HOURS * 90 * 4096


def test_from_reading_to_ledger_twelve_days_stay_small(tmp_path: Path) -> None:
    """Five seconds of each hour go all the way; the rest of the hour is a gap."""
    hours = 12 * 24
    recorded = Recorded(count=8, seconds=hours * 3600)
    clock = Clock(recorded.start_ms, 0)
    device = Device("", DeviceKind.GPU, "", "test", Quality.POWER, "power", "gpu")
    builders = [WindowBuilder(device, clock, start_ns=0) for _ in recorded.sensors]
    pyramids = [Pyramid() for _ in recorded.sensors]
    totals = Totals()
    started = recorded.begun
    said: list[str] = []
    outbox = Outbox(
        ledger_url(str(tmp_path / "ledger.db")),
        [tmp_path / "journal.jsonl"],
        started,
        recording_of(started),
        recorded.sensors,
        said.append,
        said.append,
    )
    for hour in range(hours):
        rows = []
        for second in range(6):
            reading = Reading((3600 * hour + second) * NS_PER_S, None, POWER_W)
            for sensor, builder, pyramid in zip(recorded.sensors, builders, pyramids, strict=True):
                for window in builder.add(reading):
                    pyramid.add(window)
                    rows.append((sensor.uuid, window))
        for sensor, pyramid in zip(recorded.sensors, pyramids, strict=True):
            rows += [(sensor.uuid, window) for window in pyramid.take_changed()]
        totals.add(rows, LoggedLines())
        outbox.put(windows=rows)
        outbox.send(recorded.start_ms + hour * MS_PER_HOUR)
        if hour == 24:  # all is imported, and every cache is filled
            tracemalloc.start()
    end_ms = recorded.end_ms
    assert outbox.finish(
        status=Status.COMPLETED, exit_code=0, ended_ms=end_ms, heartbeat_ms=end_ms
    ), said
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(totals.usage(recorded.sensors)) == 8 * hours
    assert grown < 2 * 2**20, "one row for each device and hour"
