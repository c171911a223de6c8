"""The recorder's sums in memory: right, and no larger after weeks than after hours."""

from __future__ import annotations

import tracemalloc

from carbontrack.ledger.rows import Step
from carbontrack.record.steps import Told
from carbontrack.record.totals import Totals
from carbontrack.units import MS_PER_HOUR
from tests.fixtures.pictures import window_at
from tests.fixtures.runs import START_MS, Recorded

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
                Step(step=1000 * hour + number, time_ms=at_ms + minute, loss=2.0, tokens=4096)
                for number in range(100)
            ]
            totals.add([(sensor.uuid, row) for sensor in sensors], Told(steps=steps))
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 6 * 2**20, "one row for each device and hour, and nothing for a step"
    usage = totals.usage(sensors)
    assert sum(one.energy_j or 0 for one in usage) == 8 * HOURS * 3600 * POWER_W
    assert totals.steps().tokens == HOURS * 300 * 4096
