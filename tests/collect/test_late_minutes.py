"""What changes in a minute after it was shipped comes once more: node and team agree to the mJ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from carbontrack.ledger import backlog
from carbontrack.ledger.shipped import take
from carbontrack.ledger.shipped_seconds import EVERY_SECOND
from carbontrack.ledger.transaction import WritableLedger
from carbontrack.ledger.window import Flag, Pyramid, Window
from carbontrack.ledger.write import RunWriter
from carbontrack.meters.base import Reading
from carbontrack.record.clock import Clock
from carbontrack.record.reduce import WindowBuilder
from carbontrack.units import MS_PER_S, NS_PER_MS, NS_PER_S, now_ms
from carbontrack.vocabulary import Status
from tests.collect.batches import BEGIN_MS, RECORDED, second
from tests.collect.test_backlog import RECORDING, TARGET, Recorder, agree, node, ship, team
from tests.record.test_holes import GPU, START_NS, Fails, polls, true_j

__all__ = ["node", "team"]  # fixtures
CLOCK = Clock(anchor_ms=BEGIN_MS, anchor_ns=START_NS)
_HZ = 10
_COMMIT_POLLS = 16  # as often as a recorder commits
_MOST_BEHIND_NS = 4 * NS_PER_S  # of a device that answers, as in `record.sampler`
Place = tuple[str, int, int]


class Polled:
    """Writes into the node's ledger what a recorder makes of the readings of some devices."""

    def __init__(self, node: WritableLedger) -> None:
        self._writer = RunWriter(
            node, replace(RECORDED.begun, started_ms=BEGIN_MS), RECORDING, RECORDED.sensors
        )
        self._uuids = [str(sensor.uuid) for sensor in RECORDED.sensors]
        self._builders = [
            WindowBuilder(replace(GPU, uuid=uuid), CLOCK, start_ns=START_NS) for uuid in self._uuids
        ]
        self._pyramids = [Pyramid() for _ in self._uuids]
        self._added: list[tuple[str, Window]] = []

    def poll(self, number: int, readings: Sequence[Reading]) -> None:
        for at, reading in enumerate(readings):
            self._take(at, self._builders[at].add(reading))
        if number % _COMMIT_POLLS == 0:
            now_ns = START_NS + number * NS_PER_S // _HZ
            ends_ns = [builder.complete_ns or START_NS for builder in self._builders]
            answering = [end_ns for end_ns in ends_ns if now_ns - end_ns <= _MOST_BEHIND_NS]
            self._commit(CLOCK.wall_ns(min(answering, default=now_ns)) // NS_PER_MS)

    def finish(self, readings: Sequence[Reading]) -> None:
        end_ns = readings[0].time_ns
        for at, reading in enumerate(readings):
            self._take(at, self._builders[at].finish(end_ns, reading))
        ended_ms = CLOCK.wall_ns(end_ns) // NS_PER_MS
        self._commit(ended_ms)
        self._writer.finish(status=Status.COMPLETED, exit_code=0, ended_ms=ended_ms)

    def _take(self, at: int, seconds: Sequence[Window]) -> None:
        for one in seconds:
            self._pyramids[at].add(one)
            self._added.append((self._uuids[at], one))

    def _commit(self, heartbeat_ms: int) -> None:
        rows, self._added = self._added, []
        for uuid, builder, pyramid in zip(self._uuids, self._builders, self._pyramids, strict=True):
            known, fresh = builder.waiting()
            rows += [(uuid, one) for one in (*fresh, *pyramid.take_changed(known))]
        self._writer.commit(windows=rows, heartbeat_ms=heartbeat_ms)


def windows_mj(ledger: WritableLedger, level_s: int) -> dict[Place, tuple[int, bool]]:
    """Of each device and start in s, its energy, and whether a counter has said it."""
    asked = (
        "select devices.uuid, start_ms, energy_j, flags from windows "
        "join sensors on sensors.key = sensor_key join devices on devices.key = device_key "
        f"where level = {level_s}"
    )
    with ledger.begin() as transaction:
        return {
            (row["uuid"], level_s, (row["start_ms"] - BEGIN_MS) // MS_PER_S): (
                round(row["energy_j"] * 1000),
                bool(row["flags"] & Flag.COUNTER),
            )
            for row in transaction.ask(asked, {})
        }


def differ(node: WritableLedger, team: WritableLedger, level_s: int, *, before_s: int) -> set[int]:
    """The starts in s of the windows before a time that are not the same in both."""
    here, there = windows_mj(node, level_s), windows_mj(team, level_s)
    return {place[2] for place in here if place[2] < before_s and here[place] != there.get(place)}


def fails_between(begin_s: float, end_s: float, *, power: bool = False) -> Fails:
    def fails(number: int) -> tuple[bool, bool]:
        is_failing = begin_s <= number / _HZ < end_s
        return is_failing, power and is_failing

    return fails


@pytest.mark.parametrize("power", [False, True], ids=["power-goes-on", "nothing-answers"])
def test_a_counter_that_fails_for_50_s_and_then_answers(
    node: WritableLedger, team: WritableLedger, power: bool
) -> None:
    """It fails from 85 s to 135 s, and with it one of two devices, or power answers meanwhile. Each
    minute is in the team's ledger within 12 s of its end, and once more when the counter answers.
    """
    length_s = 200
    recorder = Polled(node)
    of_devices = [
        list(polls(fails, length_s))
        for fails in (fails_between(0, 0), fails_between(85, 135, power=power))
    ]
    *every, last = list(zip(*of_devices, strict=True))
    for number, readings in enumerate(every):
        recorder.poll(number, readings)
        at_s = number // _HZ
        if number % (10 * _HZ) == 0 and at_s:
            ship(node, team, at_s=at_s, seconds=EVERY_SECOND)
            closed_s = (at_s - 3) // 60 * 60
            for level_s in (1, 60):
                assert differ(node, team, level_s, before_s=closed_s) == set()
        if at_s == 131 and not power:
            waiting = windows_mj(team, 1)[str(RECORDED.sensors[1].uuid), 1, 110]
            assert not waiting[1], "it was shipped while its energy waited"
    recorder.finish(last)
    ship(node, team, at_s=length_s + 1, seconds=EVERY_SECOND)
    settled = windows_mj(team, 1)[str(RECORDED.sensors[1].uuid), 1, 110]
    assert settled[1], "the counter has said it"
    for level_s in (1, 60, 3600):
        total_mj = sum(energy_mj for energy_mj, _ in windows_mj(team, level_s).values())
        assert total_mj == pytest.approx(2 * true_j(length_s) * 1000, rel=1e-3)
    agree(node, team, seconds=True)


def test_what_is_written_while_a_batch_is_on_its_way_comes_next(
    node: WritableLedger, team: WritableLedger
) -> None:
    """Into a minute that it holds, of a recording that was never shipped before."""
    recorder = Recorder(node)
    recorder.record(0, 130)
    with node.begin() as here:
        backlog.begin(here, RECORDING.id, TARGET)
        part = backlog.next_part(
            here, RECORDING.id, TARGET, seconds=EVERY_SECOND, now_ms=BEGIN_MS + 131_000
        )
    assert part is not None and part.mark.minutes_ms == BEGIN_MS + 120_000
    better = replace(second(30), energy_j=450.0, samples=20)
    recorder.writer.commit(
        windows=[(RECORDED.sensors[1].uuid, better)], heartbeat_ms=BEGIN_MS + 131_000
    )
    with team.begin() as there, node.begin() as here:
        take(there, [(part.batch, "nlp")])
        assert backlog.set_mark(here, RECORDING.id, part)
    assert differ(node, team, 1, before_s=120) == {30}
    ship(node, team, at_s=132, seconds=EVERY_SECOND)
    assert differ(node, team, 1, before_s=120) == set()
    assert ship(node, team, at_s=133, seconds=EVERY_SECOND) < 60, "and once is enough"


@pytest.mark.parametrize("meanwhile", ["ship_again", "amended"])
def test_a_watermark_that_moves_meanwhile_stays_so(node: WritableLedger, meanwhile: str) -> None:
    recorder = Recorder(node)
    recorder.record(0, 130)
    recorder.finish(130)
    with node.begin() as here:
        backlog.begin(here, RECORDING.id, TARGET)
    for _ in range(2):  # all of it, then once more
        with node.begin() as here:
            part = backlog.next_part(
                here, RECORDING.id, TARGET, seconds=EVERY_SECOND, now_ms=now_ms()
            )
            assert part is not None
            marked = backlog.set_mark(here, RECORDING.id, part)
    assert marked
    with node.begin() as here:
        if meanwhile == "ship_again":
            backlog.ship_again(here, [RECORDING.id])
        else:
            backlog.amended(here, RECORDED.run.id)
        assert not backlog.set_mark(here, RECORDING.id, replace(part, before=part.mark))
        assert backlog.recordings(here, TARGET) == [RECORDING.id]


def test_of_a_recording_that_nobody_ships_nothing_is_noted(node: WritableLedger) -> None:
    recorder = Recorder(node)
    recorder.record(0, 130)
    late = [(RECORDED.sensors[0].uuid, second(5))]
    recorder.writer.commit(windows=late, heartbeat_ms=BEGIN_MS + 131_000)
    with node.begin() as here:
        assert not list(here.ask("select number from late_minutes", {}))


def test_a_recorder_that_stopped_and_goes_on_has_its_open_minute_shipped_again(
    node: WritableLedger, team: WritableLedger
) -> None:
    """A laptop that slept: the team sees all that there is, and then the rest."""
    recorder = Recorder(node)
    recorder.record(0, 90)
    ship(node, team, at_s=400, seconds=EVERY_SECOND)
    assert len(windows_mj(team, 1)) == 2 * 90
    recorder.record(90, 130)
    ship(node, team, at_s=131, seconds=EVERY_SECOND)
    assert differ(node, team, 1, before_s=120) == set()
    recorder.finish(130)
    ship(node, team, at_s=140, seconds=EVERY_SECOND)
    agree(node, team, seconds=True)


def test_an_hour_so_far_comes_with_each_minute_and_in_the_first_with_each_post(
    node: WritableLedger, team: WritableLedger
) -> None:
    recorder = Recorder(node)
    seen = []
    for begin, end in ((0, 30), (30, 50), (50, 70), (70, 90), (90, 130)):
        recorder.record(begin, end)
        ship(node, team, at_s=end)
        seen.append({energy_mj // 300_000 for energy_mj, _ in windows_mj(team, 3600).values()})
    assert seen == [{30}, {50}, {70}, {70}, {130}]
