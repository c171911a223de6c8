"""Seconds that are packed are the same seconds, whatever they are and however they come."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from carbontrack.ledger import engine
from carbontrack.ledger.join import is_better
from carbontrack.ledger.packed import pack, unpack
from carbontrack.ledger.tables import WINDOWS
from carbontrack.ledger.transaction import Transaction, WritableLedger, open_ledger
from carbontrack.ledger.window import Flag, Window
from carbontrack.ledger.write import RunWriter, sensor_keys
from tests.fixtures.runs import Recorded, recording_of

ONE = Recorded(count=2)
START_MS = ONE.start_ms // 3_600_000 * 3_600_000
_, HOUR = ONE.windows[0]
Row = tuple[Any, ...]


def second(at: int, **other: Any) -> Window:
    known = {"energy_j": 351.207, "energy_s": 1.0, "sampled_s": 0.998, "samples": 10}
    return replace(HOUR, level_s=1, start_ms=START_MS + 1000 * at, **known | other)


def thousandths(most: int) -> st.SearchStrategy[float]:
    return st.integers(0, most).map(lambda number: number / 1000)


ordinary = st.builds(
    second,
    at=st.just(0),
    energy_j=st.none() | thousandths(10**6),
    energy_s=thousandths(1000),
    power_min_w=st.none() | thousandths(10**6),
    util_pct=st.none() | st.integers(0, 10_000).map(lambda number: number / 100),
    memory_max_bytes=st.none() | st.integers(0, 1 << 28).map(lambda kib: kib * 1024),
    temperature_max_c=st.none() | st.integers(-40, 120).map(float),
    throttle=st.integers(0, (1 << 15) - 1),
    flags=st.integers(0, sum(Flag)).map(Flag),
)
odd = st.builds(
    second,
    at=st.just(0),
    energy_j=st.floats(allow_nan=False, allow_infinity=False),
    util_pct=st.sampled_from([1 / 3, 4_000.0]),
    memory_max_bytes=st.integers(0, 1 << 50),
    throttle=st.integers(1 << 31, (1 << 63) - 1),
)


def row(window: Window, sensor: int = 1) -> Row:
    return WINDOWS.in_order(window, 1, sensor)


@given(
    found=st.lists(ordinary, min_size=1, max_size=60),
    at=st.permutations(range(60)),
)
def test_what_is_packed_comes_back(found: list[Window], at: list[int]) -> None:
    starts = sorted(at[: len(found)])
    rows = [
        row(replace(w, start_ms=START_MS + 1000 * n)) for n, w in zip(starts, found, strict=True)
    ]
    segment, others = pack(rows)
    assert segment is not None and not others
    assert list(unpack(segment)) == rows


def test_one_value_is_enough_where_all_are_the_same() -> None:
    segment, _ = pack([row(second(at)) for at in range(60)])
    assert segment is not None
    assert segment[3] is None, "all seconds of the minute"
    assert {len(array) for array in segment[4:] if array is not None} == {1}


@pytest.mark.parametrize(
    "unfit",
    [
        {"energy_j": 1.0005},
        {"energy_j": 1e300},
        {"energy_j": math.inf},
        {"throttle": 1 << 40},
        {"memory_max_bytes": 1025},
        {"util_pct": 400.0},
        {"samples": 40_000},
    ],
)
def test_a_second_that_does_not_fit_is_left_as_it_is(unfit: dict[str, Any]) -> None:
    rows = [row(second(at)) for at in range(3)]
    rows[1] = row(second(1, **unfit))
    segment, others = pack(rows)
    assert others == [rows[1]]
    assert segment is not None and list(unpack(segment)) == [rows[0], rows[2]]


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[WritableLedger]:
    with closing(open_ledger(ledger_url)) as opened:
        RunWriter(opened, ONE.run, recording_of(ONE.run), ONE.sensors)
        yield opened


def stored(transaction: Transaction) -> list[Row]:
    names = ", ".join(WINDOWS.columns)
    asked = f"select {names} from windows order by level, start_ms, sensor_key"
    return [tuple(found.values()) for found in transaction.ask(asked, {})]


mixed = st.one_of(ordinary, ordinary, ordinary, odd)
parts = st.lists(
    st.lists(
        st.tuples(mixed, st.integers(0, 130), st.integers(0, 1), st.integers(1, 3)), max_size=20
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=parts, twice=st.data())
def test_late_again_and_in_any_order_the_better_seconds_are_there(
    ledger: WritableLedger, sent: list[list[tuple[Window, int, int, int]]], twice: st.DataObject
) -> None:
    with ledger.begin() as transaction:
        sensors = sorted(sensor_keys(transaction, 1).values())
    rows = [
        [
            row(replace(w, start_ms=START_MS + 1000 * at, samples=samples), sensors[device])
            for w, at, device, samples in part
        ]
        for part in sent
    ]
    best: dict[Any, Row] = {}
    for one in [one for part in rows for one in part]:
        before = best.get(one[:3])
        if before is None or is_better(one, before):
            best[one[:3]] = one
    order = twice.draw(st.permutations([*rows, rows[0]]))
    with ledger.begin() as transaction:
        transaction.remove_windows(1, [1])
    for part in order:
        with ledger.begin() as transaction:
            transaction.put_better(part, is_better)
    with ledger.begin() as transaction:
        found = {one[:3]: one for one in stored(transaction)}
        assert found.keys() == best.keys()
        for place, one in found.items():  # of two that are as good, either
            assert not is_better(best[place], one)


def test_the_recorder_replaces_what_it_wrote_and_some_can_be_removed(
    ledger: WritableLedger,
) -> None:
    first = [row(second(at, energy_j=1 / 3 if at == 70 else 5.0)) for at in range(30, 130)]
    again = [row(second(at, energy_j=4.0)) for at in range(50, 90)]
    hour = row(replace(HOUR, start_ms=START_MS))
    with ledger.begin() as transaction:
        transaction.put(WINDOWS, [*first, hour])
        transaction.put(WINDOWS, again)
        expected = sorted(
            {one[2]: one for one in [*first, *again]}.values(), key=lambda one: one[2]
        )
        assert stored(transaction) == [*expected, hour]
        to_ms = START_MS + 60_000
        transaction.remove_windows(1, [1], from_ms=START_MS, to_ms=to_ms, sensors=[1])
        transaction.remove_windows(1, [1], from_ms=to_ms, to_ms=to_ms + 60_000, sensors=[2])
        assert stored(transaction) == [*(one for one in expected if one[2] >= to_ms), hour]
        transaction.write("delete from recordings where key = :key", [{"key": 1}])
        assert stored(transaction) == []


def test_a_stretch_of_time_has_what_all_of_it_has(ledger: WritableLedger) -> None:
    rows = [row(second(at)) for at in range(200) if at not in range(70, 80)]
    with ledger.begin() as transaction:
        transaction.put(WINDOWS, rows)
        from_ms, to_ms = START_MS + 61_000, START_MS + 130_500
        asked = "select start_ms from windows_between(:level, :from_ms, :to_ms) w order by 1"
        values = {"level": 1, "from_ms": from_ms, "to_ms": to_ms}
        found = [one["start_ms"] for one in transaction.ask(asked, values)]
        assert found == [one[2] for one in rows if from_ms <= one[2] < to_ms]


def test_seconds_are_packed_by_the_minute_in_partitions_by_day(postgres_url: str) -> None:
    url = engine.ledger_url(postgres_url)
    day = 86_400
    with closing(open_ledger(url)) as ledger:
        RunWriter(ledger, ONE.run, recording_of(ONE.run), ONE.sensors)
        with ledger.begin() as transaction:
            ats = [*range(120), *range(day, day + 60)]
            transaction.put(WINDOWS, [row(second(at)) for at in ats])
    with engine.open_reader(url).connect() as connection:
        assert connection.scalar(text("select count(*) from seconds")) == 3
        assert connection.scalar(text("select count(*) from windows")) == 180
        days = connection.scalars(text("select distinct tableoid::regclass::text from seconds"))
        assert len(days.all()) == 2


def test_a_row_of_the_future_is_refused_and_costs_nobody_else_anything(postgres_url: str) -> None:
    from carbontrack.units import now_ms

    url = engine.ledger_url(postgres_url)
    with closing(open_ledger(url)) as ledger:
        RunWriter(ledger, ONE.run, recording_of(ONE.run), ONE.sensors)
        late = replace(second(0), start_ms=(now_ms() // 1000 + 40 * 86_400) * 1000)
        with pytest.raises(Exception, match="of the future") as refused, ledger.begin() as one:
            one.put(WINDOWS, [row(late)])
        assert engine.refuses_rows(refused.value)


def test_the_layout_is_known_alike_to_what_packs_and_to_the_view(tmp_path: Path) -> None:
    from carbontrack.ledger import packed
    from carbontrack.ledger.migrations import server_1001

    made = {name: array for name, array, *_ in server_1001._PACKED}
    assert made == {name: array for name, array, *_ in packed.PACKED}
