"""Merging: the same ledger whatever the order, however often, and all of it or nothing."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from carbontrack.errors import CarbontrackError
from carbontrack.ledger import backlog, engine, read
from carbontrack.ledger.batch import Batch
from carbontrack.ledger.ingest import Taken
from carbontrack.ledger.merge import merge
from carbontrack.ledger.shipped_seconds import NO_SECONDS
from carbontrack.ledger.transaction import Transaction, open_ledger
from carbontrack.ledger.url import ledger_url as url_of
from carbontrack.units import MS_PER_HOUR, now_ms
from tests.fixtures.attempts import ONE, PARTS
from tests.fixtures.content import content_of
from tests.fixtures.runs import START_MS, Recorded, recording_of, write_ledger
from tests.fixtures.tables import tables_of
from tests.ledger.test_recover import ENERGY_J as AWAY_J
from tests.ledger.test_recover import ONE as AWAY
from tests.ledger.test_recover import Recorder

RUN = ONE.run.id


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six ledgers, of three nodes and two attempts; and copies of three made before their ends."""
    folder = tmp_path_factory.mktemp("parts")
    whole = [part.write(folder / f"{part.host}-{part.attempt}.db") for part in PARTS]
    begun = [PARTS[0].write(folder / "early-0.db", until_s=130)]
    begun.append(PARTS[1].write(folder / "early-1.db", until_s=60))
    begun.append(PARTS[5].write(folder / "early-5.db", until_s=255))
    return whole + begun


@pytest.fixture(scope="module")
def once(parts: Sequence[Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    """All of them merged."""
    url = url_of(str(tmp_path_factory.mktemp("once") / "ledger.db"))
    merge(url, [str(path) for path in parts[: len(PARTS)]])
    return url


def test_six_ledgers_of_one_run_are_one_run(once: str) -> None:
    with engine.open_reader(once).connect() as connection:
        run = read.resolve_run(connection, "last")
        assert (run.id, run.status, run.exit_code) == (RUN, "completed", 0)
        assert run.started_ms == PARTS[0].started_ms
        assert run.tags == {"node0": "here", "node1": "here", "node2": "here"}
        assert run.model == {"name": "tiny"}
        assert len(read.recordings(connection, run)) == len(PARTS)
        energy_j = sum(usage.energy_j or 0 for usage in read.totals(connection, run))
    truth_j = sum(
        window.energy_j or 0
        for part in PARTS
        for device in range(2)
        for window in part.windows(device, 0, part.seconds)
    )
    assert energy_j == pytest.approx(truth_j, abs=1e-3)


def test_the_order_of_merging_changes_nothing(
    parts: Sequence[Path], once: str, tmp_path: Path
) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    dice = random.Random(seed)
    expected = content_of(once), tables_of(once)
    for number in range(4):
        several = [str(path) for path in dice.sample(parts, len(parts))]
        several += dice.sample(several, 3)  # twice
        url = url_of(str(tmp_path / f"{number}.db"))
        cut = dice.randrange(len(several))
        for some in (several[:cut], several[cut:]):
            merge(url, some)
        assert (content_of(url), tables_of(url)) == expected, several


def test_ledgers_that_were_merged_merge(parts: Sequence[Path], once: str, tmp_path: Path) -> None:
    """In a tree instead of a row, with an overlap."""
    half, other, url = (url_of(str(tmp_path / f"{n}.db")) for n in ("half", "other", "all"))
    names = [str(path) for path in parts]
    merge(half, names[:4])
    merge(other, names[2:])
    merge(url, [other.removeprefix("sqlite:///"), half])
    assert content_of(url) == content_of(once)


def test_merging_again_changes_nothing_and_says_so(
    parts: Sequence[Path], once: str, tmp_path: Path
) -> None:
    url = url_of(str(tmp_path / "ledger.db"))
    assert merge(url, [str(parts[6])]) == Taken(added={RUN})
    assert merge(url, [str(parts[6])]) == Taken(known={RUN})
    assert merge(url, [str(parts[0])]) == Taken(grew={RUN})
    assert merge(url, [str(parts[6]), str(parts[0])]) == Taken(known={RUN})
    before = content_of(url)
    assert merge(url, [str(parts[1])], dry_run=True) == Taken(grew={RUN})
    assert content_of(url) == before


def test_a_dry_run_makes_no_ledger(parts: Sequence[Path], tmp_path: Path) -> None:
    url = url_of(str(tmp_path / "ledger.db"))
    assert merge(url, [str(parts[0])], dry_run=True) == Taken(added={RUN})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("forward", [True, False])
def test_a_server_gives_the_same_and_gives_it_back(
    parts: Sequence[Path], once: str, postgres_url: str, tmp_path: Path, forward: bool
) -> None:
    server = url_of(postgres_url)
    for some in [parts[:5], parts[3:]][:: 1 if forward else -1]:
        merge(server, [str(path) for path in some])
    assert content_of(server) == content_of(once)
    assert tables_of(server) == tables_of(once)
    back = url_of(str(tmp_path / "back.db"))
    assert merge(back, [postgres_url]) == Taken(added={RUN})
    assert content_of(back) == content_of(once)


def copied(path: Path, folder: Path, name: str = "copy") -> Path:
    """The same ledger in a file of its own, to be changed."""
    copy = folder / f"{name}.db"
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


def changed(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path)) as ledger, ledger:
        for statement in statements:
            ledger.execute(statement)
    return path


def energies_j(url: str, where: str = "true") -> dict[int, float]:
    """The sum of each level that is there."""
    query = f"select level, sum(energy_j) from windows where {where} group by level order by level"
    with engine.open_reader(url).connect() as connection:
        return {level: round(energy_j, 3) for level, energy_j in connection.execute(text(query))}


def merged(folder: Path, *sources: Path) -> str:
    url = url_of(str(folder / "merged.db"))
    merge(url, [str(source) for source in sources])
    return url


@pytest.mark.parametrize("whole_first", [True, False])
def test_of_an_hour_whose_seconds_were_dropped_a_part_adds_nothing(
    parts: Sequence[Path], tmp_path: Path, whole_first: bool
) -> None:
    """An early copy has all seconds of the first hour and a part of the second; the whole ledger
    has minutes and hours only.
    """
    whole = changed(copied(parts[0], tmp_path), "delete from windows where level = 1")
    sources = [whole, parts[6]]
    url = merged(tmp_path, *(sources if whole_first else reversed(sources)))
    expected = energies_j(url_of(str(parts[0])))
    first_hour = energies_j(url_of(str(parts[0])), f"start_ms < {START_MS + MS_PER_HOUR}")
    assert energies_j(url) == {1: first_hour[1], 60: expected[60], 3600: expected[3600]}
    assert merge(url, [str(source) for source in sources]) == Taken(known={RUN})


@pytest.mark.parametrize("dropped_first", [True, False])
def test_seconds_that_were_dropped_here_come_back(
    parts: Sequence[Path], tmp_path: Path, dropped_first: bool
) -> None:
    dropped = changed(copied(parts[0], tmp_path), "delete from windows where level < 3600")
    sources = [dropped, parts[0]]
    url = merged(tmp_path, *(sources if dropped_first else reversed(sources)))
    assert content_of(url) == content_of(url_of(str(parts[0])))


def test_two_halves_of_the_seconds_are_the_whole(parts: Sequence[Path], tmp_path: Path) -> None:
    """Each has coarse windows of less than both together, or none."""
    late = copied(parts[0], tmp_path)
    middle_ms = PARTS[0].started_ms + 130_000
    changed(
        late,
        f"delete from windows where level = 1 and start_ms < {middle_ms}",
        "delete from windows where level > 1",
    )
    url = merged(tmp_path, late, parts[6])
    assert energies_j(url) == energies_j(url_of(str(parts[0])))
    assert len(set(energies_j(url).values())) == 1


def test_a_run_that_was_removed_is_not_brought_back_and_is_removed_elsewhere(
    parts: Sequence[Path], tmp_path: Path
) -> None:
    removed = changed(
        copied(parts[0], tmp_path, "removed"),
        "pragma foreign_keys=on",
        f"insert into tombstones values ('{RUN}', 5, 'ada', null)",
        "delete from runs",
    )
    other = write_ledger(tmp_path / "other.db", Recorded(name="other", number=7, count=2))
    url = merged(tmp_path, removed)
    assert merge(url, [str(parts[1]), str(other)]) == Taken(
        added={Recorded(number=7).run.id}, removed={RUN}
    )
    there = url_of(str(copied(parts[1], tmp_path, "there")))
    gone = Taken(deleted={RUN: ONE.name})
    assert merge(there, [str(removed)], dry_run=True) == gone
    assert content_of(there)["runs"]
    assert merge(there, [str(removed)]) == gone
    assert merge(there, [str(removed)]) == Taken()
    assert content_of(there)["runs"] == content_of(there)["windows"] == []
    assert merge(there, [str(other)]).added
    assert content_of(there) == content_of(url) | {"devices": content_of(there)["devices"]}


@pytest.mark.parametrize("removed_first", [True, False])
def test_of_a_run_that_goes_it_is_said_once_whether_it_was_here(
    parts: Sequence[Path], tmp_path: Path, removed_first: bool
) -> None:
    """In one merge with a ledger that still has it."""
    tombstone = f"insert into tombstones values ('{RUN}', 5, 'ada', null)"
    other = write_ledger(tmp_path / "other.db", Recorded(name="other", number=7, count=2))
    removed = changed(copied(other, tmp_path, "removed"), tombstone)
    sources = [str(removed), str(parts[1])][:: 1 if removed_first else -1]
    added = {Recorded(number=7).run.id}
    url = url_of(str(tmp_path / "new.db"))
    assert merge(url, sources) == Taken(added=added, removed={RUN})
    name = f"insert into amendments values ('a', '{RUN}', 1, 'ada', 'name', 'null', '\"better\"')"
    here = url_of(str(changed(copied(parts[0], tmp_path, "here"), name)))
    assert merge(here, sources) == Taken(added=added, deleted={RUN: "better"})


def test_what_is_said_of_runs_and_by_hand_is_united(parts: Sequence[Path], tmp_path: Path) -> None:
    said = (
        "insert into amendments select 'a-{n}', id, {n}, 'ada', 'pue', '1', '1.{n}' from runs",
        "insert into stated select key, 'H100', {n}, 2, 3, 4, 'a note', null, null from runs",
        "insert into imports select 'hash{n}', key, {n}, 'f.csv', 'csv', null, 1, 2, 0, "
        "'[]', '{{}}' from runs",
        "insert into overlaps select key, 3600000, {n}, 9 from sensors",
    )
    one, two = (
        changed(copied(parts[0], tmp_path, f"{n}"), *(line.format(n=n) for line in said))
        for n in (1, 2)
    )
    url, back = merged(tmp_path, one, two), url_of(str(tmp_path / "back.db"))
    merge(back, [str(two), str(one), str(two)])
    found = content_of(url)
    assert found == content_of(back)
    assert [row["after"] for row in found["amendments"]] == [1.1, 1.2]
    assert [row["devices"] for row in found["stated"]] == [2], "of one device name, one row"
    assert {row["sha256"] for row in found["imports"]} == {"hash1", "hash2"}
    assert [row["energy_j"] for row in found["overlaps"]] == [2, 2], "an hour of one ledger"


SAID = {
    "amendments": "insert into amendments select 'a', id, 1, 'ada', 'pue', '1', '1.1' from runs",
    "stated": "insert into stated select key, 'H100', 1, 2, 3, 4, 'a note', null, null from runs",
    "imports": "insert into imports select 'hash', key, 1, 'f.csv', 'csv', null, 1, 2, 0, "
    "'[]', '{}' from runs",
    "clocks": "insert into clocks select key, started_ms, 5000, 1 from recordings",
}


def ship(transaction: Transaction, recording_id: str) -> list[Batch]:
    """What a collector lacks of a recording, as if it took it."""
    backlog.begin(transaction, recording_id, "there")
    batches = []
    while recording_id in backlog.recordings(transaction, "there"):
        part = backlog.next_part(
            transaction, recording_id, "there", seconds=NO_SECONDS, now_ms=now_ms()
        )
        assert part is not None
        batches.append(part.batch)
        assert backlog.set_mark(transaction, recording_id, part)
    return batches


@pytest.mark.parametrize("table", SAID)
def test_what_is_said_anew_of_a_run_counts_and_is_shipped_without_the_rest(
    table: str, tmp_path: Path
) -> None:
    one = Recorded(number=1, count=2)
    recording_id = recording_of(one.begun).id
    path = write_ledger(tmp_path / "here.db", one)
    copy = changed(copied(path, tmp_path), SAID[table])
    url = url_of(str(path))
    with closing(open_ledger(url)) as ledger, ledger.begin() as transaction:
        assert any(batch.windows for batch in ship(transaction, recording_id))
        assert ship(transaction, recording_id) == []
    assert merge(url, [str(copy)], dry_run=True) == Taken(grew={one.run.id})
    assert merge(url, [str(copy)]) == Taken(grew={one.run.id})
    assert merge(url, [str(copy)]) == Taken(known={one.run.id})
    with closing(open_ledger(url)) as ledger, ledger.begin() as transaction:
        (batch,) = ship(transaction, recording_id)
    assert len(getattr(batch, table)) == 1
    assert len(batch.steps) < one.steps


FACTORS = {
    "intensity": (
        "insert into intensity "
        "values ('FRA', {time}, '2026', 3600000, {value}, 'average', '{source}')",
        r"Version 2026 of FRA: intensity_kg_per_kwh is 0\.5 here, 0\.6 there",
    ),
    "prices": (
        "insert into prices "
        "values ('aws', 'a{time}', '2026', 'gpu_hour', {value}, 'USD', '2026', '{source}')",
        r"Version 2026 of aws, a0: price is 0\.5 here, 0\.6 there",
    ),
}


@pytest.mark.parametrize("table", FACTORS)
def test_factors_of_one_version_must_be_the_same(table: str, tmp_path: Path) -> None:
    statement, conflict = FACTORS[table]
    paths = [write_ledger(tmp_path / f"{n}.db", Recorded(number=n, count=1)) for n in range(4)]
    values = ((0, 0.5, "b"), (0, 0.5, "a"), (1, 0.7, "a"), (0, 0.6, "a"))
    for path, (time, value, source) in zip(paths, values, strict=True):
        changed(path, statement.format(time=time, value=value, source=source))
    url = merged(tmp_path, paths[1], paths[0], paths[2])
    rows = [
        (row["source"], row.get("price", row.get("intensity_kg_per_kwh")))
        for row in content_of(url)[table]
    ]
    assert sorted(rows) == [("a", 0.7), ("b", 0.5)]
    before = content_of(url)
    with pytest.raises(CarbontrackError, match=conflict) as raised:
        merge(url, [str(paths[3])])
    assert str(paths[3]) in str(raised.value)
    assert content_of(url) == before


def test_journals_are_merged_and_stay_where_they_are(parts: Sequence[Path], tmp_path: Path) -> None:
    """Of a ledger beside them, and of a folder that was copied."""
    recorder = Recorder(url_of(str(tmp_path / "away.db")))
    write_ledger(tmp_path / "away.db", Recorded(number=9, count=1))
    recorder.spill(0, 60)
    recorder.spill(60, 100, ended=True)
    url = url_of(str(tmp_path / "to" / "merged.db"))
    taken = merge(url, [str(tmp_path / "away.db")])
    assert taken == Taken(added={Recorded(number=9).run.id, AWAY.run.id})
    assert merge(url, [str(recorder.path.parent)]) == Taken(known={AWAY.run.id})
    assert merge(url, [str(recorder.path)]) == Taken(known={AWAY.run.id})
    assert recorder.path.exists()
    with engine.open_reader(url).connect() as connection:
        run = read.resolve_run(connection, "away")
        assert (run.status, run.model) == ("completed", {"name": "tiny"})
        assert sum(usage.energy_j or 0 for usage in read.totals(connection, run)) == AWAY_J


def test_a_journal_of_a_removed_run_is_left_out(tmp_path: Path) -> None:
    path = write_ledger(tmp_path / "ledger.db", Recorded(number=9, count=1))
    changed(
        path,
        f"insert into tombstones values ('{AWAY.run.id}', 5, 'ada', null)",
    )
    recorder = Recorder(url_of(str(tmp_path / "away.db")))
    recorder.spill(0, 60)
    assert merge(url_of(str(path)), [str(recorder.path)]) == Taken(removed={AWAY.run.id})
    assert len(content_of(url_of(str(path)))["runs"]) == 1


def refuse(url: str, *sources: str) -> str:
    with pytest.raises(CarbontrackError) as raised:
        merge(url, list(sources))
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_what_is_no_ledger_is_one_line_and_nothing_is_written(
    parts: Sequence[Path], tmp_path: Path
) -> None:
    url = url_of(str(tmp_path / "new.db"))
    good = str(parts[0])
    text_file, torn = tmp_path / "notes.txt", tmp_path / "torn.jsonl"
    text_file.write_text("hello")
    torn.write_text('{"run": 1}\n')
    os.mkfifo(tmp_path / "fifo.db")
    (tmp_path / "empty").mkdir()
    old = changed(
        copied(parts[0], tmp_path, "old"), "update alembic_version set version_num = '1000'"
    )
    newer = changed(
        copied(parts[0], tmp_path, "newer"), "update alembic_version set version_num = '9999'"
    )
    foreign = tmp_path / "foreign.db"
    changed(foreign, "create table cats (name)")
    assert f"{text_file} is not a ledger" in refuse(url, good, str(text_file))
    assert "no other ledger and no journal in" in refuse(url, good, str(tmp_path / "empty"))
    assert "There is no ledger at" in refuse(url, good, str(tmp_path / "none.db"))
    assert "none.jsonl cannot be read: No such file" in refuse(
        url, good, str(tmp_path / "none.jsonl")
    )
    assert "fifo.db cannot be read: not a regular file" in refuse(
        url, good, str(tmp_path / "fifo.db")
    )
    assert (
        f"has schema 1000, not {engine.HEAD}. Upgrade it first: carbontrack db upgrade --db"
        in refuse(url, good, str(old))
    )
    assert "newer carbontrack (schema 9999" in refuse(url, good, str(newer))
    assert "database of another program" in refuse(url, good, str(foreign))
    assert not (tmp_path / "new.db").exists()
    assert "was not written by this version" in refuse(url, good, str(torn))
    assert content_of(url)["runs"] == []


def test_a_ledger_is_not_merged_into_itself(parts: Sequence[Path], tmp_path: Path) -> None:
    here = copied(parts[0], tmp_path)
    (tmp_path / "link.db").symlink_to(here)
    os.link(here, tmp_path / "hard.db")
    for name in ("copy.db", "link.db", "hard.db"):
        said = refuse(url_of(str(here)), str(tmp_path / name))
        assert f"{name} is the ledger that is merged into" in said
    merge(url_of(str(here)), [str(parts[1])])


def test_a_server_is_not_merged_into_itself(postgres_url: str) -> None:
    said = refuse(url_of(postgres_url), postgres_url)
    assert "is the ledger that is merged into" in said


def test_rows_that_refer_to_nothing_are_refused(parts: Sequence[Path], tmp_path: Path) -> None:
    damaged = changed(copied(parts[0], tmp_path), "delete from sensors where key = 1")
    url = url_of(str(tmp_path / "new.db"))
    assert "windows.sensor_key is 1, which sensors does not have" in refuse(url, str(damaged))
    assert content_of(url)["runs"] == []
