"""`carbontrack.Ledger`: what a notebook reads, the same from a file and from a server."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import pandas as pd
import pytest

from carbontrack import Ledger
from carbontrack.errors import CarbontrackError, NotFoundError
from carbontrack.ledger.recorded_rows import Event, Step
from carbontrack.ledger.transaction import open_ledger
from carbontrack.ledger.window import Flag, Pyramid, Window
from carbontrack.ledger.write import RunWriter
from carbontrack.vocabulary import EventKind, Status
from tests.fixtures.command import Command
from tests.fixtures.runs import Recorded, recording_of, write_ledger

SMALL = Recorded(name="small", number=1, count=2, seconds=120.0, project="nlp", tags={"team": "a"})
LARGE = Recorded(name="large", number=2, count=1, seconds=7200.0, status=Status.FAILED, exit_code=9)
START = pd.Timestamp(SMALL.start_ms, unit="ms", tz="UTC")
STEPS = [
    Step(1, SMALL.start_ms + 1000, loss=2.5, lr=1e-3, tokens=512, tokens_per_s=100.0),
    Step(2, SMALL.start_ms + 2000, loss=float("nan"), extra={"phase": "warm-up"}),
]
EVENTS = [
    Event(SMALL.start_ms + 1500, EventKind.EVAL, "", data={"loss": 2.25}),
    Event(SMALL.start_ms + 1600, "my-own", "said", host="node1"),
]


def windows_of(one: Recorded) -> list[tuple[str, Window]]:
    """Seconds with their minutes and hours; the second device has no energy in the first minute."""
    found: list[tuple[str, Window]] = []
    for number, sensor in enumerate(one.sensors):
        pyramid = Pyramid()
        for second in range(int(one.seconds)):
            energy_j = None if number == 1 and second < 60 else one.power_w
            window = Window(
                one.start_ms + second * 1000, 1, energy_j, 1.0, 1.0, 10, 350.0, 370.0,
                1, 97.0, 2**30, 64.0, 1410.0, 0, Flag.COUNTER,
            )  # fmt: skip
            pyramid.add(window)
            found.append((sensor.uuid, window))
        found += [(sensor.uuid, window) for window in pyramid.take_changed()]
    return found


@pytest.fixture
def ledger(ledger_url: str) -> Ledger:
    with closing(open_ledger(ledger_url)) as opened:
        for one in (SMALL, LARGE):
            recording = recording_of(one.begun, one.host)
            writer = RunWriter(opened, one.begun, recording, one.sensors)
            small = one is SMALL
            writer.commit(
                windows=windows_of(one) if small else one.windows,
                steps=STEPS if small else [],
                events=list(enumerate(EVENTS)) if small else [],
                heartbeat_ms=one.end_ms,
            )
            writer.finish(status=one.status, exit_code=one.exit_code, ended_ms=one.end_ms)
    return Ledger(ledger_url)


def test_runs(ledger: Ledger) -> None:
    runs = ledger.runs()
    assert list(runs["name"]) == ["large", "small"]
    assert list(runs["status"]) == ["failed", "completed"]
    assert runs["started"][1] == START
    assert runs["ended"][1] - runs["started"][1] == pd.Timedelta(seconds=120)
    assert runs["energy_kwh"].tolist() == pytest.approx([0.72, 0.018])
    assert runs["coverage"].tolist() == pytest.approx([1.0, 1.0])
    assert runs["exit_code"].tolist() == [9, 0]
    assert runs["project"].isna().tolist() == [True, False]
    assert runs["tags"][1] == {"team": "a"}


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        ({"project": "nlp"}, ["small"]),
        ({"tags": {"team": "a"}}, ["small"]),
        ({"tags": {"team": "b"}}, []),
        ({"status": Status.FAILED}, ["large"]),
        ({"limit": 1}, ["large"]),
        ({"since": START}, ["large", "small"]),
        ({"since": START + pd.Timedelta("119s")}, ["large", "small"]),
        ({"since": START + pd.Timedelta("120s")}, ["large"]),
    ],
)
def test_runs_are_chosen(ledger: Ledger, chosen: dict[str, object], names: list[str]) -> None:
    assert list(ledger.runs(**chosen)["name"]) == names  # type: ignore[arg-type]


def test_times_are_utc_unless_they_say_otherwise(ledger: Ledger) -> None:
    begun = datetime.fromtimestamp(SMALL.start_ms / 1000, UTC)
    naive = begun.replace(tzinfo=None)
    for since in (begun, naive, naive.isoformat(), begun.isoformat()):
        assert len(ledger.windows("small", since=since, until=START + pd.Timedelta("60s"))) == 2
    with pytest.raises(CarbontrackError, match="'yesterdayish' is not a time"):
        ledger.runs(since="yesterdayish")


def test_windows_are_minutes_unless_seconds_are_asked_for(ledger: Ledger) -> None:
    minutes = ledger.windows("small")
    assert list(minutes["device"]) == ["GPU-nvml-0"] * 2 + ["GPU-nvml-1"] * 2
    assert list(minutes["start"]) == [START, START + pd.Timedelta("60s")] * 2
    assert minutes["energy_j"].tolist() == pytest.approx(
        [21600.0, 21600.0, float("nan"), 21600.0], nan_ok=True
    )
    assert minutes["power_mean_w"].tolist() == pytest.approx(
        [360.0, 360.0, float("nan"), 360.0], nan_ok=True
    )
    assert minutes["samples"].tolist() == [600] * 4
    assert set(minutes["host"]) == {"node1"}
    seconds = ledger.windows(
        "small", level_s=1, since=START + pd.Timedelta("10s"), until=START + pd.Timedelta("15s")
    )
    assert len(seconds) == 5 * 2
    assert seconds["start"].min() == START + pd.Timedelta("10s")
    hours = ledger.windows("large", level_s=3600)
    assert hours["energy_j"].sum() / 3.6e6 == pytest.approx(ledger.table("large")["energy_kwh"][0])
    with pytest.raises(CarbontrackError, match=r"level_s 5: unknown\. Give one of 1, 60, 3600"):
        ledger.windows("small", level_s=5)


def test_steps_and_events(ledger: Ledger) -> None:
    steps = ledger.steps("small")
    assert steps["step"].tolist() == [1, 2]
    assert steps["time"][0] == START + pd.Timedelta("1s")
    assert steps["loss"].isna().tolist() == [False, True]
    assert steps["tokens"].tolist() == [512, pd.NA]
    assert steps["extra"].tolist() == [{}, {"phase": "warm-up", "loss": "nan"}]
    events = ledger.events("small")
    assert events["kind"].tolist() == ["eval", "my-own"]
    assert events["time"][1] == START + pd.Timedelta("1.6s")
    assert events["data"][0] == {"loss": 2.25}
    assert events["host"].isna().tolist() == [True, False]


def test_the_table_is_that_of_the_command(
    ledger: Ledger, ledger_url: str, command: Command
) -> None:
    said = command("table", "--zone", "FRA", "--db", ledger_url, "--format", "json").json["rows"]
    table = ledger.table(zone="FRA")
    for name in ("label", "status", "energy_kwh", "facility_kwh", "tco2e", "gpu_hours", "run_ids"):
        assert table[name].tolist() == [row[name] for row in said], name
    assert table["started"][1] == START
    both = ledger.table(["small", "large"], method="measured,report", intensity=0.5)
    assert list(zip(both["label"], both["method"], strict=True)) == [
        ("small", "measured"), ("small", "report"), ("large", "measured"), ("large", "report"),
    ]  # fmt: skip
    of_project = ledger.table(ledger.runs(project="nlp")["id"], zone="FRA")  # a Series, as printed
    assert of_project["label"].tolist() == ["small"]
    by_project = ledger.table(by="project")
    assert by_project["label"].tolist() == ["–", "nlp"]
    assert by_project["energy_kwh"].tolist() == pytest.approx([0.72, 0.018])


def test_a_frame_of_nothing_has_the_same_columns_and_types(ledger: Ledger) -> None:
    full = [ledger.runs(), ledger.windows("small"), ledger.steps("small"), ledger.events("small")]
    empty = [
        ledger.runs(project="none"),
        ledger.windows("small", since="2100-01-01"),
        ledger.steps("large"),
        ledger.events("large"),
    ]
    for some, none in zip(full, empty, strict=True):
        assert len(none) == 0
        assert none.dtypes.to_dict() == some.dtypes.to_dict()
    of_none = ledger.table(ledger.runs(project="none")["id"])
    assert (len(of_none), list(of_none.columns)) == (0, list(ledger.table().columns))
    assert len(ledger.table([], by="project")) == 0


def test_every_quantity_names_its_unit_and_every_time_is_utc(ledger: Ledger) -> None:
    frames = [ledger.runs(), ledger.table(), ledger.windows("small"), ledger.steps("small")]
    columns = list(chain.from_iterable(frame.dtypes.items() for frame in frames))
    times = {
        name: dtype
        for name, dtype in columns
        if name in ("started", "ended", "heard", "start", "time")
    }
    assert {str(dtype.tz) for dtype in times.values()} == {"UTC"}
    assert not [name for name, _ in columns if str(name).endswith("_ms")]


def test_what_is_not_there_is_said(ledger: Ledger, ledger_url: str) -> None:
    with pytest.raises(NotFoundError, match="There is no run 'medium'"):
        ledger.steps("medium")
    with pytest.raises(CarbontrackError, match="status 'done': unknown"):
        ledger.runs(status="done")
    with pytest.raises(CarbontrackError, match="zone"):
        ledger.table(zone="ATLANTIS")
    with pytest.raises(NotFoundError, match="There is no ledger"):
        Ledger("/nowhere/at/all.db")
    assert "password" not in repr(ledger)


def test_a_run_that_goes_on_can_be_followed(ledger: Ledger, ledger_url: str) -> None:
    before = len(ledger.steps("large"))
    with closing(open_ledger(ledger_url)) as opened:
        begun = replace(LARGE.begun, started_ms=LARGE.start_ms)
        writer = RunWriter(opened, begun, recording_of(begun, LARGE.host), LARGE.sensors)
        writer.commit(steps=[Step(7, LARGE.start_ms)], heartbeat_ms=LARGE.end_ms)
    assert len(ledger.steps("large")) == before + 1


def test_a_group_of_unlike_runs_has_a_row_of_each_kind(tmp_path: Path) -> None:
    euro = {"tariff": 0.2, "currency": "EUR"}
    path = write_ledger(
        tmp_path / "ledger.db",
        *(Recorded(name="usd", number=n) for n in (1, 2)),
        Recorded(name="eur", number=3, facility=euro),
    )
    table = Ledger(str(path)).table(by="user")
    assert table[["label", "kind", "currency"]].to_numpy().tolist() == [
        ["ada", "EUR", "EUR"],
        ["ada", "USD", "USD"],
    ]
    assert table["cost"].notna().all()


def test_ledgers_are_moved_and_kept_small_from_python(ledger: Ledger, tmp_path: Path) -> None:
    """What the commands of `carbontrack db` do, which have tests of their own."""
    pytest.importorskip("pyarrow")
    other = Recorded(name="other", number=7, count=1)
    path = write_ledger(tmp_path / "other.db", other)
    assert ledger.merge(path, dry_run=True).added == {other.run.id}
    assert len(ledger.runs()) == 2
    assert ledger.merge(path).added == {other.run.id}
    assert ledger.merge(str(path)).known == {other.run.id}
    before = ledger.table()["energy_kwh"]
    done = ledger.export(tmp_path / "archive")
    assert (done.rows, done.files) > (0, 0)
    copy = Ledger(str(path))
    assert copy.merge(tmp_path / "archive").added == {SMALL.run.id, LARGE.run.id}
    pd.testing.assert_series_equal(copy.table()["energy_kwh"], before)
    assert ledger.compact("1s:0h", dry_run=True).windows == ledger.compact("1s:0h").windows
    assert set(ledger.windows("small", level_s=1)["level_s"]) == {60}
    pd.testing.assert_series_equal(ledger.table()["energy_kwh"], before)
    problems = ledger.verify()
    assert list(problems.columns) == ["where", "what"]
    with pytest.raises(CarbontrackError, match="--keep soon: invalid"):
        ledger.compact("soon")
