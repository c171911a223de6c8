"""What a ledger lacks of another: nothing, once the parts of the backlog have been taken in."""

from __future__ import annotations

import base64
import random
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from carbontrack.collect.wire import MAX_BODY_BYTES, MAX_DOCUMENT_BYTES
from carbontrack.ledger import backlog
from carbontrack.ledger.batch import Batch, encode
from carbontrack.ledger.merge import merge
from carbontrack.ledger.recorded_rows import Amendment, Event, Step
from carbontrack.ledger.rows import Tombstone
from carbontrack.ledger.shipped import take
from carbontrack.ledger.shipped_seconds import NO_SECONDS, Seconds
from carbontrack.ledger.tables import AMENDMENTS
from carbontrack.ledger.transaction import WritableLedger, open_ledger
from carbontrack.ledger.window import Pyramid, Window
from carbontrack.ledger.write import RunWriter
from carbontrack.record.ship import Shipping
from carbontrack.record.target import Answer
from carbontrack.units import MS_PER_HOUR, MS_PER_S, now_ms
from carbontrack.vocabulary import Status
from tests.collect.batches import BEGIN_MS, RECORDED, second
from tests.collect.test_shipped import content
from tests.fixtures.runs import Recorded, recording_of

TARGET = "https://team:8477"
RECORDING = replace(
    recording_of(RECORDED.begun),
    started_ms=BEGIN_MS,
    heartbeat_ms=BEGIN_MS,
    ended_ms=None,
    status=Status.RUNNING,
    exit_code=None,
)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[WritableLedger]:
    with closing(open_ledger(f"sqlite:///{tmp_path / 'node.db'}")) as ledger:
        yield ledger


@pytest.fixture
def team(ledger_url: str) -> Iterator[WritableLedger]:
    with closing(open_ledger(ledger_url)) as ledger:
        yield ledger


class Recorder:
    """Writes into the node's ledger as a recorder does."""

    def __init__(self, node: WritableLedger, of: Recorded = RECORDED) -> None:
        self.run = replace(of.begun, started_ms=BEGIN_MS)
        self.id = recording_of(self.run).id
        recording = replace(RECORDING, id=self.id)
        self.writer = RunWriter(node, self.run, recording, RECORDED.sensors)
        self._pyramids = [Pyramid() for _ in RECORDED.sensors]

    def record(self, begin: int, end: int) -> None:
        windows: list[tuple[str, Window]] = []
        for sensor, pyramid in zip(RECORDED.sensors, self._pyramids, strict=True):
            for number in range(begin, end):
                pyramid.add(second(number))
                windows.append((sensor.uuid, second(number)))
            windows += [(sensor.uuid, window) for window in pyramid.take_changed()]
        end_ms = BEGIN_MS + end * MS_PER_S
        self.writer.commit(
            windows=windows,
            steps=[Step(number, BEGIN_MS + number * MS_PER_S) for number in range(begin, end, 7)],
            events=[(end, Event(end_ms, "checkpoint", "saved"))],
            heartbeat_ms=end_ms,
        )

    def finish(self, end: int) -> None:
        ended_ms = BEGIN_MS + end * MS_PER_S
        self.writer.finish(status=Status.COMPLETED, exit_code=0, ended_ms=ended_ms)


class Taking:
    """A target that takes all; `recordings` are the ids of those that were sent."""

    name = TARGET

    def __init__(self, team: WritableLedger) -> None:
        self._team = team
        self.recordings: list[str] = []

    def send(self, batch: Batch) -> Answer:
        with self._team.begin() as transaction:
            (reply,) = take(transaction, [(batch, "nlp")])
        self.recordings.append(batch.recording.id)
        return Answer(204, held=reply.held)

    def remove(self, tombstone: Tombstone) -> Answer:
        raise AssertionError("no run is removed here")

    def close(self) -> None:
        pass


OF_RUN = Seconds(frozenset({RECORDED.run.id}))


def ship(
    node: WritableLedger, team: WritableLedger, *, at_s: int, seconds: Seconds = NO_SECONDS
) -> int:
    """All that waits, as it is so many seconds after the start; how many rows that were."""
    rows = 0
    with node.begin() as here:
        waiting = backlog.recordings(here, TARGET, seconds)
    for recording in waiting:
        complete = False
        with node.begin() as here:
            backlog.begin(here, recording, TARGET)
        while not complete:
            with node.begin() as here:
                now = BEGIN_MS + at_s * MS_PER_S
                part = backlog.next_part(here, recording, TARGET, seconds=seconds, now_ms=now)
            assert part is not None
            body = encode(part.batch)
            assert len(body) < MAX_BODY_BYTES
            assert len(zlib.decompress(body)) < MAX_DOCUMENT_BYTES
            with team.begin() as there:
                take(there, [(part.batch, "nlp")])
            with node.begin() as here:
                assert backlog.set_mark(here, recording, part)
            rows, complete = rows + part.batch.rows, part.complete
    return rows


def agree(node: WritableLedger, team: WritableLedger, *, seconds: bool = False) -> None:
    with node.begin() as here, team.begin() as there:
        if not seconds:
            for row in list(here.ask("select key from recordings", {})):
                here.remove_windows(row["key"], [1])
        for one, other in zip(content(here), content(there), strict=True):
            assert [row.replace("'project': None", "") for row in one] == [
                row.replace("'project': None", "") for row in other
            ]


def test_what_is_shipped_while_it_grows_is_all_in_the_end(
    node: WritableLedger, team: WritableLedger
) -> None:
    recorder = Recorder(node)
    shipped = []
    for end in range(100, 701, 100):
        recorder.record(end - 100, end)
        shipped.append(ship(node, team, at_s=end))
    recorder.finish(700)
    ship(node, team, at_s=701)
    with node.begin() as here:
        assert backlog.recordings(here, TARGET) == []
        assert backlog.held(here, RECORDING.id).minutes == 2 * 12
    with team.begin() as there, node.begin() as here:
        assert backlog.held(there, RECORDING.id) == backlog.held(here, RECORDING.id)
    assert max(shipped) < 200, "each time what is new, and the last half minute of steps"
    agree(node, team)


def test_a_minute_that_goes_on_waits_and_that_of_a_dead_recorder_does_not_for_ever(
    node: WritableLedger, team: WritableLedger
) -> None:
    recorder = Recorder(node)
    recorder.record(0, 90)
    ship(node, team, at_s=91)
    with team.begin() as there:
        assert backlog.held(there, RECORDING.id).minutes == 2
    ship(node, team, at_s=400)
    with team.begin() as there:
        assert backlog.held(there, RECORDING.id).minutes == 2 * 2
    with node.begin() as here:
        assert backlog.recordings(here, TARGET) == []


def test_a_recorder_ships_its_own_recording_and_what_nobody_records_any_more(
    node: WritableLedger, team: WritableLedger, tmp_path: Path
) -> None:
    """Of four jobs of one node: two go on, one has ended, and of one the recorder was killed."""
    jobs = [Recorder(node, replace(RECORDED, number=number)) for number in range(1, 5)]
    own, other, ended, killed = jobs
    for job in jobs:
        job.record(0, 100)
    for job in (own, other):
        job.writer.commit(heartbeat_ms=now_ms() + MS_PER_HOUR)  # however long this takes
    ended.finish(100)
    url, target = f"sqlite:///{tmp_path / 'node.db'}", Taking(team)
    recorder = Shipping(url, target, NO_SECONDS, recording_id=own.id)
    recorder.ship_all()
    assert set(target.recordings) == {own.id, ended.id, killed.id}
    assert target.recordings[0] == own.id
    target.recordings.clear()
    own.finish(200)
    recorder.ship_all()
    assert target.recordings == [own.id]
    Shipping(url, target, NO_SECONDS).ship_all()  # by hand
    assert target.recordings == [own.id, other.id]
    assert recorder.waiting() == []


def test_the_seconds_of_a_run_are_shipped_when_they_are_asked_for(
    node: WritableLedger, team: WritableLedger
) -> None:
    recorder = Recorder(node)
    recorder.record(0, 100)
    recorder.finish(100)
    ship(node, team, at_s=200)
    with team.begin() as there:
        (found,) = there.ask("select count(*) as seconds from windows where level = 1", {})
        assert found["seconds"] == 0
    assert ship(node, team, at_s=200, seconds=OF_RUN) >= 4
    agree(node, team, seconds=True)


def test_what_a_job_logs_at_length_goes_in_batches_that_are_taken(
    node: WritableLedger, team: WritableLedger
) -> None:
    """Text that does not compress, of steps and of events; some steps have one time."""
    chance = random.Random(1)

    def text() -> str:
        return base64.b64encode(chance.randbytes(3000)).decode()

    recorder = Recorder(node)
    recorder.record(0, 100)
    times_s = [*range(900), *[900] * 300, *range(901, 1200)]
    recorder.writer.commit(
        steps=[
            Step(1000 + number, BEGIN_MS + at_s * MS_PER_S, extra={"grads": text()})
            for number, at_s in enumerate(times_s)
        ],
        events=[
            (1000 + number, Event(BEGIN_MS, "eval", text(), data={"x": text()}))
            for number in range(600)
        ],
        heartbeat_ms=BEGIN_MS + 100 * MS_PER_S,
    )
    recorder.finish(100)
    ship(node, team, at_s=200)
    agree(node, team)


def starts_s(team: WritableLedger) -> list[int]:
    with team.begin() as there:
        rows = there.ask("select distinct start_ms from windows where level = 1", {})
        return sorted((row["start_ms"] - BEGIN_MS) // MS_PER_S for row in rows)


def test_of_a_backlog_only_the_seconds_are_shipped_that_are_young_enough(
    node: WritableLedger, team: WritableLedger
) -> None:
    """Two hours were recorded while the network was away; then it goes on."""
    recorder = Recorder(node)
    recorder.record(0, 7_200)
    an_hour = Seconds(younger_ms=MS_PER_HOUR)
    ship(node, team, at_s=7_210, seconds=an_hour)
    assert starts_s(team) == list(range(3_600, 7_200)), "of whole minutes"
    recorder.record(7_200, 7_300)
    recorder.finish(7_300)
    ship(node, team, at_s=7_310, seconds=an_hour)
    assert starts_s(team) == list(range(3_600, 7_300)), "without a hole"
    with team.begin() as there, node.begin() as here:
        assert backlog.held(there, RECORDING.id) == backlog.held(here, RECORDING.id)
        backlog.ship_seconds_again(here, TARGET, OF_RUN.runs)
    ship(node, team, at_s=7_310, seconds=OF_RUN)
    agree(node, team, seconds=True)


def test_what_comes_late_is_shipped_though_all_had_been(
    node: WritableLedger, team: WritableLedger, tmp_path: Path
) -> None:
    recorder = Recorder(node)
    recorder.record(0, 100)
    recorder.finish(200)
    ship(node, team, at_s=300)
    late = [(s.uuid, second(number)) for s in RECORDED.sensors for number in range(100, 200)]
    recorder.writer.add_late(late)
    assert ship(node, team, at_s=300) > 0
    amendment = Amendment("a", RECORDED.run.id, now_ms(), "ada", "name", "llama2-7b", "llama2")
    with node.begin() as here:
        here.write(AMENDMENTS.insert_once, [AMENDMENTS.written(amendment)])
        backlog.amended(here, RECORDED.run.id)
    ship(node, team, at_s=300)
    laptop = tmp_path / "laptop.db"
    with closing(open_ledger(f"sqlite:///{laptop}")) as other:
        again = Recorder(other)
        again.record(0, 100)
        step = Step(1000, BEGIN_MS + MS_PER_HOUR // 10)
        again.writer.commit(steps=[step], heartbeat_ms=BEGIN_MS + 150 * MS_PER_S)
        again.finish(200)
    merge(f"sqlite:///{tmp_path / 'node.db'}", [str(laptop)])
    ship(node, team, at_s=300)
    agree(node, team)
