"""Finding runs, and their windows at the level that fits."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from sqlalchemy import Connection, Engine

from carbontrack.errors import CarbontrackError
from carbontrack.ledger import read
from carbontrack.ledger.rows import Node, Run, StepTotals
from carbontrack.ledger.write import RunWriter
from carbontrack.record.window import Flag, Pyramid, Window
from carbontrack.units import MS_PER_HOUR, now_ms
from tests.fixtures.runs import Recorded

SECONDS, EVERY = 2 * 3600 + 90, 10

RUNS = [
    Recorded(name="llama_7b", number=1, count=2, project="a", tags={"team": "nlp", "a.b c": "1"}),
    Recorded(name="llama-7b", number=2, count=2, project="b", tags={"team": "vision"}),
    Recorded(name="llama_7b", number=3, count=2, project="a"),
    Recorded(name="%", number=0x31, count=2, tags={"team": "nlp"}),
]


@pytest.fixture
def runs(writer: Engine) -> None:
    for one in RUNS:
        RunWriter(writer, one.run, Node("node1", None, "1", {}, one.end_ms), one.sensors)


def numbers(found: list[Run]) -> list[int]:
    return [int(run.id[4:8], 16) for run in found]


@pytest.mark.usefixtures("runs")
def test_runs_are_found_by_words_and_status(reader: Connection) -> None:
    def found(search: str = "", status: str = "", limit: int = 10) -> tuple[list[int], int]:
        runs, count = read.find_runs(reader, search=search, status=status, limit=limit)
        return numbers(runs), count

    assert found(limit=3) == ([0x31, 3, 2], 4)
    assert found("LLAMA_7b ada") == ([3, 1], 2)
    assert found("train.py") == ([0x31, 3, 2, 1], 4), "a word of the command"
    assert found("%") == ([0x31], 1), "a sign like any other"
    assert found("vision") == ([], 0), "tags are not searched"
    assert found(status="completed") == ([0x31, 3, 2, 1], 4)
    assert found(status="running") == ([], 0)


def test_a_run_whose_heartbeat_stopped_is_found_as_interrupted(
    writer: Engine, reader: Connection
) -> None:
    for number, heartbeat_ms in ((1, 1), (2, now_ms())):
        one = Recorded(name=f"run-{number}", number=number, count=2, status="running")
        started = replace(one.run, ended_ms=None, started_ms=1, exit_code=None)
        RunWriter(writer, started, Node("node1", None, "1", {}, heartbeat_ms), one.sensors)
    for status, number in (("interrupted", 1), ("running", 2)):
        runs, count = read.find_runs(reader, status=status, limit=5)
        assert ([run.name for run in runs], count) == ([f"run-{number}"], 1)
        assert {run.status for run in runs} == {status}
        assert read.find_runs(reader, search=status, limit=5)[1] == 1


@pytest.mark.usefixtures("runs")
def test_runs_are_listed_newest_first_and_filtered(reader: Connection) -> None:
    assert numbers(read.list_runs(reader)) == [0x31, 3, 2, 1]
    assert numbers(read.list_runs(reader, limit=2)) == [0x31, 3]
    assert numbers(read.list_runs(reader, project="a")) == [3, 1]
    assert numbers(read.list_runs(reader, project="a", limit=1)) == [3]
    assert numbers(read.list_runs(reader, name="llama_7b")) == [3, 1]
    assert numbers(read.list_runs(reader, tags=[("team", "nlp")])) == [0x31, 1]
    assert numbers(read.list_runs(reader, tags=[("a.b c", "1")])) == [1]
    assert numbers(read.list_runs(reader, tags=[("no", "nlp")])) == []
    assert numbers(read.list_runs(reader, since_ms=RUNS[1].start_ms)) == [0x31, 3, 2]


@pytest.mark.usefixtures("runs")
def test_a_run_is_found_by_id_prefix_name_or_last(reader: Connection) -> None:
    for reference, number in {
        "last": 0x31,
        RUNS[1].run.id: 2,
        RUNS[1].run.id.upper(): 2,
        "01970002": 2,
        "0197003": 0x31,
        "llama_7b": 3,
        "llama-7b": 2,
        "%": 0x31,
    }.items():
        assert numbers([read.resolve_run(reader, reference)]) == [number], reference


@pytest.mark.usefixtures("runs")
def test_a_run_that_is_not_there_is_said(reader: Connection) -> None:
    for reference in ("", "nobody", "llama", "_", "0197%", "02"):
        with pytest.raises(CarbontrackError, match="There is no run") as raised:
            read.resolve_run(reader, reference)
        assert repr(reference) in str(raised.value)


@pytest.mark.usefixtures("runs")
def test_a_prefix_of_several_runs_names_them(reader: Connection) -> None:
    with pytest.raises(CarbontrackError, match="ambiguous") as raised:
        read.resolve_run(reader, "0197000")
    for one in RUNS[:3]:
        assert one.run.id in str(raised.value)
    assert RUNS[3].run.id not in str(raised.value)


def test_an_empty_ledger_has_no_last_run(reader: Connection) -> None:
    assert read.list_runs(reader) == []
    with pytest.raises(CarbontrackError, match="There is no run 'last'"):
        read.resolve_run(reader, "last")


def test_a_run_of_which_nothing_is_known_has_empty_sums(writer: Engine, reader: Connection) -> None:
    one = RUNS[0]
    RunWriter(writer, one.run, Node("node1", None, "1", {}, one.end_ms), [])
    run = read.resolve_run(reader, "last")
    assert read.totals(reader, run) == []
    assert read.step_totals(reader, run) == StepTotals()
    assert all(values == [] for values in read.series(reader, run).columns.values())


def second(start_ms: int, power_w: float) -> Window:
    return Window(
        start_ms=start_ms,
        level_s=1,
        energy_j=power_w,
        energy_s=1.0,
        sampled_s=1.0,
        samples=10,
        power_min_w=power_w,
        power_max_w=power_w,
        vitals=1,
        util_pct=90.0,
        memory_max_bytes=None,
        temperature_max_c=60.0,
        sm_clock_mhz=1400.0,
        throttle=0,
        flags=Flag.COUNTER,
    )


@pytest.fixture
def long_run(writer: Engine) -> Recorded:
    """Two devices for two hours and a minute and a half, a second in ten, all levels."""
    one = Recorded(name="long", count=2, seconds=SECONDS)
    windows = []
    for number, sensor in enumerate(one.sensors):
        pyramid = Pyramid()
        for s in range(0, SECONDS, EVERY):
            window = second(one.start_ms + 1000 * s, 100.0 * (number + 1))
            pyramid.add(window)
            windows.append((sensor.uuid, window))
        windows += [(sensor.uuid, window) for window in pyramid.take_changed()]
    run = RunWriter(writer, one.run, Node("node1", None, "1", {}, one.end_ms), one.sensors)
    run.commit(windows=windows, heartbeat_ms=one.end_ms)
    return one


def test_a_series_has_the_finest_level_that_fits(long_run: Recorded, reader: Connection) -> None:
    run = read.resolve_run(reader, "long")
    for points, level_s, rows in [
        (SECONDS, 1, SECONDS // EVERY),
        (SECONDS - 1, 60, 122),
        (122, 60, 122),
        (121, 3600, 3),
        (1, 3600, 3),
    ]:
        series = read.series(reader, run, points=points)
        assert series.level_s == level_s
        assert len(series.columns["start_ms"]) == 2 * rows
        assert sum(series.columns["energy_j"]) == 300.0 * SECONDS / EVERY
        keys = list(zip(series.columns["device_key"], series.columns["start_ms"], strict=True))
        assert keys == sorted(keys)


def test_a_part_of_a_series_includes_the_windows_at_its_ends(
    long_run: Recorded, reader: Connection
) -> None:
    run = read.resolve_run(reader, "long")
    begin_ms = long_run.start_ms + MS_PER_HOUR
    part = read.series(reader, run, from_ms=begin_ms + 500, to_ms=begin_ms + 20_500, points=100)
    assert part.level_s == 1
    assert [ms - begin_ms for ms in part.columns["start_ms"]] == [0, 10_000, 20_000] * 2
    hours = read.series(reader, run, from_ms=begin_ms + 1, points=1)
    assert len(hours.columns["start_ms"]) == 2 * 2


def test_a_run_without_an_end_is_shown_to_its_last_sign_of_life(
    long_run: Recorded, writer: Engine, reader: Connection
) -> None:
    running = replace(read.resolve_run(reader, "long"), ended_ms=None)
    series = read.series(reader, running, points=SECONDS)
    assert len(series.columns["start_ms"]) == 2 * SECONDS / EVERY


@pytest.mark.parametrize("points", [1, 7, 40, 100, 1000])
def test_steps_are_thinned_evenly_and_end_with_the_last(
    writer: Engine, reader: Connection, points: int
) -> None:
    recorded = Recorded(count=2, steps=100)
    run = RunWriter(writer, recorded.run, Node("node1", None, "1", {}, 1), recorded.sensors)
    run.commit(steps=recorded.step_rows, heartbeat_ms=recorded.end_ms)
    found = read.resolve_run(reader, "last")
    steps = [step.step for step in read.steps(reader, found, points=points)]
    assert steps[-1] == 100
    assert len(steps) <= points
    assert len({b - a for a, b in pairwise(steps)}) <= 1
    half = recorded.step_rows[49].time_ms
    later = [step.step for step in read.steps(reader, found, from_ms=half, points=1000)]
    assert later == list(range(50, 101))
