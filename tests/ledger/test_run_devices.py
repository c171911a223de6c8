"""What many runs used, in as few queries as of one, and the same as of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection

from carbontrack.ledger import read
from carbontrack.ledger.held import ManyHeld
from carbontrack.ledger.recorded_rows import Run, Sensor, Usage
from carbontrack.ledger.transaction import WritableLedger
from carbontrack.ledger.write import RunWriter
from tests.fixtures.counted import counted
from tests.fixtures.pictures import all_levels, window_at
from tests.fixtures.runs import START_MS, Recorded, recording_of

RUNS = 7
ONE = Recorded(count=2, steps=0)


def put(ledger: WritableLedger) -> None:
    """Runs on the same two devices, some in two attempts, one without any energy."""
    for number in range(RUNS):
        run = replace(ONE.run, id=f"0000000{number}-run", started_ms=START_MS + number)
        for attempt in range(1 + number % 2):
            start_ms = START_MS + 7_200_000 * attempt
            span = {"started_ms": start_ms, "ended_ms": start_ms + 3000}
            recording = recording_of(run, f"{number} {attempt}", restart=attempt, **span)
            sensors = [replace(s, rated_power_w=100.0 + attempt) for s in ONE.sensors]
            writer = RunWriter(ledger, run, recording, sensors)
            for sensor in sensors if number else []:
                seconds = [window_at(start_ms + 1000 * at, 1, 100.0 + number) for at in range(3)]
                rows = all_levels(sensor.uuid, seconds)
                writer.commit(windows=rows, heartbeat_ms=start_ms + 3000)


def used_by(reader: Connection, runs: Sequence[Run]) -> list[tuple[Run, list[Sensor], list[Usage]]]:
    """The devices of each run, and what each used."""
    held = ManyHeld(reader, runs).each(lambda held: held.will_look_at(held.runs))
    return [(run, one.sensors(run), one.totals(run)) for one, run in held]


def test_many_runs_are_read_as_each_and_in_a_few_queries(
    ledger: WritableLedger, reader: Connection
) -> None:
    put(ledger)
    runs = read.list_runs(reader)
    with counted(reader.engine) as of_one:
        used_by(reader, runs[:1])
    with counted(reader.engine) as of_all:
        found = used_by(reader, runs)
    assert len(runs) == RUNS
    assert len(of_all) == len(of_one)
    assert [run for run, _, _ in found] == runs
    for run, sensors, totals in found:
        assert sensors == read.sensors(reader, run)
        assert totals == read.totals(reader, run)
    assert [bool(totals) for _, _, totals in found] == [True] * (RUNS - 1) + [False]


def test_no_runs_are_no_query(ledger: WritableLedger, reader: Connection) -> None:
    with counted(reader.engine) as statements:
        assert used_by(reader, []) == []
    assert statements == []
