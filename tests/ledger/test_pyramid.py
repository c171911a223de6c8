"""The levels of the pyramid in the ledger: one total, to the joule."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, text

from carbontrack.ledger import pyramid, read
from carbontrack.ledger.transaction import WritableLedger
from carbontrack.ledger.window import LEVELS_S, Flag, Pyramid, Window, merge
from carbontrack.ledger.write import RunWriter
from tests.fixtures.runs import START_MS, Recorded, recording_of
from tests.fixtures.stored import change_windows

ONE = Recorded(count=2)
# Whole millijoules, as the counters give them, add without rounding; so do these binary fractions.
energies = st.none() | st.integers(0, 2**20).map(lambda j: j / 1024)


@st.composite
def seconds(draw: st.DrawFn) -> list[Window]:
    """Some seconds of one device over a few hours, with gaps."""
    starts = draw(st.lists(st.integers(0, 3 * 3600), unique=True, min_size=1, max_size=40))
    return [
        Window(
            start_ms=START_MS + 1000 * start,
            level_s=1,
            energy_j=(energy_j := draw(energies)),
            energy_s=0.0 if energy_j is None else 1.0,
            sampled_s=draw(st.sampled_from([0.0, 0.5, 1.0])),
            samples=draw(st.integers(0, 10)),
            power_min_w=energy_j,
            power_max_w=energy_j,
            vitals=draw(st.integers(0, 3)),
            util_pct=draw(st.none() | st.integers(0, 100).map(float)),
            memory_max_bytes=draw(st.none() | st.integers(0, 2**40)),
            temperature_max_c=draw(st.none() | st.integers(20, 90).map(float)),
            sm_clock_mhz=draw(st.none() | st.integers(200, 2000).map(float)),
            throttle=draw(st.integers(0, 255)),
            flags=Flag(draw(st.integers(0, 255))),
        )
        for start in sorted(starts)
    ]


def write(ledger: WritableLedger, of_device: list[list[Window]], *, at_once: int) -> RunWriter:
    """As the recorder does: a few seconds at a time, with the coarse windows that they change."""
    with ledger.begin() as transaction:
        transaction.write("delete from runs where key > :key", [{"key": 0}])
    run = RunWriter(ledger, ONE.run, recording_of(ONE.run), ONE.sensors)
    for sensor, windows in zip(ONE.sensors, of_device, strict=True):
        growing = Pyramid()
        for begin in range(0, len(windows), at_once):
            batch = windows[begin : begin + at_once]
            for window in batch:
                growing.add(window)
            rows = [(sensor.uuid, window) for window in [*batch, *growing.take_changed()]]
            run.commit(windows=rows, heartbeat_ms=ONE.end_ms)
    return run


def levels(connection: Connection) -> dict[int, list[tuple[object, ...]]]:
    """The sums of each level, one row a device."""
    query = text(
        "select sensor_key, sum(energy_j), sum(energy_s), sum(sampled_s), sum(samples), "
        "min(power_min_w), max(power_max_w), sum(vitals), max(memory_max_bytes), "
        "max(temperature_max_c) from windows where level = :level group by sensor_key order by 1"
    )
    return {
        level_s: [tuple(row) for row in connection.execute(query, {"level": level_s})]
        for level_s in LEVELS_S
    }


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(first=seconds(), second=seconds(), at_once=st.integers(1, 50))
def test_every_level_has_the_same_total(
    ledger: WritableLedger, writer: Engine, first: list[Window], second: list[Window], at_once: int
) -> None:
    write(ledger, [first, second], at_once=at_once)
    with writer.connect() as connection:
        found = levels(connection)
        assert found[1] == found[60] == found[3600]
        run = read.resolve_run(connection, "last")
        totals = read.totals(connection, run)
        for usage, windows in zip(totals, [first, second], strict=True):
            whole = merge(windows, start_ms=START_MS, level_s=3600)
            assert usage.energy_j == whole.energy_j
            assert usage.samples == whole.samples
            assert usage.flags == whole.flags


def test_coarse_windows_are_made_anew_from_the_seconds(
    ledger: WritableLedger, writer: Engine
) -> None:
    _, hour = ONE.windows[0]
    parts = [
        replace(hour, level_s=1, start_ms=START_MS + 1000 * s, energy_j=100.0 + s, energy_s=1.0)
        for s in range(3590, 3610)
    ]
    of_device = [parts, parts]
    run = write(ledger, of_device, at_once=7)
    with writer.begin() as connection:
        rows = connection.execute(text("select * from windows order by 1, 2, 3, 4")).all()
        change_windows(connection, "update windows set energy_j = 0 where level > 1")
    run.add_late([(ONE.sensors[0].uuid, window) for window in of_device[0]])
    with writer.connect() as connection:
        found = levels(connection)
        assert found[1][0] == found[60][0] == found[3600][0]
        assert found[3600][1][1] == 0, "the other device was not asked for"
    run.add_late([(ONE.sensors[1].uuid, of_device[1][0]), (ONE.sensors[1].uuid, of_device[1][-1])])
    with writer.connect() as connection:
        assert connection.execute(text("select * from windows order by 1, 2, 3, 4")).all() == rows


@given(
    length_ms=st.integers(0, 10**10),
    points=st.integers(2, 10**4),
    begin_ms=st.integers(10**12, 2 * 10**12),
)
def test_a_bucket_is_the_shortest_of_which_few_enough_touch_any_range(
    length_ms: int, points: int, begin_ms: int
) -> None:
    bucket_ms = pyramid.bucket_ms(length_ms, points)
    touched = (begin_ms + length_ms) // bucket_ms - begin_ms // bucket_ms + 1
    assert touched <= points
    if 1 < bucket_ms <= 86_400_000:
        assert touched >= points / 3 - 1
    in_seconds = pyramid.bucket_ms(length_ms, points, least_ms=1000)
    assert in_seconds == max(1000, bucket_ms)
    level_s = pyramid.level_for(in_seconds // 1000)
    assert level_s in LEVELS_S and (in_seconds // 1000) % level_s == 0
    assert level_s == 3600 or (in_seconds // 1000) % 3600


@given(length_ms=st.integers(0, 10**11), kept=st.integers(100, 10**5), shown=st.integers(2, 2000))
def test_longer_buckets_are_made_of_whole_mergeable_ones(
    length_ms: int, kept: int, shown: int
) -> None:
    mergeable_ms = pyramid.mergeable_ms(length_ms, kept)
    assert pyramid.bucket_ms(length_ms, kept) in (mergeable_ms, 2 * mergeable_ms) or (
        mergeable_ms == 43_200_000
    )
    longer_ms = pyramid.bucket_ms(length_ms, min(shown, kept))
    assert longer_ms % mergeable_ms == 0
