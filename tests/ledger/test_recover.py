"""Journals: what could not reach the ledger comes into it, once, and displaces nothing newer."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from carbontrack.errors import CarbontrackError
from carbontrack.files import NotOurs
from carbontrack.ledger import engine, journal, read
from carbontrack.ledger.journals import refused, take_if_free, waiting
from carbontrack.ledger.recorded_rows import Event, Step
from carbontrack.ledger.recover import recover
from carbontrack.ledger.transaction import WritableLedger
from carbontrack.ledger.url import journal_folders
from carbontrack.ledger.window import Pyramid, Window
from carbontrack.ledger.write import RunWriter
from tests.fixtures.runs import START_MS, Recorded, recording_of

ONE = replace(Recorded(name="away", count=2, seconds=100.0), number=0)
_, HOUR = ONE.windows[0]
SECONDS = [
    replace(
        HOUR,
        level_s=1,
        start_ms=START_MS + 1000 * s,
        energy_j=100.0 + s,
        energy_s=1.0,
        sampled_s=1.0,
    )
    for s in range(100)
]
ENERGY_J = 2 * sum(w.energy_j or 0 for w in SECONDS)


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where journals wait that cannot lie beside their ledger."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def ledger_url(tmp_path: Path) -> str:
    """Of a file: what is meant for a server is recorded in one, too."""
    return engine.ledger_url(str(tmp_path / "ledger.db"))


class Recorder:
    """A recorder by hand: what it has goes into the ledger or the journal, as told."""

    def __init__(self, url: str, one: Recorded = ONE) -> None:
        self.one = one
        self.run = one.begun
        self.recording = recording_of(self.run)
        self.path = journal_folders(url)[0] / f"{self.recording.id}.jsonl"
        self._pyramids = [Pyramid() for _ in one.sensors]

    def windows(self, begin: int, end: int) -> list[tuple[str, Window]]:
        rows = []
        for sensor, pyramid in zip(self.one.sensors, self._pyramids, strict=True):
            for second in SECONDS[begin:end]:
                pyramid.add(second)
                rows.append((sensor.uuid, second))
            rows += [(sensor.uuid, window) for window in pyramid.take_changed()]
        return rows

    def send(self, ledger: WritableLedger, begin: int, end: int) -> None:
        run = RunWriter(ledger, self.run, self.recording, self.one.sensors)
        run.commit(windows=self.windows(begin, end), heartbeat_ms=START_MS + 1000 * end)

    def spill(self, begin: int, end: int, *, ended: bool = False) -> None:
        steps = (Step(begin, START_MS, loss=2.0, tokens=8),)
        events = ((begin, Event(START_MS + begin, "eval", "", data={"loss": 2.0})),)
        entry = journal.Entry(
            run=self.run,
            recording=recording_of(self.one.run) if ended else self.recording,
            sensors=tuple(self.one.sensors),
            windows=tuple(self.windows(begin, end)),
            steps=steps,
            events=events,
            model={"name": "tiny"},
        )
        journal.append(self.path, entry)


def energies_j(url: str) -> list[float]:
    """The sum of each level."""
    with engine.open_reader(url).connect() as connection:
        query = "select sum(energy_j) from windows group by level order by level"
        return list(connection.scalars(text(query)))


def test_a_whole_run_is_recovered_into_a_ledger_that_was_never_there(ledger_url: str) -> None:
    recording = Recorder(ledger_url)
    recording.spill(0, 60)
    recording.spill(60, 100, ended=True)
    assert waiting(ledger_url) == [recording.path]
    assert recover(ledger_url) == {ONE.run.id: "away"}
    assert waiting(ledger_url) == []
    assert energies_j(ledger_url) == [ENERGY_J] * 3
    with engine.open_reader(ledger_url).connect() as connection:
        run = read.resolve_run(connection, "away")
        assert (run.status, run.exit_code, run.ended_ms) == ("completed", 0, ONE.end_ms)
        assert run.model == {"name": "tiny"}
        assert [step.step for step in read.steps(connection, run)] == [0, 60]
        assert len(read.events(connection, run)) == 2
    assert recover(ledger_url) == {}


def test_recovering_twice_is_recovering_once(ledger_url: str) -> None:
    recording = Recorder(ledger_url)
    recording.spill(0, 100, ended=True)
    kept = recording.path.read_bytes()
    recover(ledger_url)
    once = energies_j(ledger_url)
    recording.path.write_bytes(kept)  # as if we had been killed before it was deleted
    assert recover(ledger_url) == {ONE.run.id: "away"}
    assert energies_j(ledger_url) == once


def test_a_busy_ledger_is_waited_for_and_a_broken_journal_is_not(
    ledger_url: str, ledger: WritableLedger, tmp_path: Path
) -> None:
    recording = Recorder(ledger_url)
    recording.spill(0, 100, ended=True)
    with ledger.begin():
        assert not take_if_free(ledger_url, busy_timeout_ms=1)
        assert waiting(ledger_url) == [recording.path]
    broken = recording.path.with_name("0.jsonl")
    broken.write_text('{"run": {}}\n')
    broken.chmod(0o600)
    assert take_if_free(ledger_url, busy_timeout_ms=60_000)
    assert waiting(ledger_url) == [broken]
    assert energies_j(ledger_url) == [ENERGY_J] * 3
    assert take_if_free(f"sqlite:///{tmp_path}", busy_timeout_ms=1)  # no ledger at all


def test_a_journal_that_is_just_being_taken_is_neither_taken_twice_nor_added_to(
    ledger_url: str,
) -> None:
    """What is added meanwhile would be deleted with it: the recorder has another place for it."""
    recording = Recorder(ledger_url)
    recording.spill(0, 50)
    with journal.held(recording.path) as is_held:
        assert is_held
        assert recover(ledger_url) == {}
        with pytest.raises(BlockingIOError, match="is just being taken"):
            recording.spill(50, 100, ended=True)
    assert waiting(ledger_url) == [recording.path]
    recording.spill(50, 100, ended=True)
    assert recover(ledger_url) == {ONE.run.id: "away"}
    with journal.held(recording.path) as is_held:
        assert not is_held  # it is gone


def test_an_old_journal_does_not_displace_the_minutes_and_hours_of_later(
    ledger_url: str, ledger: WritableLedger
) -> None:
    recording = Recorder(ledger_url)
    recording.send(ledger, 0, 10)
    recording.spill(10, 40)  # the ledger was away, then came back
    recording.send(ledger, 40, 100)
    recover(ledger_url)
    assert energies_j(ledger_url) == [ENERGY_J] * 3
    with engine.open_reader(ledger_url).connect() as connection:
        run = read.resolve_run(connection, "away")
        assert run.heartbeat_ms == START_MS + 100_000
        assert run.ended_ms is None


def test_a_recorder_that_died_with_the_ledger_away_was_alive_until_its_last_window(
    ledger_url: str,
) -> None:
    Recorder(ledger_url).spill(0, 100)
    recover(ledger_url)
    with engine.open_reader(ledger_url).connect() as connection:
        run = read.resolve_run(connection, "away")
        assert (run.status, run.heartbeat_ms) == ("interrupted", START_MS + 100_000)


def test_runs_of_one_name_are_counted_apart(ledger_url: str) -> None:
    Recorder(ledger_url).spill(0, 10)
    Recorder(ledger_url, replace(ONE, number=5)).spill(0, 10)
    assert list(recover(ledger_url).values()) == ["away", "away"]


def test_a_torn_line_costs_only_itself(ledger_url: str) -> None:
    recording = Recorder(ledger_url)
    recording.spill(0, 40)
    whole = recording.path.read_bytes()
    recording.path.write_bytes(whole + whole[: len(whole) // 2])  # the disk was full
    recording.spill(40, 100)
    recover(ledger_url)
    assert energies_j(ledger_url) == [ENERGY_J] * 3


@pytest.mark.parametrize("line", ["1", "{}", '{"run": {"colour": "red"}}'])
def test_a_journal_of_another_version_is_kept(ledger_url: str, line: str) -> None:
    recording = Recorder(ledger_url)
    recording.spill(0, 10)
    with recording.path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(CarbontrackError, match="not written by this version") as raised:
        recover(ledger_url)
    assert str(recording.path) in str(raised.value)
    assert recording.path.exists()


def test_a_ledger_that_cannot_be_written_leaves_the_journal(tmp_path: Path) -> None:
    url = engine.ledger_url(str(tmp_path / "ledger.db"))
    recording = Recorder(url)
    recording.spill(0, 10)
    (tmp_path / "ledger.db").write_bytes(b"no database" * 1000)
    with pytest.raises(CarbontrackError, match="not a database"):
        recover(url)
    assert recording.path.exists()


def foreign(path: Path) -> None:
    """Give a file or folder to another user."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(path, 12345, 12345, follow_symlinks=False)


def test_no_journal_is_written_through_a_link(tmp_path: Path) -> None:
    """Made by somebody who may write beside the ledger, before the recorder comes."""
    recording = Recorder(engine.ledger_url(str(tmp_path / "ledger.db")))
    private = tmp_path / "private"
    private.write_text("mine")
    recording.path.parent.mkdir()
    recording.path.symlink_to(private)
    with pytest.raises(OSError):
        recording.spill(0, 10)
    assert private.read_text() == "mine"


def test_no_journal_is_written_into_a_folder_of_another_user(tmp_path: Path) -> None:
    recording = Recorder(engine.ledger_url(str(tmp_path / "ledger.db")))
    recording.path.parent.mkdir(mode=0o777)
    foreign(recording.path.parent)
    with pytest.raises(NotOurs, match="belongs to user 12345"):
        recording.spill(0, 10)


@pytest.mark.parametrize("kind", ["link", "fifo", "foreign"])
def test_a_journal_that_is_not_ours_is_named_and_not_taken(tmp_path: Path, kind: str) -> None:
    url = engine.ledger_url(str(tmp_path / "ledger.db"))
    recording = Recorder(url)
    recording.spill(0, 10)
    path = recording.path
    if kind == "link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "fifo":
        path.unlink()
        os.mkfifo(path)
    else:
        foreign(path)
    assert waiting(url) == []
    assert recover(url) == {}
    (problem,) = refused(url)
    assert problem.startswith(str(path))
    assert path.exists()
