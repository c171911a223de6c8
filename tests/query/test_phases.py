"""`--by phase`: a run's rows by what its time went to, the same from a file and from a server."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from math import ceil
from pathlib import Path

import pytest

from carbontrack import Ledger
from carbontrack.ledger import engine, read
from carbontrack.ledger.held import Held
from carbontrack.ledger.recorded_rows import Event
from carbontrack.ledger.transaction import open_ledger
from carbontrack.ledger.window import Flag, Pyramid, Window
from carbontrack.ledger.write import RunWriter
from carbontrack.query.phases import phases_of
from carbontrack.vocabulary import Status
from tests.fixtures.command import Command
from tests.fixtures.runs import Recorded, recording_of, write_ledger
from tests.query.test_ledger import windows_of

RUN = Recorded(name="phased", count=2, seconds=120.0, steps=12)


def change(second: float, name: str | None) -> Event:
    return Event(RUN.start_ms + round(second * 1000), "phase", "", data={"name": name})


EVENTS = [
    change(10.5, "load"),
    change(30, "train"),
    change(60, "eval"),
    change(75, "train"),
    change(100, None),
]


def write(url: str, events: list[Event] = EVENTS) -> None:
    with closing(open_ledger(url)) as opened:
        writer = RunWriter(opened, RUN.begun, recording_of(RUN.begun), RUN.sensors)
        writer.commit(
            windows=windows_of(RUN),
            steps=RUN.step_rows,
            events=list(enumerate(events)),
            heartbeat_ms=RUN.end_ms,
        )
        writer.finish(status=RUN.status, exit_code=0, ended_ms=RUN.end_ms)


def test_rows_by_phase_sum_to_the_run(ledger_url: str) -> None:
    write(ledger_url)
    ledger = Ledger(ledger_url)
    whole = ledger.table("phased").iloc[0]
    rows = ledger.table("phased", by="phase").set_index("label")
    assert list(rows.index) == ["load", "train", "eval", "other"]
    assert rows["duration_s"].tolist() == [19.5, 55.0, 15.0, 30.5]
    # The second device has no energy in the first minute.
    seconds = [19.5, 55.0 + 25.0, 30.0, 30.5 + 20.0]
    assert rows["energy_kwh"].tolist() == pytest.approx([360 * s / 3.6e6 for s in seconds])
    for name in ("energy_kwh", "facility_kwh", "tco2e", "cost", "gpu_hours", "duration_s"):
        assert rows[name].sum() == pytest.approx(whole[name]), name
    # A step that ends where a phase does is that phase's: those at 60 s and 100 s.
    assert rows["tokens"].tolist() == [2 * 1024, 6 * 1024, 1024, 3 * 1024]


def test_a_phase_of_an_attempt_that_died_does_not_reach_into_the_next(ledger_url: str) -> None:
    with closing(open_ledger(ledger_url)) as opened:
        for restart, begin_s, event in ((0, 0, change(10, "train")), (1, 90, change(110, "train"))):
            start_ms = RUN.start_ms + 1000 * begin_s
            recording = recording_of(
                RUN.begun,
                id=f"00000000-0000-0000-0000-00000000000{restart}",
                started_ms=start_ms,
                restart=restart,
            )
            writer = RunWriter(opened, RUN.begun, recording, RUN.sensors)
            end_ms = start_ms + 30_000
            writer.commit(windows=[], steps=[], events=[(0, event)], heartbeat_ms=end_ms)
            writer.finish(status=Status.FAILED, exit_code=1, ended_ms=end_ms)
    rows = Ledger(ledger_url).table("phased", by="phase").set_index("label")
    assert rows["duration_s"].to_dict() == {"train": 20.0 + 10.0, "other": 10.0 + 60.0 + 20.0}


# From when to when, in s, each phase of each attempt is; all in one hour, and in shared minutes.
TWICE = {
    ("1", "train"): (0.0, 60.0),
    ("1", "save"): (60.0, 90.4),
    ("2", "train"): (90.4, 200.7),
    ("2", "save"): (200.7, 250.0),
}


def used_j(device: int, begin_s: float, end_s: float) -> float:
    """Of a device that uses more each second."""
    shares = {s: min(s + 1, end_s) - max(s, begin_s) for s in range(int(begin_s), ceil(end_s))}
    return sum((100 * (1 + device) + second) * share for second, share in shares.items())


def write_twice(url: str, recorded: list[tuple[float, float]]) -> None:
    """The attempts of TWICE on two devices, by a recorder from each second to another."""
    events = [change(begin_s, name) for (_, name), (begin_s, _) in TWICE.items()]
    again_s = TWICE["2", "train"][0]
    if len(recorded) == 1:
        at_ms = change(again_s, None).time_ms
        events.insert(2, Event(at_ms, "restarted", "", data={"restart": 1}))
    with closing(open_ledger(url)) as opened:
        for number, (begin_s, end_s) in enumerate(recorded):
            first_ms, next_ms = (change(second, None).time_ms for second in (begin_s, end_s))
            recording = recording_of(
                RUN.begun, f"attempt {number}", started_ms=first_ms, restart=number
            )
            writer = RunWriter(opened, RUN.begun, recording, RUN.sensors)
            rows: list[tuple[str, Window]] = []
            for device, sensor in enumerate(RUN.sensors):
                pyramid = Pyramid()
                for second in range(int(begin_s), ceil(end_s)):
                    own = max(second, begin_s), min(second + 1, end_s)
                    lasts_s = own[1] - own[0]
                    window = Window(
                        RUN.start_ms + second * 1000, 1, used_j(device, *own), lasts_s, lasts_s,
                        10, None, None, 0, None, None, None, None, 0, Flag.COUNTER,
                    )  # fmt: skip
                    pyramid.add(window)
                    rows.append((sensor.uuid, window))
                rows += [(sensor.uuid, window) for window in pyramid.take_changed()]
            logged = [(n, one) for n, one in enumerate(events) if first_ms <= one.time_ms < next_ms]
            writer.commit(windows=rows, events=logged, heartbeat_ms=next_ms)
            writer.finish(status=Status.COMPLETED, exit_code=0, ended_ms=next_ms)


@pytest.mark.parametrize(
    "recorded",
    [[(0.0, 250.0)], [(0.0, 90.4), (90.4, 250.0)]],
    ids=["the launcher restarts it", "it is queued again"],
)
def test_phases_of_attempts_that_share_an_hour_are_those_of_their_own_time(
    ledger_url: str, recorded: list[tuple[float, float]]
) -> None:
    write_twice(ledger_url, recorded)
    ledger = Ledger(ledger_url)
    rows = ledger.table("phased", by=["attempt", "phase"]).set_index("label")
    expected_kwh = {
        " / ".join(cell): sum(used_j(device, *span_s) for device in range(2)) / 3.6e6
        for cell, span_s in TWICE.items()
    }
    assert rows["energy_kwh"].to_dict() == pytest.approx(expected_kwh)
    lengths_s = {" / ".join(cell): end_s - begin_s for cell, (begin_s, end_s) in TWICE.items()}
    assert rows["duration_s"].to_dict() == pytest.approx(lengths_s)
    of_attempts = ledger.table("phased", by="attempt").set_index("label")
    for attempt, of_attempt in of_attempts.iterrows():
        cells = rows.filter(like=f"{attempt} / ", axis="index")
        for name in ("energy_kwh", "gpu_hours", "cost", "tco2e"):
            assert cells[name].sum() == pytest.approx(of_attempt[name]), name


def test_a_run_without_phases_is_other(tmp_path: Path, command: Command) -> None:
    write_ledger(tmp_path / "ledger.db", Recorded(name="plain", count=1))
    (row,) = command("table", "--by", "phase", "--format", "json").json["rows"]
    assert (row["label"], row["group"]) == ("other", {"phase": "other"})
    assert [one["name"] for one in command("show", "--format", "json").json["phases"]] == ["other"]
    assert "phase" not in command("show").out


def test_show_says_where_the_energy_went(tmp_path: Path, command: Command) -> None:
    write(f"sqlite:///{tmp_path / 'ledger.db'}")
    shown = command("show", "phased", "--format", "json").json
    shares = {one["name"]: one["energy_share"] for one in shown["phases"]}
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["train"] == pytest.approx(80 / 180)
    assert sum(one["energy_kwh"] for one in shown["phases"]) == pytest.approx(shown["energy_kwh"])
    assert shown["phases_level_s"] == 1
    assert "train  55.0 s" in command("show", "phased").out


def test_runs_that_overlap_may_change_phase_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What both recorded counts once, of however many stretches of time a phase is made."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    often = [change(at, "ab"[at % 2]) for at in range(1, 120)]
    with closing(open_ledger(url)) as opened:
        for run in (RUN.begun, replace(RUN.begun, id=f"02{RUN.run.id[2:]}", name="beside")):
            writer = RunWriter(opened, run, recording_of(run), RUN.sensors)
            writer.commit(
                windows=windows_of(RUN), events=list(enumerate(often)), heartbeat_ms=RUN.end_ms
            )
            writer.finish(status=RUN.status, exit_code=0, ended_ms=RUN.end_ms)
    rows = Ledger(url).table(by="phase").set_index("label")
    assert set(rows.index) == {"a", "b", "other"}
    once = Ledger(url).table(["phased"])["energy_kwh"][0]
    assert rows["energy_kwh"].sum() == pytest.approx(once)


def test_phases_join_other_keys(tmp_path: Path, command: Command) -> None:
    write(f"sqlite:///{tmp_path / 'ledger.db'}")
    found = command("table", "--by", "host", "--by", "phase", "--format", "json").json
    assert [row["label"].split(" / ")[1] for row in found["rows"]] == [
        "eval",
        "load",
        "train",
        "other",
    ]
    (of_host,) = found["subtotals"]
    energies = [row["energy_kwh"] for row in found["rows"]]
    assert sum(energies) == pytest.approx(of_host["energy_kwh"])


def test_a_run_of_many_rows_is_split_within_longer_windows(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    write(url)
    with engine.open_reader(url).connect() as connection:
        run = read.resolve_run(connection, "last")
        exact = phases_of(Held(connection, [run]), run)
        coarse = phases_of(Held(connection, [run]), run, most_rows=500)
    assert (exact.level_s, coarse.level_s) == (1, 60)
    assert coarse.energy_kwh == pytest.approx(exact.energy_kwh)
    assert [p.name for p in coarse.each] == [p.name for p in exact.each]
