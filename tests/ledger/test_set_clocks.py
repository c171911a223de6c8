"""Recorders of this machine, whose clock was set since they began: which of them live."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from carbontrack.ledger import backlog, engine, live, live_row
from carbontrack.ledger.contested import SETTLED_MS, read_sensors
from carbontrack.ledger.recorded_rows import Event
from carbontrack.ledger.set_clocks import heard_sql
from carbontrack.ledger.shipped import take
from carbontrack.ledger.shipped_seconds import NO_SECONDS
from carbontrack.ledger.sqlite import is_recorded
from carbontrack.ledger.transaction import open_ledger
from carbontrack.ledger.write import RunWriter
from carbontrack.units import MS_PER_DAY, MS_PER_HOUR, MS_PER_S, now_ms
from carbontrack.vocabulary import EventKind, Status
from tests.collect.batches import batch
from tests.fixtures.command import Command
from tests.fixtures.runs import Recorded, recording_of

TARGET = "https://team.example"
LONG_MS = 600 * MS_PER_S  # fresh, however long a test takes


def write(path: Path, sets_ms: list[int], heartbeat_ms: int) -> str:
    """A run that goes on, with what the clock of its machine was set by; the id of its recording.
    `heartbeat_ms` is by the clock as it was when it began.
    """
    run = replace(Recorded(name="going", count=1).begun, started_ms=heartbeat_ms - MS_PER_HOUR)
    recording = recording_of(run)
    events = [
        Event(heartbeat_ms, EventKind.CLOCK_SET, "set", data={"set_ms": set_ms})
        for set_ms in sets_ms
    ]
    with closing(open_ledger(f"sqlite:///{path}")) as ledger:
        writer = RunWriter(ledger, run, recording, Recorded(count=1).sensors)
        writer.commit(events=list(enumerate(events)), heartbeat_ms=heartbeat_ms)
    return recording.id


@pytest.mark.parametrize(
    ("sets_ms", "silent_ms", "status"),
    [
        ([], -LONG_MS, Status.RUNNING),
        ([2 * MS_PER_HOUR], 2 * MS_PER_HOUR - LONG_MS, Status.RUNNING),
        ([7 * MS_PER_HOUR, -MS_PER_HOUR], -MS_PER_HOUR - LONG_MS, Status.RUNNING),
        ([], 20 * MS_PER_S, Status.INTERRUPTED),
        ([2 * MS_PER_HOUR], 2 * MS_PER_HOUR + 20 * MS_PER_S, Status.INTERRUPTED),
        ([-MS_PER_HOUR], -MS_PER_HOUR + 20 * MS_PER_S, Status.INTERRUPTED),
        ([2 * MS_PER_HOUR], 3 * MS_PER_DAY, Status.INTERRUPTED),
    ],
)
def test_a_recorder_lives_by_the_clock_that_it_goes_on_by(
    tmp_path: Path, command: Command, sets_ms: list[int], silent_ms: int, status: Status
) -> None:
    """`silent_ms` is how old its heartbeat is by the clock that was set."""
    path = tmp_path / "ledger.db"
    recording_id = write(path, sets_ms, now_ms() - silent_ms)
    lives = status is Status.RUNNING
    shown = command("show", "going", "--format", "json").json
    assert (shown["status"], shown["nodes"][0]["status"]) == (status, status)
    assert shown["duration_s"] == MS_PER_HOUR / MS_PER_S
    (listed,) = command("runs", "--format", "json").json["runs"]
    assert listed["status"] == status
    with closing(sqlite3.connect(path)) as connection:
        assert is_recorded(connection) is lives
    with engine.open_reader(f"sqlite:///{path}").connect() as connection:
        now = live.newest(connection)
    assert {one.status for one in now} == ({status} if silent_ms < MS_PER_DAY else set())
    with closing(open_ledger(f"sqlite:///{path}")) as ledger, ledger.reading() as transaction:
        assert backlog.how_many_stopped(transaction, TARGET, now_ms=now_ms()) == int(not lives)
        part = backlog.next_part(
            transaction, recording_id, TARGET, seconds=NO_SECONDS, now_ms=now_ms()
        )
        assert part is not None and (part.batch.live is not None) is lives
    assert command("runs", "rm", "going", "--yes").code == (2 if lives else 0)


def test_what_a_node_may_still_add_to_is_not_decided(ledger_url: str) -> None:
    """Its clock is two hours behind that of the ledger it ships to, and it was just heard of."""
    with closing(open_ledger(ledger_url)) as ledger:
        with ledger.begin() as transaction:
            take(transaction, [(batch(), "nlp")])
            transaction.write("update live set heard_ms = :heard", [{"heard": now_ms() + LONG_MS}])
        with ledger.begin() as transaction:
            heard = heard_sql(transaction)
            found = read_sensors(transaction.ask, "sensors.key > 0", heard).values()
            (row,) = transaction.ask("select heartbeat_ms from recordings", {})
        assert {one.final_ms for one in found} == {row["heartbeat_ms"] - SETTLED_MS}
        with ledger.begin() as transaction:
            live_row.forget(transaction, now_ms() + MS_PER_DAY)
            gone = read_sensors(transaction.ask, "sensors.key > 0", heard).values()
        assert min(one.final_ms for one in gone) > now_ms()
