"""What is drawn and read where finer windows were compacted: coarser ones, over their time."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import pytest
from sqlalchemy import Connection, Engine

from carbontrack.ledger import engine, read
from carbontrack.ledger.recorded_rows import Recording, Run, Sensor
from carbontrack.ledger.rows import Coarser, Series
from carbontrack.ledger.transaction import WritableLedger, open_ledger
from carbontrack.ledger.window import Flag, Pyramid, Window
from carbontrack.ledger.write import RunWriter
from carbontrack.query.ledger import Ledger
from carbontrack.units import MS_PER_HOUR
from carbontrack.vocabulary import Status
from tests.fixtures.runs import Recorded, recording_of

HOUR_MS, MINUTE_MS = MS_PER_HOUR, 60_000
JUNE_MS = 1_780_272_000_000  # 2026-06-01: seconds and minutes of PostgreSQL are in parts by month
LEAD_MS = 600_000
BEGIN_MS = JUNE_MS - HOUR_MS - LEAD_MS  # the run has ten minutes of its first hour
SECONDS = 3 * 3600
ONE = replace(Recorded(name="over-a-month", count=2, seconds=SECONDS), number=0)


@dataclass(frozen=True)
class Attempt:
    """A recording of two devices, of some seconds since BEGIN_MS; the second half warmer."""

    number: int
    seconds: range

    @property
    def run(self) -> Run:
        started_ms = BEGIN_MS + 1000 * self.seconds.start
        return replace(ONE.begun, started_ms=started_ms)

    @property
    def recording(self) -> Recording:
        return recording_of(self.run, f"node {self.number}", restart=self.number)

    @property
    def end_ms(self) -> int:
        return BEGIN_MS + 1000 * self.seconds.stop

    def windows(self) -> Iterator[tuple[str, Window]]:
        for number, sensor in enumerate(ONE.sensors):
            pyramid = Pyramid()
            for s in self.seconds:
                window = second(number, s)
                pyramid.add(window)
                yield sensor.uuid, window
            for window in pyramid.take_changed():
                yield sensor.uuid, window


def second(number: int, s: int) -> Window:
    power_w = 100.0 * (number + 1) + s // 60 % 7 + s // 3600
    return Window(
        start_ms=BEGIN_MS + 1000 * s,
        level_s=1,
        energy_j=power_w,
        energy_s=1.0,
        sampled_s=1.0,
        samples=10,
        power_min_w=power_w - 5,
        power_max_w=power_w + 5,
        vitals=1,
        util_pct=50.0 + s // 60 % 3,
        memory_max_bytes=None,
        temperature_max_c=60.0,
        sm_clock_mhz=None,
        throttle=0,
        flags=Flag.COUNTER,
    )


UNTIL_J = [
    [0.0, *accumulate(second(number, s).energy_j or 0.0 for s in range(SECONDS))]
    for number in range(2)
]
TOTAL_J = sum(of_device[-1] for of_device in UNTIL_J)


def mean_of(number: int, first: int, after: int) -> float:
    """The power of a device from a second on, up to another one."""
    return (UNTIL_J[number][after] - UNTIL_J[number][first]) / (after - first)


def write(ledger: WritableLedger, *attempts: Attempt) -> None:
    for attempt in attempts:
        run = RunWriter(ledger, attempt.run, attempt.recording, ONE.sensors)
        run.commit(windows=list(attempt.windows()), heartbeat_ms=attempt.end_ms)
        run.finish(status=Status.COMPLETED, exit_code=0, ended_ms=attempt.end_ms)


ALL = Attempt(0, range(SECONDS))


@pytest.fixture
def whole(ledger: WritableLedger, reader: Connection) -> Run:
    write(ledger, ALL)
    reader.rollback()
    return read.resolve_run(reader, ONE.name)


def drop(url: str, level_s: int, hour_ms: int, sensors: list[int] | None = None) -> None:
    """As `db compact` drops the windows of an hour, whatever their age."""
    with closing(open_ledger(url)) as ledger, ledger.begin() as transaction:
        keys = [row["key"] for row in transaction.ask("select key from recordings", {})]
        for key in keys:
            transaction.remove_windows(
                key, [level_s], from_ms=hour_ms, to_ms=hour_ms + HOUR_MS, sensors=sensors
            )


def hour(number: int) -> int:
    """The hours that the run touches: it has ten minutes of the first and fifty of the last."""
    return JUNE_MS + (number - 2) * HOUR_MS


def energy_j(series: Series) -> float:
    return sum(energy_j or 0.0 for energy_j in series.columns["energy_j"])


def by_start(series: Series, device: int) -> dict[int, dict[str, Any]]:
    columns = series.columns
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    keys = sorted({row["device_key"] for row in rows})
    return {row["start_ms"]: row for row in rows if row["device_key"] == keys[device]}


def shown(url: str, run: Run, from_ms: int, to_ms: int, points: int = 4000) -> Series:
    with engine.open_reader(url).connect() as connection:
        return read.series(connection, run, from_ms=from_ms, to_ms=to_ms, points=points)


@pytest.mark.parametrize("left_s", [60, 3600])
def test_a_zoom_into_a_compacted_hour_is_a_step(ledger_url: str, whole: Run, left_s: int) -> None:
    """Ten minutes in the middle of an hour of which only minutes are left, or the hour."""
    from_ms, to_ms = hour(1) + 20 * MINUTE_MS, hour(1) + 30 * MINUTE_MS
    fine = shown(ledger_url, whole, from_ms, to_ms)
    assert (fine.level_s, fine.coarser) == (1, ())
    for level_s in (1, 60)[: 1 if left_s == 60 else 2]:
        drop(ledger_url, level_s, hour(1))
    series = shown(ledger_url, whole, from_ms, to_ms)
    assert series.level_s == 1
    assert series.coarser == (Coarser(from_ms, to_ms, left_s),)
    assert series.columns["start_ms"] == fine.columns["start_ms"]
    for number in range(2):
        rows = by_start(series, number)
        length_ms = 1000 * left_s
        for at_ms, row in [*rows.items()][::97]:
            first = (at_ms // length_ms * length_ms - BEGIN_MS) // 1000
            parts = [second(number, s) for s in range(first, first + left_s)]
            mean_w = mean_of(number, first, first + left_s)
            assert row["energy_j"] / row["energy_s"] == pytest.approx(mean_w)
            assert row["power_min_w"] == min(part.power_min_w or 0.0 for part in parts)
            assert row["power_max_w"] == max(part.power_max_w or 0.0 for part in parts)
    if left_s == 60:
        assert energy_j(series) == pytest.approx(energy_j(fine))


def test_an_hour_of_which_the_run_has_a_part_is_spread_over_that(
    ledger_url: str, whole: Run
) -> None:
    for level_s in (1, 60):
        drop(ledger_url, level_s, hour(0))
        drop(ledger_url, level_s, hour(3))
    series = shown(ledger_url, whole, BEGIN_MS - HOUR_MS, BEGIN_MS + LEAD_MS - 1)
    assert series.columns["start_ms"][0] == BEGIN_MS
    assert series.columns["start_ms"][-1] == BEGIN_MS + LEAD_MS - 1000 * series.level_s
    assert series.coarser == (Coarser(BEGIN_MS, BEGIN_MS + LEAD_MS - 1, 3600),)
    lead_s = LEAD_MS // 1000
    assert energy_j(series) == pytest.approx(sum(mean_of(n, 0, lead_s) for n in range(2)) * lead_s)
    after = shown(ledger_url, whole, ALL.end_ms + MINUTE_MS, hour(3) + HOUR_MS - 1)
    assert after.columns["start_ms"] == [], "nothing was recorded there"
    assert after.coarser == ()


def test_levels_meet_over_the_end_of_a_month(ledger_url: str, whole: Run) -> None:
    """Hours of May, then minutes, then seconds in June, in one picture."""
    drop(ledger_url, 1, hour(0))
    drop(ledger_url, 60, hour(0))
    drop(ledger_url, 1, hour(1))
    before = shown(ledger_url, whole, BEGIN_MS, ALL.end_ms, points=20_000)
    drop(ledger_url, 60, hour(1))
    for points in (20_000, 800, 100):
        series = shown(ledger_url, whole, BEGIN_MS, ALL.end_ms, points=points)
        assert energy_j(series) == pytest.approx(TOTAL_J)
        assert series.coarser == (Coarser(BEGIN_MS, JUNE_MS, 3600),)
        of_june = by_start(series, 1)
        seconds = {at // 1000 for at in of_june if at >= JUNE_MS}
        assert seconds == set(range(JUNE_MS // 1000, ALL.end_ms // 1000, series.level_s))
    assert before.coarser == (
        Coarser(BEGIN_MS, hour(1), 3600),
        Coarser(hour(1), JUNE_MS, 60),
    )


def sensor_keys(reader: Connection) -> list[Sensor]:
    return read.sensors(reader, read.resolve_run(reader, ONE.name))


@pytest.mark.parametrize("seed", range(4))
def test_any_device_may_have_lost_any_hour(ledger_url: str, whole: Run, seed: int) -> None:
    """As in ledgers that were compacted apart, and merged: the first device and the second, hours
    in the middle, and minutes of which the seconds are there.
    """
    chance = random.Random(seed)
    places = [(key, number) for key in (1, 2) for number in range(4)]
    lost = {level_s: set(chance.sample(places, chance.randint(0, 8))) for level_s in (1, 60)}
    for level_s, some in lost.items():
        for key, number in some:
            drop(ledger_url, level_s, hour(number), [key])
    cuts = sorted(chance.sample(range(BEGIN_MS // 1000, ALL.end_ms // 1000), 2))
    for from_ms, to_ms in [(BEGIN_MS, ALL.end_ms), (cuts[0] * 1000, cuts[1] * 1000)]:
        for points in (20_000, 150):
            series = shown(ledger_url, whole, from_ms, to_ms, points=points)
            expected: dict[int, set[int]] = defaultdict(set)
            for number in range(2):
                rows = by_start(series, number)
                length_ms = series.level_s * 1000
                starts = range(from_ms // length_ms * length_ms, to_ms, length_ms)
                assert set(starts) - set(rows) == set()
                for at_ms, row in rows.items():
                    number_of_hour = (at_ms - hour(0)) // HOUR_MS
                    place = number + 1, number_of_hour
                    least = 1 if series.level_s % 60 else 60
                    has_s = next(
                        level
                        for level in (1, 60, 3600)
                        if level >= least and place not in lost.get(level, ())
                    )
                    span_s = max(has_s, series.level_s)
                    first = at_ms // 1000 // span_s * span_s - BEGIN_MS // 1000
                    mean_w = mean_of(number, max(0, first), min(SECONDS, first + span_s))
                    assert row["energy_j"] == pytest.approx(mean_w * row["energy_s"]), place
                    if has_s > least and at_ms < to_ms:
                        expected[has_s].add(max(at_ms, from_ms))
            said = {
                level_s: {
                    at
                    for one in series.coarser
                    if one.level_s == level_s
                    for at in some
                    if one.from_ms <= at < one.to_ms
                }
                for level_s, some in expected.items()
            }
            assert said == expected
            assert {one.level_s for one in series.coarser} == set(expected)


def test_attempts_and_what_they_recorded_twice(ledger: WritableLedger, ledger_url: str) -> None:
    """The second began while the first still ran, in the same hour; that hour is compacted."""
    half = SECONDS // 2
    write(ledger, Attempt(0, range(half + 300)), Attempt(1, range(half, SECONDS)))
    with engine.open_reader(ledger_url).connect() as connection:
        run = read.resolve_run(connection, ONE.name)
        before = read.series(connection, run, points=20_000)
    assert energy_j(before) == pytest.approx(TOTAL_J)
    overlap_ms = BEGIN_MS + 1000 * half
    from_ms, to_ms = overlap_ms - 30 * MINUTE_MS, overlap_ms + 30 * MINUTE_MS
    drop(ledger_url, 1, overlap_ms // HOUR_MS * HOUR_MS)
    after = shown(ledger_url, run, BEGIN_MS, ALL.end_ms, points=20_000)
    assert energy_j(after) == pytest.approx(TOTAL_J)
    starts = [*zip(after.columns["device_key"], after.columns["start_ms"], strict=True)]
    assert starts == sorted(set(starts)), "a device has a bucket once"
    part = shown(ledger_url, run, from_ms, to_ms)
    for rows in (by_start(part, 0), by_start(part, 1)):
        assert set(range(from_ms, to_ms, 1000)) <= set(rows)


def test_a_gap_is_not_filled_where_seconds_are_left(
    ledger: WritableLedger, ledger_url: str
) -> None:
    """Ten minutes between two attempts in an hour, and a device that was lost in the second."""
    write(ledger, Attempt(0, range(3000)), Attempt(1, range(3600, SECONDS)))
    with engine.open_reader(ledger_url).connect() as connection:
        run = read.resolve_run(connection, ONE.name)
    gap_ms = BEGIN_MS + 3000 * 1000
    for length_ms in (MINUTE_MS, 590_000):
        series = shown(ledger_url, run, gap_ms + 1000, gap_ms + length_ms)
        assert (series.columns["start_ms"], series.coarser) == ([], ())


def test_windows_of_what_is_left(ledger_url: str, whole: Run) -> None:
    """`Ledger.windows` has coarser ones where the level was compacted, and the same total."""
    ledger = Ledger(ledger_url)
    before = ledger.windows(ONE.name, level_s=1)
    assert set(before["level_s"]) == {1}
    drop(ledger_url, 1, hour(1))
    drop(ledger_url, 1, hour(2), [2])
    drop(ledger_url, 60, hour(2), [2])
    after = ledger.windows(ONE.name, level_s=1)
    assert after["energy_j"].sum() == pytest.approx(before["energy_j"].sum())
    assert after.groupby("level_s").size().to_dict() == {
        1: 2 * (600 + 3000) + 3600,
        60: 2 * 60,
        3600: 1,
    }
    assert after.sort_values(["device", "start"])["start"].tolist() == after["start"].tolist()
    inside = ledger.windows(
        ONE.name, level_s=1, since="2026-06-01T00:20", until="2026-06-01T00:20:10"
    )
    assert list(inside["level_s"]) == [1] * 10 + [3600]
    assert len(ledger.windows(ONE.name, level_s=60)) == 2 * 180 - 60 + 1


@pytest.fixture
def only_hours(writer: Engine, ledger: WritableLedger) -> Recorded:
    """A run that never had finer windows, as of an import of hours."""
    one = Recorded(name="hours", count=2, seconds=5400)
    run = RunWriter(ledger, one.begun, recording_of(one.begun), one.sensors)
    run.commit(windows=one.windows, heartbeat_ms=one.end_ms)
    run.finish(status=Status.COMPLETED, exit_code=0, ended_ms=one.end_ms)
    return one


def test_a_run_of_hours_alone(ledger_url: str, only_hours: Recorded) -> None:
    with engine.open_reader(ledger_url).connect() as connection:
        run = read.resolve_run(connection, "hours")
        from_ms = only_hours.start_ms + 70 * MINUTE_MS
        series = read.series(connection, run, from_ms=from_ms, to_ms=from_ms + MINUTE_MS)
    assert series.columns["power_max_w"] == [only_hours.power_w + 10] * 2 * 61
    watts = [
        j / s for j, s in zip(series.columns["energy_j"], series.columns["energy_s"], strict=True)
    ]
    assert watts == pytest.approx([only_hours.power_w] * 2 * 61)
