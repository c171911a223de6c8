"""Removing runs: gone at once and for good, whatever else is there, and however it is cut short."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from carbontrack.errors import CarbontrackError, NotFoundError
from carbontrack.ledger import engine, read, set_aside, sqlite
from carbontrack.ledger import remove as removing
from carbontrack.ledger.amend import amend
from carbontrack.ledger.batch import Batch
from carbontrack.ledger.outcome import POSTS_STALE_MS
from carbontrack.ledger.recorded_rows import Event, Run
from carbontrack.ledger.recover import recover
from carbontrack.ledger.remove import finish, remove
from carbontrack.ledger.rows import Live, OverlapPart
from carbontrack.ledger.shipped import take
from carbontrack.ledger.status import status_of
from carbontrack.ledger.tables import OVERLAPS
from carbontrack.ledger.transaction import LedgerFile, WritableLedger, open_ledger
from carbontrack.ledger.url import journal_folders, sqlite_path
from carbontrack.ledger.url import ledger_url as ledger_url_of
from carbontrack.ledger.write import RunRemoved, RunWriter
from carbontrack.units import MS_PER_HOUR, now_ms
from carbontrack.vocabulary import Status
from tests.fixtures.runs import Recorded, recording_of
from tests.ledger.test_recover import Recorder

STAYS = Recorded(name="stays", number=1, count=2, seconds=7200.0)
GOES = Recorded(name="goes", number=2, count=3, seconds=36_000.0, steps=50, meter="nvml")
ROUNDS = 10


def write(ledger: WritableLedger, one: Recorded) -> RunWriter:
    """A run with windows, steps and events on two hosts."""
    for host in ("node1", "node2"):
        recording = recording_of(one.begun, host)
        sensors = [replace(s, uuid=f"{s.uuid}-{host}", host=host) for s in one.sensors]
        windows = [(f"{uuid}-{host}", window) for uuid, window in one.windows]
        writer = RunWriter(ledger, one.begun, recording, sensors)
        events = [(n, Event(one.start_ms + n, "my-own", "said")) for n in range(7)]
        steps = one.step_rows if host == "node1" else []
        writer.commit(windows=windows, steps=steps, events=events, heartbeat_ms=one.end_ms)
        writer.finish(status=one.status, exit_code=0, ended_ms=one.end_ms)
    return writer


@pytest.fixture
def url(ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    with closing(open_ledger(ledger_url)) as ledger:
        write(ledger, STAYS)
        write(ledger, GOES)
    return ledger_url


def find(url: str, name: str) -> Run:
    with engine.open_reader(url).connect() as connection:
        return read.resolve_run(connection, name)


def rows(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """All that the ledger holds, but for tombstones, without the keys that it gave itself."""
    with engine.open_reader(url).connect() as connection:

        def ask(query: str) -> list[tuple[Any, ...]]:
            return [tuple(row) for row in connection.execute(text(f"{query} order by 1, 2, 3"))]

        window = "device_key, level, windows.start_ms, energy_j"
        return {
            "runs": ask("select id, name, started_ms from runs"),
            "recordings": ask("select recordings.id, host, run_key from recordings"),
            "sensors": ask(
                "select uuid, host, meter from sensors join devices d on d.key = device_key"
            ),
            "devices": ask("select uuid, name, kind from devices"),
            "windows": ask(f"select {window} from windows join sensors on key = sensor_key"),
            "steps": ask("select step, time_ms, loss from steps"),
            "events": ask("select recording_key, number, time_ms from events"),
            "overlaps": ask('select sensor_key, start_ms, energy_j from "overlaps"'),
            "amendments": ask("select run_id, field, time_ms from amendments"),
        }


def names(url: str) -> list[str]:
    with engine.open_reader(url).connect() as connection:
        return [run.name for run in read.list_runs(connection)]


def test_all_of_a_run_goes_and_nothing_else(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = url.replace("ledger.db", "alone.db")
    if alone != url:
        with closing(open_ledger(alone)) as ledger:
            write(ledger, STAYS)
    monkeypatch.setattr(removing, "ROWS_AT_ONCE", 7)
    goes = find(url, "goes")
    amend(url, goes, {"note": (None, "wrong"), "name": ("goes", "gone")})
    overlap = OverlapPart(GOES.start_ms, 10.0, 1.0)
    with closing(open_ledger(url)) as ledger, ledger.begin() as transaction:
        keys = [row["key"] for row in transaction.ask("select key from sensors", {})]
        kept = [OVERLAPS.written(overlap, sensor_key=key) for key in (keys[0], keys[-1])]
        transaction.write(OVERLAPS.upsert, kept)
    remove(url, [find(url, "gone")])
    left = rows(url)
    assert [name for _, name, _ in left["runs"]] == ["stays"]
    assert {one[0] for one in left["devices"]} == {
        f"{sensor.uuid}-{host}" for sensor in STAYS.sensors for host in ("node1", "node2")
    }
    assert (left["overlaps"], left["amendments"]) == ([(keys[0], GOES.start_ms, 10.0)], [])
    assert len(left["windows"]) == len(STAYS.windows) * 2
    assert (len(left["steps"]), len(left["events"])) == (STAYS.steps, 14)
    if alone != url:
        assert {**left, "overlaps": []} == rows(alone)
    assert status_of(url).runs == 1
    with pytest.raises(NotFoundError):
        find(url, "gone")
    with pytest.raises(NotFoundError):
        find(url, goes.id)


def test_it_is_gone_for_every_reader_from_the_tombstone_on(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removing, "sweep", lambda ledger: 0)
    goes = find(url, "goes")
    remove(url, [goes])
    assert names(url) == ["stays"]
    with engine.open_reader(url).connect() as connection:
        assert read.find_runs(connection, limit=9)[1] == 1
        assert read.names(connection, beginning="", limit=9) == ["stays"]
        for wanted in (goes.id, goes.id[:9], "goes"):
            with pytest.raises(NotFoundError):
                read.resolve_run(connection, wanted)
    assert len(rows(url)["runs"]) == 2, "until it is swept"
    monkeypatch.undo()
    assert finish(url) == 1
    assert len(rows(url)["runs"]) == 1
    assert finish(url) == 0


def test_a_run_that_is_being_recorded_is_refused_and_the_others_with_it(
    url: str, ledger_url: str
) -> None:
    one = Recorded(name="now", number=3, count=2)
    with closing(open_ledger(url)) as ledger:
        begun = replace(one.begun, started_ms=now_ms())
        lives = recording_of(begun, heartbeat_ms=now_ms() + MS_PER_HOUR)
        writer = RunWriter(ledger, begun, lives, one.sensors)
        with pytest.raises(CarbontrackError, match=r"Run now .* is being recorded, on node1\."):
            remove(url, [find(url, "goes"), find(url, "now")])
        assert sorted(names(url)) == ["goes", "now", "stays"]
        writer.finish(status=Status.COMPLETED, exit_code=0, ended_ms=now_ms())
    remove(url, [find(url, "goes"), find(url, "now")])
    assert names(url) == ["stays"]


def test_one_that_is_shipped_here_is_recorded_while_its_node_is_heard_of(url: str) -> None:
    """Its heartbeat is as old as its last post; and only three posts that fail to come say more."""
    one = Recorded(name="shipped", number=4, count=2)
    old_ms = now_ms() - 20_000
    with closing(open_ledger(url)) as ledger:
        begun = replace(one.begun, started_ms=old_ms)
        recording = recording_of(begun, heartbeat_ms=old_ms)
        now = Live(old_ms, (300.0, None), (1.0, None), (50.0, None))
        RunWriter(ledger, begun, recording, one.sensors)
        with ledger.begin() as transaction:
            take(transaction, [(Batch(begun, recording, tuple(one.sensors), live=now), None)])
        with pytest.raises(CarbontrackError, match=r"Run shipped .* is being recorded, on node1\."):
            remove(url, [find(url, "shipped")])
        path = sqlite_path(url)
        if path is not None:
            with closing(sqlite3.connect(path)) as file:
                assert sqlite.is_recorded(file)
        with ledger.begin() as transaction:
            silent_ms = now_ms() - POSTS_STALE_MS - 1
            transaction.write("update live set heard_ms = :then", [{"then": silent_ms}])
        if path is not None:
            with closing(sqlite3.connect(path)) as file:
                assert not sqlite.is_recorded(file)
    remove(url, [find(url, "shipped")])
    assert names(url) == ["goes", "stays"]


def test_nothing_brings_it_back(url: str) -> None:
    with closing(open_ledger(url)) as ledger:
        stale = RunWriter(ledger, GOES.begun, recording_of(GOES.begun), GOES.sensors)
        with ledger.begin() as transaction:
            late = "update recordings set status = 'running', ended_ms = null"
            transaction.write(f"{late} where run_key = :key", [{"key": find(url, "goes").key}])
        remove(url, [find(url, "goes")])
        with pytest.raises(RunRemoved):  # a recorder that was suspended, and goes on
            stale.commit(windows=GOES.windows, heartbeat_ms=now_ms())
        with pytest.raises(RunRemoved):  # the job again, by the same id
            RunWriter(ledger, GOES.begun, recording_of(GOES.begun, "node3"), GOES.sensors)
    assert names(url) == ["stays"]
    assert len(rows(url)["recordings"]) == 2


def test_a_key_that_is_given_again_is_not_taken_for_ones_own(url: str) -> None:
    """A recording that was removed and one that is new have the same key in SQLite."""
    with closing(open_ledger(url)) as ledger:
        one, other = (Recorded(name=f"run-{n}", number=n, count=1) for n in (5, 6))
        stale = RunWriter(ledger, one.begun, recording_of(one.begun), one.sensors)
        with ledger.begin() as transaction:  # as another ledger's file in this one's place has it
            transaction.write("delete from runs where id = :id", [{"id": one.run.id}])
        RunWriter(ledger, other.begun, recording_of(other.begun), other.sensors)
        before = rows(url)["windows"]
        with pytest.raises(RunRemoved, match="is not in the ledger any more"):
            stale.commit(windows=one.windows, heartbeat_ms=now_ms())
        assert rows(url)["windows"] == before


def test_its_journals_go_and_those_that_come_later_are_not_taken_in(tmp_path: Path) -> None:
    url = ledger_url_of(str(tmp_path / "ledger.db"))
    with closing(open_ledger(url)) as ledger:
        write(ledger, STAYS)
        write(ledger, GOES)
    later = Recorder(url, GOES)
    own = journal_folders(url)[0] / f"{recording_of(GOES.run, 'node2').id}.jsonl"
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text("{}\n")
    os.chmod(own.parent, 0o700)  # noqa: PTH101
    remove(url, [find(url, "goes")])
    assert not own.exists()
    later.spill(0, 60)
    assert recover(url) == {}
    assert not later.path.exists()
    assert names(url) == ["stays"]


@pytest.mark.parametrize("form", ["{folder}/train", "../train"])
def test_an_id_of_another_ledger_is_no_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Of a run that came from anybody: neither its journals nor what is set aside of it."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    url = ledger_url_of(str(tmp_path / "ledger.db"))
    id = form.format(folder=tmp_path)
    with closing(open_ledger(url)) as ledger:
        recording = replace(recording_of(GOES.begun), id=id)
        writer = RunWriter(ledger, GOES.begun, recording, GOES.sensors)
        writer.finish(status=GOES.status, exit_code=0, ended_ms=GOES.end_ms)
    journal_folders(url)[0].mkdir(mode=0o700)
    others = tmp_path / "train.jsonl"
    others.write_text("{}\n")
    set_aside.put(url, id, "https://team", "refused")
    assert [one.id for one in set_aside.found(url)] == [id]
    remove(url, [find(url, "goes")])
    assert names(url) == []
    assert [path.name for path in tmp_path.glob("train*")] == [others.name]


def test_a_recovery_finishes_what_was_cut_short(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removing, "sweep", lambda ledger: 0)
    remove(url, [find(url, "goes")])
    monkeypatch.undo()
    assert recover(url) == {}
    assert len(rows(url)["runs"]) == 1


def test_no_transaction_deletes_more_than_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = ledger_url_of(str(tmp_path / "ledger.db"))
    with closing(open_ledger(url)) as ledger:
        write(ledger, GOES)
    most, changed = 40, list[int]()
    monkeypatch.setattr(removing, "ROWS_AT_ONCE", most)
    begin = LedgerFile.begin

    @contextmanager
    def counting(ledger: LedgerFile) -> Iterator[LedgerFile]:
        before = ledger._connection.total_changes
        with begin(ledger) as transaction:
            yield transaction
        changed.append(ledger._connection.total_changes - before)

    monkeypatch.setattr(LedgerFile, "begin", counting)
    remove(url, [find(url, "goes")])
    assert sum(changed) > 2 * len(GOES.windows), "all of it went through here"
    assert max(changed) <= most


@contextmanager
def each_statement(told: Callable[..., None]) -> Iterator[None]:
    """Call this at each SQL statement of this process, whatever runs it."""
    connect = sqlite.connect

    def traced(*args: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*args, **options)
        connection.set_trace_callback(told)
        return connection

    sqlite.connect = traced
    for name in ("before_cursor_execute", "commit"):
        event.listen(Engine, name, told)
    try:
        yield
    finally:
        sqlite.connect = connect
        for name in ("before_cursor_execute", "commit"):
            event.remove(Engine, name, told)


def statements_of(url: str, run: Run) -> int:
    """How many it takes to remove the run."""
    count = 0

    def told(*_: Any) -> None:
        nonlocal count
        count += 1

    with each_statement(told):
        remove(url, [run])
    return count


def remove_and_die(url: str, run: Run, statements: int) -> None:
    """Remove a run in another process, which is killed after so many statements."""
    left = statements

    def told(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    pid = os.fork()
    if pid == 0:
        try:
            with each_statement(told):
                remove(url, [run])
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "it went on to its end"


def test_killed_after_any_statement_it_is_as_before_or_as_after(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removing, "ROWS_AT_ONCE", 30)
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    most = statements_of(url, find(url, "goes"))
    alone = {name: len(found) for name, found in rows(url).items()}
    rounds = ROUNDS if url.startswith("sqlite") else ROUNDS // 3  # a server takes its time
    for number in range(10, 10 + rounds):
        one = replace(GOES, name=f"round-{number}", number=number)
        with closing(open_ledger(url)) as ledger:
            write(ledger, one)
        before = rows(url)
        remove_and_die(url, find(url, one.name), chance.randrange(most))
        listed = names(url)
        assert set(listed) - {one.name} == {"stays"}
        with engine.open_reader(url).connect() as connection:
            assert len(read.hours(connection, find(url, "stays"))) == 2 * len(STAYS.windows)
        if one.name in listed:
            assert rows(url) == before
            remove(url, [find(url, one.name)])
        else:
            finish(url)
        assert {name: len(found) for name, found in rows(url).items()} == alone
