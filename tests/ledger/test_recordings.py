"""A run of several recordings: nodes and attempts, in both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Connection

from carbontrack.account.estimate import estimate_run
from carbontrack.factors.resolve import resolve
from carbontrack.ledger import latest, read
from carbontrack.ledger.recorded_rows import Recording, Run, Sensor, Step
from carbontrack.ledger.transaction import WritableLedger
from carbontrack.ledger.window import Window
from carbontrack.ledger.write import RunWriter
from carbontrack.units import J_PER_KWH
from tests.fixtures.pictures import all_levels, window_at
from tests.fixtures.runs import START_MS, Recorded, recording_of

ONE = Recorded(count=2, steps=0)
POWER_W = 100.0


def put(
    ledger: WritableLedger,
    host: str,
    span_s: tuple[float, float],
    *,
    restart: int = 0,
    devices: str = "",
    steps: list[Step] | None = None,
) -> Recording:
    """What a recorder on a host has of a run of two devices there."""
    start_ms, end_ms = (START_MS + round(second * 1000) for second in span_s)
    run = replace(ONE.run, started_ms=start_ms, ended_ms=end_ms)
    number = f"{host} {restart} {start_ms}"
    recording = recording_of(run, number, restart=restart, heartbeat_ms=end_ms)
    recording = replace(recording, host=host)
    sensors = [
        replace(s, uuid=f"{devices or host}-{s.uuid}", host=host, rated_power_w=100.0 + restart)
        for s in ONE.sensors
    ]
    writer = RunWriter(ledger, run, recording, sensors)
    for sensor in sensors:
        seconds = [
            _part(at, (min(end_ms, at + 1000) - max(start_ms, at)) / 1000)
            for at in range(start_ms // 1000 * 1000, end_ms, 1000)
        ]
        writer.commit(windows=all_levels(sensor.uuid, seconds), heartbeat_ms=end_ms)
    writer.commit(steps=steps or [], heartbeat_ms=end_ms)
    return recording


def _part(at_ms: int, share: float) -> Window:
    """A second of which so much was recorded."""
    whole = window_at(at_ms, 1, POWER_W)
    return replace(whole, energy_j=POWER_W * share, energy_s=share, sampled_s=share)


def of_run(reader: Connection) -> tuple[Run, list[Sensor], float]:
    """The run, its devices and its energy in J."""
    (run,) = read.list_runs(reader)
    energy_j = sum(usage.energy_j or 0 for usage in read.totals(reader, run))
    return run, read.sensors(reader, run), energy_j


def test_attempts_on_one_node_add_up_and_the_time_between_them_is_no_devices(
    ledger: WritableLedger, reader: Connection
) -> None:
    put(ledger, "node1", (0, 60))
    put(ledger, "node1", (3600, 3690), restart=1)
    run, sensors, energy_j = of_run(reader)
    assert (run.started_ms, run.ended_ms) == (START_MS, START_MS + 3_690_000)
    assert energy_j == 2 * 150 * POWER_W
    assert [sensor.rated_power_w for sensor in sensors] == [101.0] * 2
    assert [sensor.recorded_s(run) for sensor in sensors] == [150.0] * 2
    (hours,) = {len(read.hours(reader, run))}
    assert hours == 4
    estimate = estimate_run(
        run,
        sensors,
        read.hours(reader, run),
        read.step_totals(reader, run),
        resolve({}, method="measured"),
    )
    assert estimate.energy_kwh == pytest.approx(energy_j / J_PER_KWH)
    assert estimate.gpu_hours_of == {ONE.device: pytest.approx(2 * 150 / 3600)}
    assert estimate.coverage == pytest.approx(1.0)


def test_an_attempt_that_begins_in_the_second_in_which_another_ends_loses_nothing(
    ledger: WritableLedger, reader: Connection
) -> None:
    put(ledger, "node1", (0, 59.25))
    put(ledger, "node1", (59.25, 90), restart=1, devices="node1")
    run, sensors, energy_j = of_run(reader)
    assert len(sensors) == 2
    assert energy_j == 2 * 90 * POWER_W
    series = read.series(reader, run, points=2000)
    assert series.level_s == 1
    assert len(series.columns["start_ms"]) == 2 * 90, "a second of a device is one point"
    assert sum(series.columns["energy_j"]) == energy_j


def test_nodes_are_one_run_of_all_their_devices_in_whatever_order_they_are_written(
    ledger: WritableLedger, reader: Connection
) -> None:
    put(ledger, "node2", (5, 60))
    put(ledger, "node1", (0, 50))
    run, sensors, energy_j = of_run(reader)
    assert (run.started_ms, run.ended_ms) == (START_MS, START_MS + 60_000)
    assert [sensor.host for sensor in sensors] == ["node1"] * 2 + ["node2"] * 2
    assert [sensor.recorded_s(run) for sensor in sensors] == [50.0] * 2 + [55.0] * 2
    assert energy_j == 2 * 105 * POWER_W
    assert [one.host for one in read.recordings(reader, run)] == ["node1", "node2"]
    now = latest.latest_power(reader, run, sensors)
    assert now is not None
    assert (now.power_w, now.devices) == (4 * POWER_W, 4)


def test_each_step_is_as_its_newest_attempt_and_lowest_rank_logged_it(
    ledger: WritableLedger, reader: Connection
) -> None:
    def logged(steps: range, loss: float, rank: int = 0, restart: int = 0) -> list[Step]:
        return [
            Step(n, START_MS + n, loss=loss, tokens=10, rank=rank, restart=restart) for n in steps
        ]

    first = [*logged(range(10), 1.0), *logged(range(6, 8), 1.5, restart=1)]
    put(ledger, "node1", (0, 60), steps=first)
    put(ledger, "node2", (0, 60), steps=logged(range(10), 9.0, rank=8))
    put(ledger, "node1", (60, 90), restart=1, steps=logged(range(8, 12), 2.0))
    (run,) = read.list_runs(reader)
    expected = [1.0] * 6 + [1.5] * 2 + [2.0] * 4
    assert [(s.step, s.loss) for s in read.steps(reader, run)] == list(enumerate(expected))
    totals = read.step_totals(reader, run)
    assert (totals.steps, totals.tokens, totals.final_loss) == (12, 120, 2.0)
    assert read.tokens_until(reader, run, [0, 11]) == [10, 120]
    (mean,) = read.step_means(reader, run, points=1)
    assert (mean.steps, mean.loss) == (12, pytest.approx(sum(expected) / 12))


def test_of_one_recording_the_lowest_rank_counts_whichever_comes_last(
    ledger: WritableLedger, reader: Connection
) -> None:
    steps = [Step(1, START_MS, loss=rank + 0.5, rank=rank) for rank in (3, 0, 2)]
    put(ledger, "node1", (0, 10), steps=steps)
    (run,) = read.list_runs(reader)
    assert [(s.rank, s.loss) for s in read.steps(reader, run)] == [(0, 0.5)]
