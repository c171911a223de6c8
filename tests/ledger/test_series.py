"""What is drawn over time: buckets of any range add up to what was recorded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection

from carbontrack.ledger import read
from carbontrack.ledger.recorded_rows import Run
from carbontrack.ledger.rows import Series
from carbontrack.ledger.transaction import WritableLedger
from carbontrack.ledger.window import Flag, Pyramid, Window, merge
from carbontrack.ledger.write import RunWriter
from carbontrack.units import MS_PER_HOUR
from tests.fixtures.runs import Recorded, recording_of

SECONDS, EVERY = 2 * 3600 + 90, 10
LONG = Recorded(name="long", count=2, seconds=SECONDS)
GAP_S = range(1200, 2400)


def second(start_ms: int, number: int) -> Window:
    """Of a device that is read more or less often; the first does not know its utilisation."""
    at = start_ms // 10_000
    power_w = 100.0 * (number + 1) + at % 7
    return Window(
        start_ms=start_ms,
        level_s=1,
        energy_j=None if at % 11 == 0 else power_w,
        energy_s=0.0 if at % 11 == 0 else 1.0,
        sampled_s=1.0,
        samples=10,
        power_min_w=power_w - at % 5,
        power_max_w=power_w + at % 3,
        vitals=1 + at % 4,
        util_pct=90.0 + at % 8 if number else None,
        memory_max_bytes=None,
        temperature_max_c=60.0 + at % 9,
        sm_clock_mhz=1400.0,
        throttle=0,
        flags=Flag.COUNTER,
    )


SECONDS_OF = [
    [second(LONG.start_ms + 1000 * s, n) for s in range(0, SECONDS, EVERY) if s not in GAP_S]
    for n in range(LONG.count)
]


@pytest.fixture
def long_run(ledger: WritableLedger, reader: Connection) -> Run:
    """Two devices for two hours and a minute and a half, a second in ten, all levels; nothing is
    known of twenty minutes.
    """
    windows = []
    for sensor, seconds in zip(LONG.sensors, SECONDS_OF, strict=True):
        pyramid = Pyramid()
        for window in seconds:
            pyramid.add(window)
        windows += [(sensor.uuid, w) for w in [*seconds, *pyramid.take_changed()]]
    run = RunWriter(ledger, LONG.run, recording_of(LONG.run), LONG.sensors)
    run.commit(windows=windows, heartbeat_ms=LONG.end_ms)
    return read.resolve_run(reader, "long")


def rows(series: Series) -> list[dict[str, Any]]:
    names = list(series.columns)
    return [
        dict(zip(names, values, strict=True))
        for values in zip(*series.columns.values(), strict=True)
    ]


@pytest.mark.parametrize(
    ("points", "bucket_s"),
    [
        (SECONDS + 1, 1),
        (1500, 5),
        (1000, 10),
        (400, 30),
        (123, 60),
        (50, 300),
        (4, 3600),
        (1, 21_600),
    ],
)
def test_a_bucket_is_the_merger_of_its_windows(
    long_run: Run, reader: Connection, points: int, bucket_s: int
) -> None:
    series = read.series(reader, long_run, points=points)
    assert series.level_s == bucket_s
    found = rows(series)
    keys = [(row["device_key"], row["start_ms"]) for row in found]
    assert keys == sorted(set(keys))
    by_bucket: dict[tuple[int, int], list[Window]] = {}
    for key, seconds in zip(sorted({k for k, _ in keys}), SECONDS_OF, strict=True):
        for window in seconds:
            start_ms = window.start_ms // (1000 * bucket_s) * 1000 * bucket_s
            by_bucket.setdefault((key, start_ms), []).append(window)
    assert set(by_bucket) == set(keys), "a gap has no row"
    for row in found:
        parts = by_bucket[row.pop("device_key"), row["start_ms"]]
        merged = merge(parts, start_ms=row["start_ms"], level_s=bucket_s)
        expected = {name: getattr(merged, name) for name in row}
        assert row == pytest.approx(expected, nan_ok=False)
    total = sum(row["energy_j"] or 0.0 for row in found)
    assert total == pytest.approx(sum(w.energy_j or 0.0 for seconds in SECONDS_OF for w in seconds))


def test_a_range_that_moves_on_shows_the_same_whole_buckets(
    long_run: Run, reader: Connection
) -> None:
    begin_ms = LONG.start_ms + MS_PER_HOUR
    seen: dict[tuple[int, int], dict[str, Any]] = {}
    for moved_ms in range(0, 120_000, 7_900):
        shown = read.series(
            reader, long_run, from_ms=begin_ms + moved_ms, to_ms=begin_ms + moved_ms + 900_000
        )
        assert shown.level_s == 1
        shown = read.series(
            reader,
            long_run,
            from_ms=begin_ms + moved_ms,
            to_ms=begin_ms + moved_ms + 900_000,
            points=100,
        )
        assert shown.level_s == 10
        coarse = read.series(
            reader,
            long_run,
            from_ms=begin_ms + moved_ms,
            to_ms=begin_ms + moved_ms + 900_000,
            points=20,
        )
        assert coarse.level_s == 60
        for row in rows(coarse):
            assert seen.setdefault((row["device_key"], row["start_ms"]), row) == row
    assert len(seen) > 2 * 16


def test_no_more_windows_are_read_than_allowed(long_run: Run, reader: Connection) -> None:
    for most_rows, bucket_s in [(2 * SECONDS, 5), (2 * SECONDS - 1, 60), (240, 3600)]:
        series = read.series(reader, long_run, points=1500, most_rows=most_rows)
        assert series.level_s == bucket_s


def test_a_range_within_a_gap_is_empty(long_run: Run, reader: Connection) -> None:
    begin_ms, end_ms = (LONG.start_ms + 1000 * s for s in (GAP_S[1], GAP_S[-1]))
    for points in (50, 2000):
        series = read.series(reader, long_run, from_ms=begin_ms, to_ms=end_ms, points=points)
        assert rows(series) == []


def test_a_run_without_an_end_is_shown_to_its_last_sign_of_life(
    long_run: Run, reader: Connection
) -> None:
    running = replace(long_run, ended_ms=None)
    everything = read.series(reader, long_run, points=SECONDS + 1)
    assert read.series(reader, running, points=SECONDS + 1) == everything
