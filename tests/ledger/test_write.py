"""Writing a run: each batch whole, once however often it is sent, and readable by plain SQL."""

from __future__ import annotations

import math
from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from carbontrack.ledger import engine, read
from carbontrack.ledger.recorded_rows import Event, Step
from carbontrack.ledger.transaction import WritableLedger
from carbontrack.ledger.window import Flag, Window
from carbontrack.ledger.write import RunWriter
from carbontrack.units import MS_PER_HOUR, now_ms
from carbontrack.vocabulary import Status
from tests.fixtures.runs import Recorded, recording_of

ONE = Recorded(name="x", count=2, tags={"team": "nlp"}, facility={"pue": 1.1})
SETTINGS = {"meter": "nvml", "hz": 10.0}
RECORDING = recording_of(ONE.begun, boot_id="boot", settings=SETTINGS)
EVENTS = [
    Event(ONE.start_ms + 5, "device-lost", "no answer", "node1", "GPU-0", {"errno": 15}),
    Event(ONE.start_ms + 5, "device-lost", "no answer", "node1", "GPU-1", {"errno": 15}),
    Event(ONE.start_ms + 5, "eval", "", None, None, {"loss": 2.5, "topics": ["a", None]}),
]
NUMBERED = list(enumerate(EVENTS))
TABLES = ["runs", "recordings", "devices", "sensors", "windows", "steps", "events"]


def begin(ledger: WritableLedger, one: Recorded = ONE) -> RunWriter:
    recording = replace(RECORDING, id=recording_of(one.run).id)
    return RunWriter(ledger, one.begun, recording, one.sensors)


def everything(writer: Engine) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables."""
    with writer.connect() as connection:
        return {
            table: sorted(
                (tuple(row) for row in connection.execute(text(f"select * from {table}"))), key=repr
            )
            for table in TABLES
        }


def test_what_is_written_is_read(ledger: WritableLedger, ledger_url: str) -> None:
    run = begin(ledger)
    run.commit(
        windows=ONE.windows,
        steps=ONE.step_rows,
        events=NUMBERED,
        heartbeat_ms=ONE.end_ms,
        model={"name": "tiny", "parameters": 1000},
    )
    run.finish(status="failed", exit_code=9, ended_ms=ONE.end_ms)
    with engine.open_reader(ledger_url).connect() as reader:
        (found,) = read.list_runs(reader)
        assert found == replace(
            ONE.run,
            status="failed",
            exit_code=9,
            model={"name": "tiny", "parameters": 1000},
            heartbeat_ms=ONE.end_ms,
            key=found.key,
        )
        (recording,) = read.recordings(reader, found)
        assert recording == replace(
            RECORDING,
            status="failed",
            exit_code=9,
            ended_ms=ONE.end_ms,
            heartbeat_ms=ONE.end_ms,
            key=recording.key,
        )
        assert read.sensors(reader, found) == ONE.sensors
        assert read.hours(reader, found) == ONE.usages
        assert read.steps(reader, found) == ONE.step_rows
        assert read.step_totals(reader, found) == ONE.step_totals
        assert read.events(reader, found) == EVENTS


def test_a_batch_that_is_sent_twice_is_there_once(ledger: WritableLedger, writer: Engine) -> None:
    def send() -> None:
        run = begin(ledger)
        run.commit(
            windows=ONE.windows,
            steps=[*ONE.step_rows, *ONE.step_rows],
            events=[*NUMBERED, *NUMBERED],
            heartbeat_ms=ONE.end_ms,
            model={"name": "tiny"},
        )
        run.finish(status="completed", exit_code=0, ended_ms=ONE.end_ms)

    send()
    once = everything(writer)
    assert {table: len(rows) for table, rows in once.items()} == {
        "runs": 1,
        "recordings": 1,
        "devices": 2,
        "sensors": 2,
        "windows": len(ONE.windows),
        "steps": len(ONE.step_rows),
        "events": len(EVENTS),
    }
    send()
    assert everything(writer) == once


def test_a_batch_that_fails_leaves_nothing_half(ledger: WritableLedger, writer: Engine) -> None:
    run = begin(ledger)
    before = everything(writer)
    impossible = replace(ONE.step_rows[0], tokens="many")  # type: ignore[arg-type]
    unknown = ("GPU-unknown", ONE.windows[0][1])
    with pytest.raises(KeyError):
        run.commit(windows=[*ONE.windows, unknown], heartbeat_ms=ONE.end_ms)
    if writer.dialect.name == "postgresql":  # SQLite takes any type
        with pytest.raises(SQLAlchemyError):
            run.commit(windows=ONE.windows, steps=[impossible], heartbeat_ms=ONE.end_ms)
    assert everything(writer) == before


def test_several_nodes_write_one_run(ledger: WritableLedger, reader: Connection) -> None:
    for number, host in enumerate(("node1", "node2")):
        own = [replace(s, uuid=f"{host}-{s.uuid}", host=host) for s in ONE.sensors]
        run = RunWriter(ledger, ONE.run, recording_of(ONE.run, host), own)
        windows = [(f"{host}-{uuid}", window) for uuid, window in ONE.windows]
        run.commit(windows=windows, heartbeat_ms=ONE.end_ms + number)
    (found,) = read.list_runs(reader)
    assert found.heartbeat_ms == ONE.end_ms + 1
    assert [one.host for one in read.recordings(reader, found)] == ["node1", "node2"]
    assert [s.host for s in read.sensors(reader, found)] == ["node1"] * 2 + ["node2"] * 2
    assert len(read.totals(reader, found)) == 4


def test_a_device_of_many_runs_is_one_device_by_its_newest_name_and_each_run_has_its_ratings(
    ledger: WritableLedger, writer: Engine
) -> None:
    begin(ledger, ONE)
    begin(ledger, replace(ONE, number=2, device="NVIDIA A100 renamed", rated_w=300.0))
    with writer.connect() as connection:
        names = connection.scalars(text("select distinct name from devices")).all()
        assert names == ["NVIDIA A100 renamed"]
        rated = text("select rated_power_w from sensors order by recording_key, device_key")
        assert connection.scalars(rated).all() == [400.0, 400.0, 300.0, 300.0]


def test_which_recordings_had_a_device_together(ledger: WritableLedger) -> None:
    hour_ms = 3_600_000

    def recorded(number: int, from_h: int, to_h: int | None, devices: int = 2) -> RunWriter:
        one = Recorded(number=number, count=devices)
        start_ms = ONE.start_ms + from_h * hour_ms
        recording = replace(
            recording_of(one.begun), started_ms=start_ms, heartbeat_ms=start_ms, ended_ms=None
        )
        run = RunWriter(ledger, one.begun, recording, one.sensors[-1:])
        if to_h is not None:
            ended_ms = ONE.start_ms + to_h * hour_ms
            run.finish(status=Status.COMPLETED, exit_code=0, ended_ms=ended_ms)
        return run

    first, second = recorded(1, 10, 20), recorded(2, 21, 30)
    assert [run.shares_devices() for run in (first, second)] == [False, False]
    recorded(3, 15, 22, devices=1)  # another device
    assert [run.shares_devices() for run in (first, second)] == [False, False]
    recorded(4, 19, 20)
    assert [run.shares_devices() for run in (first, second)] == [True, False]
    recorded(5, 0, None)  # was killed
    assert [run.shares_devices() for run in (first, second)] == [True, True]
    assert not recorded(6, 60, 61).shares_devices()


def test_a_step_logged_again_replaces_itself(ledger: WritableLedger, reader: Connection) -> None:
    run = begin(ledger)
    first, *rest = ONE.step_rows
    run.commit(steps=[first, *rest], heartbeat_ms=ONE.end_ms)
    run.commit(steps=[replace(first, loss=1.25)], heartbeat_ms=ONE.end_ms)
    (found,) = read.list_runs(reader)
    assert read.steps(reader, found)[0].loss == 1.25
    assert read.step_totals(reader, found).steps == len(ONE.step_rows)


def test_a_loss_that_is_no_number_is_null_and_kept_in_words(
    ledger: WritableLedger, reader: Connection
) -> None:
    at_ms = ONE.start_ms
    steps = [
        Step(1, at_ms, loss=2.0, grad_norm=math.inf, tokens=8, extra={"aux": math.nan}),
        Step(2, at_ms, loss=math.nan, lr=-math.inf, tokens=8),
    ]
    begin(ledger).commit(steps=steps, heartbeat_ms=at_ms, model={"dropout": math.nan})
    (found,) = read.list_runs(reader)
    first, second = read.steps(reader, found)
    assert (first.loss, first.grad_norm) == (2.0, None)
    assert first.extra == {"aux": "nan", "grad_norm": "inf"}
    assert (second.loss, second.lr) == (None, None)
    assert second.extra == {"loss": "nan", "lr": "-inf"}
    assert found.model == {"dropout": "nan"}
    assert read.step_totals(reader, found).final_loss == 2.0  # of the last step that has one
    assert read.step_totals(reader, found).tokens == 16


def test_a_late_sign_of_life_does_not_turn_the_clock_back(
    ledger: WritableLedger, reader: Connection
) -> None:
    begin(ledger).commit(heartbeat_ms=ONE.start_ms + 9)
    begin(ledger).commit(heartbeat_ms=ONE.start_ms + 5)
    assert read.list_runs(reader)[0].heartbeat_ms == ONE.start_ms + 9


def test_a_run_whose_heartbeat_stopped_reads_interrupted(
    ledger_url: str, ledger: WritableLedger
) -> None:
    def status() -> str:
        with engine.open_reader(ledger_url).connect() as connection:
            return read.list_runs(connection)[0].status

    run = begin(ledger)
    run.commit(heartbeat_ms=now_ms() - 60_000)
    assert status() == "interrupted"
    run.commit(heartbeat_ms=now_ms() + MS_PER_HOUR)  # for as long as this may last
    assert status() == "running"
    run.finish(status="completed", exit_code=0, ended_ms=ONE.end_ms)
    assert status() == "completed"


def test_sql_that_a_person_types_works(ledger: WritableLedger, writer: Engine) -> None:
    begin(ledger).commit(windows=ONE.windows, heartbeat_ms=ONE.end_ms)
    other = replace(ONE, name="y", number=2)
    begin(ledger, other).commit(windows=other.windows, heartbeat_ms=other.end_ms)
    with writer.connect() as connection:
        kwh = connection.scalar(
            text(
                "select sum(energy_j)/3.6e6 from windows "
                "join recordings on recordings.key = recording_key "
                "join runs on runs.key = run_key where runs.name='x' and level=3600"
            )
        )
        assert kwh == pytest.approx(2 * 360 * 7200 / 3.6e6, rel=1e-12)
        means = connection.scalars(text("select distinct power_mean_w from windows")).all()
        assert means == [360.0]


def test_mean_power_is_unknown_where_energy_or_time_is(
    ledger: WritableLedger, writer: Engine
) -> None:
    _, window = ONE.windows[0]
    odd = [
        replace(window, energy_j=None, start_ms=ONE.start_ms),
        replace(window, energy_s=0.0, start_ms=ONE.start_ms + 3_600_000),
    ]
    begin(ledger).commit(windows=[("GPU-nvml-0", w) for w in odd], heartbeat_ms=ONE.end_ms)
    with writer.connect() as connection:
        means = connection.scalars(text("select power_mean_w from windows")).all()
        assert means == [None, None]
        assert [w.power_mean_w for w in odd] == means


def test_a_run_takes_all_of_its_rows_with_it(ledger: WritableLedger, writer: Engine) -> None:
    begin(ledger).commit(
        windows=ONE.windows, steps=ONE.step_rows, events=NUMBERED, heartbeat_ms=ONE.end_ms
    )
    with writer.begin() as connection:
        connection.execute(text("delete from runs"))
    left = {table for table, rows in everything(writer).items() if rows}
    assert left == {"devices"}


json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
any_text = st.text(st.characters(codec=None), max_size=8)  # NUL and halves of characters too


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(words=st.lists(any_text, min_size=3, max_size=3), data=st.dictionaries(any_text, json))
def test_whatever_a_job_says_can_be_written(
    ledger: WritableLedger, writer: Engine, words: list[str], data: dict[str, object]
) -> None:
    name, kind, message = words
    one = replace(ONE, name=name, user=name, tags={kind: message})
    odd = replace(one.run, id=str(uuid4()), command=(name, message))
    run = RunWriter(ledger, odd, recording_of(odd, settings=data), ONE.sensors)
    event = Event(ONE.start_ms, kind, message, data=data)
    step = Step(1, ONE.start_ms, extra=data)
    run.commit(steps=[step], events=[(0, event), (0, event)], heartbeat_ms=ONE.end_ms, model=data)
    with writer.connect() as connection:
        found = read.resolve_run(connection, odd.id)
        assert len(read.events(connection, found)) == 1
        assert len(read.steps(connection, found)) == 1


finite = st.just(0.0) | st.floats(1e-9, 1e9)
window = st.builds(
    Window,
    start_ms=st.just(ONE.start_ms),
    level_s=st.sampled_from([1, 60, 3600]),
    energy_j=st.none() | finite,
    energy_s=finite,
    sampled_s=finite,
    samples=st.integers(0, 2**31 - 1),
    power_min_w=st.none() | finite,
    power_max_w=st.none() | finite,
    vitals=st.integers(0, 2**31 - 1),
    util_pct=st.none() | st.floats(0, 100),
    memory_max_bytes=st.none() | st.integers(0, 2**50),
    temperature_max_c=st.none() | finite,
    sm_clock_mhz=st.none() | finite,
    throttle=st.integers(0, 2**62),
    flags=st.integers(0, 255).map(Flag),
)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(window=window)
def test_a_window_survives_to_the_last_bit(
    ledger: WritableLedger, writer: Engine, window: Window
) -> None:
    hour = replace(window, level_s=3600)
    begin(ledger).commit(windows=[("GPU-nvml-1", hour)], heartbeat_ms=ONE.end_ms)
    with writer.connect() as connection:
        (usage,) = read.hours(connection, read.resolve_run(connection, "x"))
        for name in ("energy_j", "energy_s", "sampled_s", "samples", "util_pct", "flags"):
            assert getattr(usage, name) == getattr(hour, name)
        mean = connection.scalar(text("select power_mean_w from windows"))
        assert mean == hour.power_mean_w
