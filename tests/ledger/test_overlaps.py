"""What was recorded twice counts once, in both databases, with and without the seconds."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import pytest
from sqlalchemy import Connection

from carbontrack import config
from carbontrack.ledger import kept_overlaps, overlaps, read
from carbontrack.ledger.recorded_rows import Recording, Run, Sensor
from carbontrack.ledger.transaction import WritableLedger
from carbontrack.ledger.window import LEVELS_S, Pyramid, Window
from carbontrack.ledger.write import RunWriter
from carbontrack.query import group, price
from carbontrack.units import now_ms
from carbontrack.vocabulary import Method, RunKind, Status
from tests.fixtures.pictures import window_at
from tests.fixtures.runs import START_MS, Recorded, recording_of

POWER_W = 250.0


@dataclass(frozen=True)
class Span:
    """One recording of a run: when, and the energy of its seconds in mJ, by device and start."""

    recording: Recording
    energies_mj: Mapping[tuple[str, int], tuple[int, int]]  # and how many ms are covered


def covered(start_ms: int, end_ms: int) -> Iterable[tuple[int, int]]:
    """(start of the second, ms of it) between two times."""
    for second_ms in range(start_ms // 1000 * 1000, end_ms, 1000):
        yield second_ms, min(end_ms, second_ms + 1000) - max(start_ms, second_ms)


def put(
    ledger: WritableLedger,
    run: Run,
    recording: Recording,
    uuids: Sequence[str] = ("GPU-0", "GPU-1"),
    *,
    dice: random.Random | None = None,
    meter: str = "nvml",
) -> Span:
    """One recording of a run, whole or partial seconds at its two ends, with minutes and hours;
    MIG-0-3 is an instance with 3/7 of GPU-0.
    """
    (like,) = Recorded(count=1, meter=meter).sensors
    sensors = [sensor_of(like, uuid) for uuid in uuids]
    writer = RunWriter(ledger, run, recording, sensors)
    energies: dict[tuple[str, int], tuple[int, int]] = {}
    for uuid, sensor in zip(uuids, sensors, strict=True):
        pyramid = Pyramid()
        fine: list[Window] = []
        for second_ms, length_ms in covered(recording.started_ms, recording.end_ms):
            watts = dice.randint(50_000, 400_000) if dice else round(POWER_W * 1000 * sensor.share)
            energy_mj = watts * length_ms // 1000
            energies[uuid, second_ms] = energy_mj, length_ms
            window = window_at(second_ms, 1, watts / 1000)
            seconds = length_ms / 1000
            fine.append(
                replace(window, energy_j=energy_mj / 1000, energy_s=seconds, sampled_s=seconds)
            )
            pyramid.add(fine[-1])
        rows = [(uuid, window) for window in (*fine, *pyramid.take_changed())]
        writer.commit(windows=rows, heartbeat_ms=recording.heartbeat_ms)
    return Span(recording, energies)


def sensor_of(like: Sensor, uuid: str) -> Sensor:
    kind, gpu, *slices = uuid.split("-")
    if kind != "MIG":
        return replace(like, uuid=uuid)
    return replace(like, uuid=uuid, mig_parent=f"GPU-{gpu}", share=int(slices[0]) / 7)


def run_at(number: int, start_s: float, **others: object) -> Run:
    start_ms = START_MS + round(start_s * 1000)
    values: dict[str, object] = {"started_ms": start_ms, "ended_ms": None, **others}
    return replace(Recorded(number=number).run, **values)  # type: ignore[arg-type]


def recorded(run: Run, start_s: float, end_s: float, name: str = "", **others: object) -> Recording:
    end_ms = START_MS + round(end_s * 1000)
    values: dict[str, object] = {"started_ms": START_MS + round(start_s * 1000), "ended_ms": end_ms}
    values |= {"heartbeat_ms": end_ms, "status": Status.COMPLETED}
    return recording_of(run, f"node1{name}", **values | others)


def one(
    ledger: WritableLedger,
    number: int,
    start_s: float,
    end_s: float,
    *,
    uuids: Sequence[str] = ("GPU-0", "GPU-1"),
    **others: object,
) -> Run:
    """A run of one recording, between two times."""
    run = run_at(number, start_s, **others)
    put(ledger, run, recorded(run, start_s, end_s), uuids)
    return run


def found(reader: Connection, *numbers: int) -> dict[int, list[tuple[str, float, float]]]:
    reader.rollback()  # what is in the ledger now
    runs = [run for run in read.list_runs(reader) if not numbers or number_of(run.id) in numbers]
    return {
        number_of(run_id): sorted((one.uuid, one.energy_j, one.seconds) for one in rows)
        for run_id, rows in overlaps.recorded_twice(reader, runs).items()
    }


def number_of(run_id: str) -> int:
    return int(run_id[4:8], 16)


def both(seconds: float) -> list[tuple[str, float, float]]:
    return [(f"GPU-{i}", pytest.approx(seconds * POWER_W), pytest.approx(seconds)) for i in (0, 1)]


def keys(reader: Connection) -> list[int]:
    reader.rollback()
    return [one.key for run in read.list_runs(reader) for one in read.recordings(reader, run)]


def drop_below(ledger: WritableLedger, level_s: int) -> None:
    """All windows that are shorter than these."""
    with ledger.begin() as transaction:
        for row in list(transaction.ask("select key from recordings", {})):
            transaction.remove_windows(row["key"], [one for one in LEVELS_S if one < level_s])


def drop_seconds(ledger: WritableLedger) -> None:
    drop_below(ledger, 60)


def drop_minutes(ledger: WritableLedger) -> None:
    drop_below(ledger, 3600)


def kept(ledger: WritableLedger) -> int:
    with ledger.begin() as transaction:
        (row,) = transaction.ask('select count(*) as number from "overlaps"', {})
    return int(row["number"])


def test_runs_after_each_other_share_nothing(ledger: WritableLedger, reader: Connection) -> None:
    one(ledger, 1, 0, 30.4)
    one(ledger, 2, 30.4, 60)
    assert found(reader) == {}
    kept_overlaps.keep(ledger, keys(reader))
    assert kept(ledger) == 0


def test_the_run_that_began_first_keeps_what_both_recorded(
    ledger: WritableLedger, reader: Connection
) -> None:
    one(ledger, 1, 0, 100)
    one(ledger, 2, 80, 130)
    assert found(reader) == {2: both(20)}


def test_three_at_once_count_each_second_once(ledger: WritableLedger, reader: Connection) -> None:
    one(ledger, 1, 0, 100)
    one(ledger, 2, 40, 160)
    one(ledger, 3, 50, 200)
    kept_overlaps.keep(ledger, keys(reader)[:1])
    drop_seconds(ledger)
    assert found(reader) == {2: both(60), 3: both(110)}
    assert found(reader, 2, 3) == {3: both(110)}
    assert found(reader, 1, 3) == {3: both(50)}


def test_a_job_counts_before_a_watch_over_it(ledger: WritableLedger, reader: Connection) -> None:
    one(ledger, 1, 0, 100, kind=RunKind.WATCH)
    one(ledger, 2, 20.5, 40.25)
    one(ledger, 3, 40.25, 60)
    assert found(reader) == {1: both(39.5)}
    kept_overlaps.keep(ledger, keys(reader))
    drop_seconds(ledger)
    assert found(reader) == {1: both(39.5)}


def lost(uuid: str, seconds: float) -> tuple[str, float, float]:
    """Of a device that another run recorded for so long."""
    share = int(uuid[-1]) / 7 if uuid.startswith("MIG") else 1.0
    energy_j = pytest.approx(seconds * POWER_W * share, abs=0.01)  # windows are in mJ
    return uuid, energy_j, pytest.approx(seconds)


@pytest.mark.parametrize("left_s", [1, 60, 3600], ids=["seconds", "minutes", "hours"])
@pytest.mark.parametrize("are_kept", [False, True])
def test_a_gpu_has_what_its_instances_have(
    ledger: WritableLedger, reader: Connection, left_s: int, are_kept: bool
) -> None:
    """A watch of two GPUs, and jobs on instances of one: two on the same, two on another one, of
    which one goes on when the watch has ended.
    """
    one(ledger, 1, 0, 240, kind=RunKind.WATCH)
    one(ledger, 2, 0, 120, uuids=["MIG-0-3"])
    one(ledger, 3, 60, 180, uuids=["MIG-0-3"])
    one(ledger, 4, 120, 300, uuids=["MIG-0-4"])
    one(ledger, 5, 180, 300, uuids=["GPU-1"])
    if are_kept:
        kept_overlaps.keep(ledger, keys(reader)[:1])
    drop_below(ledger, left_s)
    watched = [lost("GPU-0", 180 * 3 / 7 + 120 * 4 / 7), lost("GPU-1", 60)]
    assert found(reader) == {1: watched, 3: [lost("MIG-0-3", 60)]}
    assert found(reader, 1, 2) == {1: [lost("GPU-0", 120 * 3 / 7)]}
    assert found(reader, 2, 3, 4) == {3: [lost("MIG-0-3", 60)]}
    assert found(reader, 2, 4) == {}


def test_instances_have_nothing_that_a_job_on_their_whole_gpu_has(
    ledger: WritableLedger, reader: Connection
) -> None:
    one(ledger, 1, 0, 50, uuids=["GPU-0"])
    one(ledger, 2, 20, 80, uuids=["MIG-0-3", "MIG-0-4", "GPU-1"])
    for _ in ("seconds", "kept"):
        assert found(reader) == {2: [lost("MIG-0-3", 30), lost("MIG-0-4", 30)]}
        kept_overlaps.keep(ledger, keys(reader))
    drop_seconds(ledger)
    assert found(reader) == {2: [lost("MIG-0-3", 30), lost("MIG-0-4", 30)]}


def test_a_gpu_that_is_read_after_its_instances_were_decided_is_decided_with_them(
    ledger: WritableLedger, reader: Connection
) -> None:
    """Of which some stretches began at one time, and were not equally long."""
    one(ledger, 1, 0, 60, uuids=["MIG-0-3", "MIG-0-4"])
    one(ledger, 2, 20, 40, uuids=["MIG-0-3"])
    one(ledger, 3, 20, 50, uuids=["MIG-0-4"])
    kept_overlaps.keep(ledger, keys(reader))
    one(ledger, 4, 0, 100, uuids=["GPU-0"], kind=RunKind.WATCH)
    twice = {2: [lost("MIG-0-3", 20)], 3: [lost("MIG-0-4", 30)], 4: [lost("GPU-0", 60)]}
    assert found(reader) == twice
    kept_overlaps.keep(ledger, keys(reader))
    drop_seconds(ledger)
    assert found(reader) == twice


def test_jobs_whose_processes_are_read_share_no_cpu(
    ledger: WritableLedger, reader: Connection
) -> None:
    for number in (1, 2):
        run = run_at(number, 0)
        put(ledger, run, recorded(run, 0, 60), ["CPU-0"], meter="cpu-model")
    assert found(reader) == {}


def test_without_any_seconds_it_is_known_to_the_minute(
    ledger: WritableLedger, reader: Connection
) -> None:
    one(ledger, 1, 0, 120)
    one(ledger, 2, 60, 180)
    drop_seconds(ledger)
    assert found(reader) == {2: both(60)}


def test_an_hour_is_kept_when_no_recorder_adds_to_it_any_more(
    ledger: WritableLedger, reader: Connection
) -> None:
    at_ms = now_ms()
    this_hour_s = (at_ms - START_MS) // 3_600_000 * 3600
    start_s, end_s = this_hour_s - 3660, (at_ms - START_MS) / 1000
    goes_on = {"ended_ms": None, "status": Status.RUNNING}
    for number, others in ((1, goes_on), (2, {})):
        run = run_at(number, start_s)
        put(ledger, run, recorded(run, start_s, end_s, **others), ["GPU-0"])
    before = found(reader)
    kept_overlaps.keep(ledger, keys(reader))
    with ledger.begin() as transaction:
        starts = [row["start_ms"] for row in transaction.ask('select start_ms from "overlaps"', {})]
    assert START_MS + start_s * 1000 in starts
    assert max(starts) < START_MS + this_hour_s * 1000
    assert found(reader) == before


def test_a_recording_that_comes_later_is_decided_with_the_others(
    ledger: WritableLedger, reader: Connection
) -> None:
    one(ledger, 1, 0, 100)
    one(ledger, 2, 50, 100)
    kept_overlaps.keep(ledger, keys(reader))
    one(ledger, 3, 90, 120)
    assert found(reader) == {2: both(50), 3: both(10)}
    kept_overlaps.keep(ledger, keys(reader))
    drop_seconds(ledger)
    assert found(reader) == {2: both(50), 3: both(10)}
    # When the seconds are gone, what was decided stays.
    one(ledger, 4, 50, 100)
    assert found(reader, 1, 2, 3) == {2: both(50), 3: both(10)}
    assert found(reader, 1, 2, 3, 4)[2] == both(50)


def test_seconds_that_come_later_are_looked_at(ledger: WritableLedger, reader: Connection) -> None:
    one(ledger, 1, 0, 100)
    run = run_at(2, 50)
    recording = recorded(run, 50, 100)
    put(ledger, run, replace(recording, ended_ms=recording.started_ms + 10_000))
    kept_overlaps.keep(ledger, keys(reader))
    sensors = [replace(Recorded(count=1).sensors[0], uuid=f"GPU-{i}") for i in (0, 1)]
    writer = RunWriter(ledger, run, recording, sensors)
    late = [
        (sensor.uuid, window_at(START_MS + at_s * 1000, 1, POWER_W))
        for sensor in sensors
        for at_s in range(60, 100)
    ]
    writer.add_late(late)
    writer.finish(status=Status.COMPLETED, exit_code=0, ended_ms=recording.end_ms)
    assert found(reader) == {2: both(50)}


def test_what_two_ledgers_decided_apart_is_decided_again(
    ledger: WritableLedger, reader: Connection
) -> None:
    """As after a merge: the first run was recorded with the second in one, the third in another."""
    one(ledger, 1, 0, 100)
    one(ledger, 2, 20, 100)
    one(ledger, 3, 50, 100)
    with ledger.begin() as transaction:
        rows = transaction.ask("select key, recording_key from sensors order by key", {})
        sensors = [row["key"] for row in rows]
        for start_s, seconds, keys_ in (
            (20, 80.0, sensors[:4]),
            (50, 50.0, sensors[:2] + sensors[4:]),
        ):
            transaction.write(
                'insert into "overlaps" (sensor_key, start_ms, energy_j, seconds) '
                "values (:key, :start_ms, 1.0, :seconds)",
                [
                    {"key": key, "start_ms": START_MS + start_s * 1000, "seconds": seconds}
                    for key in keys_
                ],
            )
    assert found(reader) == {2: both(80), 3: both(50)}
    kept_overlaps.keep(ledger, keys(reader))
    drop_seconds(ledger)
    assert found(reader) == {2: both(80), 3: both(50)}
    assert found(reader, 2, 3) == {3: both(50)}


def test_a_run_that_was_removed_takes_what_is_kept_of_it_along(
    ledger: WritableLedger, reader: Connection
) -> None:
    for number in (1, 2, 3):
        one(ledger, number, number, 100)
    kept_overlaps.keep(ledger, keys(reader))
    drop_seconds(ledger)
    first = read.list_runs(reader)[-1]
    with ledger.begin() as transaction:
        transaction.write("delete from runs where key = :key", [{"key": first.key}])
    assert found(reader) == {3: both(97)}


def test_spans_take_their_share(ledger: WritableLedger, reader: Connection) -> None:
    one(ledger, 1, 0, 100)
    one(ledger, 2, 50, 130)
    runs = read.list_runs(reader)
    spans = [(START_MS + 60_500, START_MS + 70_000), (START_MS + 95_000, START_MS + 500_000)]

    def inside() -> list[tuple[str, float, float]]:
        (rows,) = overlaps.recorded_twice(reader, runs, spans).values()
        return sorted((one.uuid, one.energy_j, one.seconds) for one in rows)

    assert inside() == both(14.5)
    kept_overlaps.keep(ledger, keys(reader))
    assert inside() == both(14.5)
    drop_seconds(ledger)
    assert inside() == both(14.5)


def test_runs_that_never_met_with_seconds_are_known_by_when_they_were_recorded(
    ledger: WritableLedger, reader: Connection
) -> None:
    """As after a merge of ledgers that had both dropped seconds and minutes."""
    one(ledger, 1, 0, 1800)
    one(ledger, 2, 600, 2400)
    one(ledger, 3, 2000, 2400)
    drop_minutes(ledger)
    assert found(reader) == {2: both(1200), 3: both(400)}
    assert found(reader, 1, 3) == {}
    runs = read.list_runs(reader)
    for rows in overlaps.recorded_twice(reader, runs).values():
        assert {one.level_s for one in rows} == {3600}
        assert [one.unsure_j for one in rows] == pytest.approx([0.0] * 2, abs=1e-6)


def test_one_that_comes_without_seconds_is_decided_with_those_that_met(
    ledger: WritableLedger, reader: Connection
) -> None:
    one(ledger, 1, 0, 100)
    one(ledger, 2, 50, 150)
    kept_overlaps.keep(ledger, keys(reader))
    one(ledger, 3, 80, 170)
    drop_minutes(ledger)
    assert found(reader) == {2: both(50), 3: both(70)}


@pytest.mark.parametrize("level_s", [1, 60, 3600])
def test_what_gaps_leave_open_without_seconds_is_said(
    ledger: WritableLedger, reader: Connection, level_s: int
) -> None:
    """Two recordings of an hour, each read for half of it: at the same time, as seconds say."""
    for number in (1, 2):
        one(ledger, number, 0, 1800)
    with ledger.begin() as transaction:
        transaction.write("update recordings set ended_ms = ended_ms + :ms", [{"ms": 1_800_000}])
    drop_below(ledger, level_s)
    reader.rollback()
    runs = read.list_runs(reader)
    twice = overlaps.recorded_twice(reader, runs)
    (rows,) = twice.values()
    expected = 0.0 if level_s == 3600 else 1800.0
    assert [one.seconds for one in rows] == pytest.approx([expected] * 2)
    assert [one.unsure_j for one in rows] == pytest.approx([(1800 - expected) * POWER_W] * 2)
    estimates = price.estimates(reader, runs, config.flags(), [Method.MEASURED])
    (total,) = group.totals(estimates, twice)
    said = " ".join(total.notes)
    dropped = "seconds were dropped before the runs met in one ledger"
    if level_s == 1:
        assert said.endswith("at the same time: that part counts once in the total")
    elif level_s == 60:
        assert f"that part, known to the minute only ({dropped}), counts once" in said
    else:
        assert f"up to 100.0% of {runs[0].name} ({twice.popitem()[0][:13]}) may be counted" in said
        assert dropped in said
    each_kwh = 2 * 1800 * POWER_W / 3.6e6
    assert total.energy_kwh == pytest.approx(each_kwh * (2 if level_s == 3600 else 1))


# ---- Any recordings of shared devices, against a count of every ms -------------------------------

_WORLDS = 3  # on one ledger, each with its own devices
_RUNS = 4
_AROUND_S = 3600.0  # an hour ends here


def world(ledger: WritableLedger, number: int) -> dict[str, tuple[Run, list[Span]]]:
    """Runs of up to three recordings each, of one or both of two devices; some were killed."""
    dice = random.Random(number)
    runs: dict[str, tuple[Run, list[Span]]] = {}
    for place in range(_RUNS):
        kind = RunKind.WATCH if place == 0 else RunKind.JOB
        spans = []
        start_s = _AROUND_S + dice.uniform(-40, 30)
        run = run_at(number * 16 + place, start_s, kind=kind)
        for name in "abc"[: dice.randint(1, 3)]:
            end_s = start_s + dice.choice([dice.uniform(0.1, 2), dice.uniform(5, 50)])
            ended = {} if dice.random() < 0.7 else {"ended_ms": None, "status": Status.RUNNING}
            recording = recorded(run, start_s, end_s, name, **ended)
            devices = [f"GPU-{number}-{i}" for i in dice.choice([[0], [1], [0, 1], [0, 1]])]
            spans.append(put(ledger, run, recording, devices, dice=dice))
            # The next one begins where this one ended, later, or beside it.
            start_s = dice.choice([end_s, end_s + dice.uniform(0, 5), start_s + 1])
        runs[run.id] = run, spans
    return runs


def counted_mj(runs: Sequence[tuple[Run, list[Span]]]) -> dict[str, float]:
    """What counts of each run: second by second the first ones have it, as long as there are ms."""
    total: dict[str, float] = defaultdict(float)
    order = sorted(runs, key=lambda one: (one[0].kind == "watch", one[0].started_ms, one[0].id))
    seconds = {place for _, spans in runs for span in spans for place in span.energies_mj}
    for place in seconds:
        left_ms = 1000
        for run, spans in order:
            of_run_ms = 1000  # what it records twice itself is not its
            taken_ms, taken_mj = 0, 0.0
            for span in sorted(spans, key=lambda s: (s.recording.started_ms, s.recording.id)):
                energy_mj, length_ms = span.energies_mj.get(place, (0, 0))
                counts_ms = min(length_ms, of_run_ms)
                of_run_ms -= counts_ms
                taken_ms += counts_ms
                taken_mj += energy_mj * counts_ms / length_ms if length_ms else 0.0
            counts_ms = min(taken_ms, left_ms)
            left_ms -= counts_ms
            total[run.id] += taken_mj * counts_ms / taken_ms if taken_ms else 0.0
    return total


def test_any_choice_of_runs_adds_up_to_what_the_devices_used(
    ledger: WritableLedger, reader: Connection
) -> None:
    worlds = [world(ledger, number) for number in range(1, _WORLDS + 1)]

    def look() -> list[float]:
        """What counts of each run among any others of its world, in mJ."""
        reader.rollback()
        counts = []
        by_id = {run.id: run for run in read.list_runs(reader)}
        alone_mj = {
            run.id: 1000 * sum(used.energy_j or 0.0 for used in read.totals(reader, run))
            for run in by_id.values()
        }
        for runs in worlds:
            for size in range(1, _RUNS + 1):
                for chosen in combinations(runs, size):
                    twice = overlaps.recorded_twice(reader, [by_id[one] for one in chosen])
                    true_mj = counted_mj([runs[one] for one in chosen])
                    for run_id in chosen:
                        lost_j = sum(one.energy_j for one in twice.get(run_id, ()))
                        counts.append(alone_mj[run_id] - 1000 * lost_j)
                        assert counts[-1] == pytest.approx(true_mj[run_id], abs=1e-3)
        return counts

    decided_on_seconds = look()
    kept_overlaps.keep(ledger, keys(reader))
    assert look() == pytest.approx(decided_on_seconds, abs=1e-3)
    drop_seconds(ledger)
    assert look() == pytest.approx(decided_on_seconds, abs=1e-3)
