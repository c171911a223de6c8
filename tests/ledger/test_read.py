"""Finding runs, and what is empty of a run of which nothing is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Connection

from carbontrack.errors import CarbontrackError
from carbontrack.ledger import read
from carbontrack.ledger.recorded_rows import Run, StepTotals
from carbontrack.ledger.transaction import WritableLedger
from carbontrack.ledger.write import RunWriter
from carbontrack.units import MS_PER_HOUR, now_ms
from tests.fixtures.runs import Recorded, recording_of

RUNS = [
    Recorded(name="llama_7b", number=1, count=2, project="a", tags={"team": "nlp", "a.b c": "1"}),
    Recorded(name="llama-7b", number=2, count=2, project="b", tags={"team": "vision"}),
    Recorded(name="llama_7b", number=3, count=2, project="a"),
    Recorded(name="%", number=0x31, count=2, tags={"team": "nlp"}),
]


@pytest.fixture
def runs(ledger: WritableLedger) -> None:
    for one in RUNS:
        RunWriter(ledger, one.run, recording_of(one.run), one.sensors)


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
    ledger: WritableLedger, reader: Connection
) -> None:
    for number, heartbeat_ms in ((1, 1), (2, now_ms() + MS_PER_HOUR)):
        one = Recorded(name=f"run-{number}", number=number, count=2, status="running")
        started = replace(one.run, ended_ms=None, started_ms=1, exit_code=None)
        recording = recording_of(started, heartbeat_ms=heartbeat_ms)
        RunWriter(ledger, started, recording, one.sensors)
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


def test_a_run_of_which_nothing_is_known_has_empty_sums(
    ledger: WritableLedger, reader: Connection
) -> None:
    one = RUNS[0]
    RunWriter(ledger, one.run, recording_of(one.run), [])
    run = read.resolve_run(reader, "last")
    assert read.totals(reader, run) == []
    assert read.step_totals(reader, run) == StepTotals()
    assert all(values == [] for values in read.series(reader, run).columns.values())
    assert read.step_means(reader, run) == []
