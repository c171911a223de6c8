"""A run whose nodes' clocks were off reads as one whose clocks were right, wherever it is read."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from sqlalchemy import Connection, Engine, event

from carbontrack import Ledger, config
from carbontrack.ledger import engine, latest, overlaps, read
from carbontrack.ledger.held import Held
from carbontrack.ledger.transaction import open_ledger
from carbontrack.ledger.write import RunWriter
from carbontrack.query import group, price
from carbontrack.query.attempts import tried
from carbontrack.query.phases import phases_of
from carbontrack.query.select import Selection, choose
from carbontrack.vocabulary import EventKind, Method, Status
from tests.fixtures.command import Command
from tests.fixtures.skewed import (
    BEGIN_MS,
    FALLS_S,
    KEPT_S,
    MONTH_MS,
    NODES,
    ONE,
    RESTARTED_S,
    RISES_S,
    SECONDS,
    Skewed,
    power_w,
)

RIGHT = Skewed()
AHEAD = Skewed({1: {0: 7}})  # the second node by 7 s
BOTH = Skewed({0: {0: -65}, 1: {0: 7}})
SET = Skewed({0: {0: 2, 100: 9}, 1: {0: 0, 157: 6}})  # their clocks are set in the run
BY = ("month", "attempt", "phase", "host")
FLAGS = config.flags(zone="FR", tariff=0.2)
POINTS = SECONDS + 2


def report(connection: Connection) -> dict[str, Any]:
    """All that is read of the run, by what it is."""
    (run,) = choose(connection, ["skewed"])
    held = Held(connection, [run])
    found: dict[str, Any] = {
        "run": (run.started_ms, run.ended_ms, run.heartbeat_ms, run.status, run.exit_code),
        "recordings": [
            (one.host, one.started_ms, one.ended_ms, one.heartbeat_ms)
            for one in held.recordings(run)
        ],
        "sensors": [(one.uuid, one.spans_ms) for one in held.sensors(run)],
        "steps": read.steps(connection, run),
        "step totals": astuple(read.step_totals(connection, run)),
        "step means": [
            list(map(astuple, read.step_means(connection, run, points=points)))
            for points in (1000, 40, 7)
        ],
        "losses": held.loss_means([run], 40),
        "events": read.events(connection, run),
        "tokens": sorted(read.tokens_of_steps(connection, run, [(BEGIN_MS, BEGIN_MS + 99_000)])),
        "hours": [_usage(one) for one in read.hours(connection, run)],
        "hours of all": [_usage(one) for one in read.hours_of_all(connection, run)],
        "totals": [astuple(replace(one, start_ms=0)) for one in read.totals(connection, run)],
        "seconds": _rows(read.windows(connection, run, 1)),
        "minutes": _sums(read.windows(connection, run, 60)),
        "chart": _rows(read.series(connection, run, points=POINTS).columns),
        "zoom": _rows(
            read.series(
                connection, run, from_ms=BEGIN_MS + 50_000, to_ms=BEGIN_MS + 70_000, points=100
            ).columns
        ),
        "coarse chart": _rows(read.series(connection, run, points=40).columns),
        "power now": latest.latest_power(connection, run, held.sensors(run)),
        "phases": [(one.name, one.spans_ms, one.energy_kwh) for one in phases_of(held, run).each],
        "attempts": [
            (one.attempt.started_ms, one.attempt.until_ms, one.attempt.lost_ms, one.energy_kwh)
            for one in tried(held, run)
        ],
        "lost": [one.lost_kwh for one in tried(held, run)],
    }
    methods = [Method.MEASURED]
    found["table"] = _cells(price.estimates(connection, [run], FLAGS, methods))
    rows = price.estimates(connection, [run], FLAGS, methods)
    for key in BY:
        found[f"by {key}"] = _cells(group.grouped(connection, [run], rows, [key], FLAGS))
    for span in ((None, MONTH_MS), (MONTH_MS, None)):
        wanted = Selection(since_ms=span[0], until_ms=span[1])
        chosen = choose(connection, [], wanted)
        found[f"range {span}"] = _cells(
            price.estimates(connection, chosen, FLAGS, methods, span_ms=wanted.span_ms)
        )
    return found


def _usage(one: Any) -> tuple[Any, ...]:
    """Its sums: extremes and means are those of what is stored."""
    return one.device_key, one.start_ms, one.energy_j, one.energy_s, one.sampled_s, one.samples


def _rows(columns: Mapping[str, list[Any]]) -> list[tuple[Any, ...]]:
    return list(zip(*(columns[name] for name in sorted(columns)), strict=True))


def _sums(columns: Mapping[str, list[Any]]) -> dict[tuple[int, int], list[float]]:
    """Of each device and minute: what is stored may come in two parts."""
    found: dict[tuple[int, int], list[float]] = {}
    names = ("energy_j", "energy_s", "sampled_s")
    for at, place in enumerate(zip(columns["device_key"], columns["start_ms"], strict=True)):
        sums = found.setdefault(place, [0.0, 0.0, 0.0])
        sums[:] = [own + columns[name][at] for own, name in zip(sums, names, strict=True)]
    return found


def _cells(rows: Any) -> list[dict[str, Any]]:
    return [
        {
            name: getattr(row, name)
            for name in (
                *("label", "energy_kwh", "facility_kwh", "tco2e", "cost", "duration_s"),
                *("gpu_hours", "tokens", "steps", "final_loss", "coverage", "lost_kwh", "devices"),
            )
            if hasattr(row, name)
        }
        for row in rows
    ]


def near(value: Any, *, rel: float = 1e-9) -> Any:
    """The same, with every number in it compared as one that was added up in another order."""
    if isinstance(value, dict):
        return {key: near(one, rel=rel) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(near(one, rel=rel) for one in value)
    return pytest.approx(value, rel=rel) if type(value) is float else value


def read_of(url: str) -> dict[str, Any]:
    with engine.open_reader(url).connect() as connection:
        return report(connection)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    url = f"sqlite:///{tmp_path_factory.mktemp('right') / 'ledger.db'}"
    RIGHT.write(url)
    return near(read_of(url))


def test_the_report_of_right_clocks_is_what_was_made(expected: dict[str, Any]) -> None:
    energy_j = sum(
        round(power_w(node, device, second), 3)
        for node in range(NODES)
        for device in range(ONE.count)
        for second in range(SECONDS)
    )
    (row,) = expected["table"]
    assert row["energy_kwh"].expected * 3.6e6 == pytest.approx(energy_j)
    lost_j = sum(
        round(power_w(node, device, second), 3)
        for node in range(NODES)
        for device in range(ONE.count)
        for second in range(KEPT_S, RESTARTED_S)
    )
    assert expected["lost"][0].expected * 3.6e6 == pytest.approx(lost_j)
    assert [row["label"] for row in expected["by month"]] == ["2026-06", "2026-05"]


@pytest.mark.parametrize("skewed", [BOTH, SET], ids=["off", "set in the run"])
def test_a_run_reads_as_if_its_clocks_had_been_right(
    expected: dict[str, Any], ledger_url: str, skewed: Skewed
) -> None:
    """Where a clock is set, nothing is lost, and nothing is counted twice."""
    skewed.write(ledger_url)
    for name, value in read_of(ledger_url).items():
        assert value == expected[name], name


def test_a_run_goes_on_by_the_clock_that_it_began_by(
    expected: dict[str, Any], tmp_path: Path
) -> None:
    """Those of the systems are put right in the middle: set back, and forward."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    replace(BOTH, put_right_s=150).write(url)
    found = read_of(url)
    sets = [one for one in found["events"] if one.kind == EventKind.CLOCK_SET]
    assert [one.time_ms for one in sets] == [BEGIN_MS + 150_000] * 2
    found["events"] = [one for one in found["events"] if one not in sets]
    for name, value in found.items():
        assert value == expected[name], name


def test_any_shift_of_a_nodes_clock_leaves_the_report(
    expected: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    shifts = st.integers(-3_700, -2) | st.sampled_from([0, 2, 59, 60, 1_800, 3_600, 100_000])

    @settings(max_examples=3, phases=[Phase.explicit, Phase.generate], database=None)
    @given(shifts, shifts)
    def check(first_s: int, second_s: int) -> None:
        url = f"sqlite:///{tmp_path_factory.mktemp('skewed') / 'ledger.db'}"
        Skewed({0: {0: first_s}, 1: {0: second_s}}).write(url)
        for name, value in read_of(url).items():
            assert value == expected[name], name

    check()


def test_what_two_runs_on_a_node_recorded_counts_once_in_each_month(ledger_url: str) -> None:
    """What they share is known by their one clock, and its month by the true time."""
    beside = replace(ONE, name="beside", number=1)
    for skewed in (BOTH, replace(BOTH, one=beside)):
        skewed.write(ledger_url)
    with engine.open_reader(ledger_url).connect() as connection:
        runs = choose(connection, [])
        for span_ms in ((0, MONTH_MS), (MONTH_MS, 2**62), (BEGIN_MS, MONTH_MS + 10_000)):
            twice = overlaps.recorded_twice(connection, runs, [span_ms])
            (of_run,) = twice.values()
            for device in of_run:
                node, number = map(int, device.uuid.split("-")[1:])
                inside = range(*(_second(time_ms) for time_ms in span_ms))
                energy_j = sum(round(power_w(node, number, second), 3) for second in inside)
                assert device.energy_j == pytest.approx(energy_j), (device, span_ms)


def _second(time_ms: int) -> int:
    """Of the run."""
    return max(0, min(SECONDS, (time_ms - BEGIN_MS) // 1000))


def test_an_attempt_too_short_to_know_its_clock_is_corrected_as_the_next_one_is(
    tmp_path: Path,
) -> None:
    """It would end after the next one had begun."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    AHEAD.write(url)
    began_ms = AHEAD.clock_ms(1, 0) - 5_000
    short = replace(AHEAD.recording(1), id=str(UUID(int=5)), started_ms=began_ms)
    with closing(open_ledger(url)) as ledger:
        writer = RunWriter(ledger, replace(ONE.begun, started_ms=began_ms), short, [])
        writer.finish(status=Status.FAILED, exit_code=1, ended_ms=began_ms + 4_000)
    with engine.open_reader(url).connect() as connection:
        (run,) = choose(connection, ["skewed"])
        held = Held(connection, [run])
        starts_ms = [(one.host, one.started_ms - BEGIN_MS) for one in held.recordings(run)]
        assert starts_ms == [("node0", 0), ("node1", -5_000), ("node1", 0)]
        assert run.started_ms == BEGIN_MS - 5_000


def test_the_power_of_both_nodes_changes_in_one_second(ledger_url: str) -> None:
    AHEAD.write(ledger_url)
    with engine.open_reader(ledger_url).connect() as connection:
        (run,) = choose(connection, ["skewed"])
        columns = read.series(connection, run, points=POINTS).columns
    by_device: dict[int, dict[int, float]] = {}
    rows = zip(columns["device_key"], columns["start_ms"], columns["energy_j"], strict=True)
    for key, start_ms, energy_j in rows:
        by_device.setdefault(key, {})[(start_ms - BEGIN_MS) // 1000] = energy_j
    assert len(by_device) == NODES * ONE.count
    for of_device in by_device.values():
        assert sorted(of_device) == list(range(SECONDS))
        assert of_device[RISES_S] - of_device[RISES_S - 1] == pytest.approx(200, abs=0.01)
        assert of_device[FALLS_S - 1] - of_device[FALLS_S] == pytest.approx(200, abs=0.01)


def test_a_clock_that_is_a_second_off_or_of_which_nothing_is_known_is_left_alone(
    tmp_path: Path,
) -> None:
    for number, skewed in enumerate((Skewed({1: {0: 1}}), replace(AHEAD, known=False))):
        url = f"sqlite:///{tmp_path / f'{number}.db'}"
        skewed.write(url)
        (run,) = Ledger(url).runs().to_dict("records")
        ahead_ms = 1000 * skewed.ahead_at_s(1, 0)
        assert run["ended"].value // 10**6 == BEGIN_MS + SECONDS * 1000 + ahead_ms


@pytest.mark.parametrize("skewed", [BOTH, SET], ids=["off", "set in the run"])
def test_without_seconds_totals_stay_and_the_rest_is_off_by_less_than_the_shift(
    expected: dict[str, Any], tmp_path: Path, skewed: Skewed
) -> None:
    """What of a minute is in a true one is then by time."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    replace(skewed, seconds=False).write(url)
    found = read_of(url)
    for name in ("run", "recordings", "steps", "events", "totals"):
        assert found[name] == expected[name], name
    (whole,), (right,) = found["table"], expected["table"]
    assert whole["energy_kwh"] == right["energy_kwh"]
    most_kwh = 2 * 65 * NODES * ONE.count * 200 / 3.6e6  # the shift, twice, by the change of power
    for name in ("by month", "by attempt", "by phase", "by host"):
        parts = [row["energy_kwh"] for row in found[name]]
        assert sum(parts) == pytest.approx(whole["energy_kwh"], rel=1e-9), name
        wanted = [row["energy_kwh"].expected for row in expected[name]]
        assert parts == pytest.approx(wanted, abs=most_kwh), name
    with engine.open_reader(url).connect() as connection:
        (run,) = choose(connection, ["skewed"])
        charted_j = read.series(connection, run, points=POINTS).columns["energy_j"]
    assert sum(charted_j) == pytest.approx(whole["energy_kwh"] * 3.6e6)


def test_show_and_explain_say_what_was_corrected(tmp_path: Path, command: Command) -> None:
    BOTH.write(f"sqlite:///{tmp_path / 'ledger.db'}")
    said = "times of node0 by +65 s; node1 by -7 s, as its clock was off"
    assert said in " ".join(command("show", "skewed").out.split())
    shown = command("show", "skewed", "--format", "json").json
    assert shown["corrected"] == said
    assert [node["clock_shifts"] for node in shown["nodes"]] == [
        [{"from": None, "shift_s": 65}],
        [{"from": None, "shift_s": -7}],
    ]
    lines = command("explain", "skewed").out.splitlines()
    (line,) = (line.split() for line in lines if line.startswith("corrected"))
    assert line[1:] == ["–", *said.split()]


def test_python_has_true_times(tmp_path: Path) -> None:
    right, off = (f"sqlite:///{tmp_path / name}.db" for name in ("right", "off"))
    RIGHT.write(right)
    AHEAD.write(off)
    since = "2026-05-31T23:58"
    for read_it in (
        lambda ledger: ledger.windows("skewed", level_s=1, since=since),
        lambda ledger: ledger.steps("skewed"),
        lambda ledger: ledger.events("skewed"),
        lambda ledger: ledger.runs(until="2026-05-31T23:57:01"),
        lambda ledger: ledger.runs(since="2026-06-01T00:02:58", until="2026-06-02"),
    ):
        assert_frame_equal(read_it(Ledger(right)), read_it(Ledger(off)), rtol=1e-9)
    assert len(Ledger(off).runs(since="2026-06-01T00:03:02")) == 0
    minutes = Ledger(off).windows("skewed", level_s=60)
    assert {start.second for start in minutes["start"]} == {0, 53}
    assert minutes["energy_j"].sum() == pytest.approx(
        Ledger(right).windows("skewed", level_s=60)["energy_j"].sum()
    )


def test_a_ledger_of_right_clocks_is_asked_once_for_them(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    RIGHT.write(url)
    opened: Engine = engine.open_reader(url)
    said: list[str] = []
    event.listen(
        opened, "before_cursor_execute", lambda *args: said.append(str(args[2])), named=False
    )
    with opened.connect() as connection:
        report(connection)
        (run,) = choose(connection, ["skewed"])
        said.clear()
        read.series(connection, run, points=POINTS)
        read.step_means(connection, run)
        price.estimates(connection, [run], FLAGS, [Method.MEASURED])
    assert said
    assert not [one for one in said if "clocks" in one]
