"""Old partitions of a server's ledger go, and every total stays."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from carbontrack.errors import CarbontrackError
from carbontrack.ledger import engine
from carbontrack.ledger.compact import compact
from carbontrack.ledger.kept import parse_keep
from carbontrack.ledger.merge import merge
from carbontrack.ledger.retain import retain
from carbontrack.ledger.url import ledger_url as url_of
from carbontrack.ledger.verify import verify
from carbontrack.ledger.window import Window
from carbontrack.units import MS_PER_DAY, MS_PER_HOUR, now_ms
from tests.fixtures.attempts import ONE, Part
from tests.fixtures.tables import tables_of
from tests.fixtures.wrap import Wrapper

TODAY_MS = now_ms() // MS_PER_DAY * MS_PER_DAY
MIDNIGHT_MS = TODAY_MS - 10 * MS_PER_DAY


class Packed(Part):
    """Its seconds are such as a recorder writes: integers, in the units of the arrays."""

    def windows(self, device: int, first: int, last: int) -> Iterator[Window]:
        for window in super().windows(device, first, last):
            yield replace(window, memory_max_bytes=2**30)


OLD = Packed(0, 0, one=replace(ONE, name="old"), begin_ms=MIDNIGHT_MS - 100_000)
# Another run on the same devices, a minute later, whose ledger was another one.
SHARED = replace(OLD, one=replace(ONE, name="shared", number=1), begin_ms=MIDNIGHT_MS - 40_000)
YOUNG = Packed(0, 0, one=replace(ONE, name="young", number=2), begin_ms=TODAY_MS - 2 * MS_PER_DAY)
LONG_AGO = replace(
    OLD, one=replace(ONE, name="long ago", number=3), begin_ms=TODAY_MS - 150 * MS_PER_DAY
)


@pytest.fixture
def url(postgres_url: str, tmp_path: Path) -> str:
    """Four runs, two of which had the same devices, which nothing says yet."""
    parts = (OLD, SHARED, YOUNG, LONG_AGO)
    paths = [str(part.write(tmp_path / f"{part.one.name}.db")) for part in parts]
    url = url_of(postgres_url)
    merge(url, paths)
    run(url, 'delete from "overlaps"')
    return url


def run(url: str, statement: str) -> None:
    with engine.writing(url) as writer, writer.begin() as connection:
        connection.execute(text(statement))


def names(url: str) -> Iterator[str]:
    with engine.open_reader(url).connect() as connection:
        yield from connection.scalars(text(_PARTITIONS))


_PARTITIONS = (
    "select relname from pg_inherits join pg_class on oid = inhrelid "
    "where inhparent in ('seconds'::regclass, 'minutes'::regclass) order by inhrelid"
)


def day(at_ms: int) -> str:
    return f"seconds_{datetime.fromtimestamp(at_ms / 1000, UTC):%Y%m%d}"


def levels(url: str, run: str) -> set[int]:
    with engine.open_reader(url).connect() as connection:
        query = (
            "select distinct level from windows join recordings on key = recording_key "
            f"join runs on runs.key = run_key where runs.name = '{run}'"
        )
        return set(connection.scalars(text(query)))


def test_partitions_of_old_windows_go_and_every_total_stays(url: str) -> None:
    tables, before = tables_of(url), set(names(url))
    with engine.open_reader(url).connect() as connection:
        assert not connection.scalar(text("select count(*) from odd_seconds"))
    with engine.open_reader(url).connect() as connection:
        (at,) = connection.scalars(text("select extract(epoch from now())::bigint * 1000"))
    assert abs(at - now_ms()) < MS_PER_HOUR, "the server has the clock of this machine"
    keep = parse_keep("1s:7d,60s:90d")
    expected = {day(MIDNIGHT_MS), day(MIDNIGHT_MS - 1), day(LONG_AGO.begin_ms)}
    expected |= {day(LONG_AGO.begin_ms).replace("seconds", "minutes")[:-2]}
    dry = retain(url, keep, dry_run=True)
    assert {one.name for one in dry} == expected <= before
    assert all(one.size_bytes > 0 for one in dry)
    assert set(names(url)) == before
    seen: list[tuple[str, int, int]] = []
    assert retain(url, keep, progress=lambda *at: seen.append(at)) == dry
    assert seen == [(one.name, number, len(dry)) for number, one in enumerate(dry)]
    assert set(names(url)) == before - expected
    assert levels(url, "old") == levels(url, "shared") == {60, 3600}
    assert (levels(url, "young"), levels(url, "long ago")) == ({1, 60, 3600}, {3600})
    assert tables_of(url) == tables
    assert verify(url) == []
    assert retain(url, keep) == []


def test_seconds_that_are_not_packed_go_as_well(url: str) -> None:
    run(
        url,
        "insert into odd_seconds select start_ms, energy_j, energy_s, sampled_s, power_min_w, "
        "power_max_w, util_pct, memory_max_bytes, temperature_max_c, sm_clock_mhz, throttle, "
        "recording_key, sensor_key, samples, vitals, flags from windows "
        "where level = 1",
    )
    run(url, "truncate seconds")
    tables = tables_of(url)
    retain(url, {1: 7 * MS_PER_DAY})
    assert levels(url, "old") == {60, 3600}
    assert levels(url, "young") == {1, 60, 3600}
    assert tables_of(url) == tables
    assert verify(url) == []


def test_what_no_hour_has_is_added_up_before_it_goes(url: str) -> None:
    tables = tables_of(url)
    run(url, f"delete from hours where start_ms < {TODAY_MS - 7 * MS_PER_DAY}")
    run(url, f"delete from minutes where start_ms = {MIDNIGHT_MS}")
    retain(url, parse_keep("1s:7d,60s:90d"))
    assert tables_of(url) == tables
    assert verify(url) == []


def test_writers_do_not_wait_for_a_partition_that_is_read(url: str, tmp_path: Path) -> None:
    """A report that reads old seconds holds the retention up, and that holds up nobody."""
    later = replace(YOUNG, one=replace(YOUNG.one, name="later", number=4))
    ledger = later.write(tmp_path / "later.db")
    retention = threading.Thread(target=retain, args=(url, {1: 7 * MS_PER_DAY}))
    with psycopg.connect(url.replace("+psycopg", "")) as reader:
        reader.execute("select count(*) from seconds").fetchone()
        retention.start()
        merge(url, [str(ledger)])
        assert levels(url, "later") == {1, 60, 3600}
        assert day(MIDNIGHT_MS) in names(url)
    retention.join()
    assert day(MIDNIGHT_MS) not in names(url)


def test_a_young_partition_goes_for_nobody(url: str) -> None:
    for name in (day(now_ms()), "seconds", "hours", "seconds_1970", "runs", "x_19700101"):
        with pytest.raises(Exception, match=r"too young|is no partition"):
            run(url, f"select drop_partition('{name}')")


def test_a_file_is_compacted_instead(wrapper: Wrapper) -> None:
    OLD.write(wrapper.ledger)
    done = wrapper.ask("db", "retain")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "has no partitions. Use: carbontrack db compact --keep 1s:7d,60s:90d" in done.stderr


def test_the_command_says_what_it_drops(wrapper: Wrapper, url: str) -> None:
    dry = wrapper.ask("db", "retain", "--keep", "1s:9d", "--dry-run", "--db", url)
    assert dry.stdout.splitlines()[-1] == "Dropped: 3 partitions. Nothing was written."
    done = wrapper.ask("db", "retain", "--keep", "1s:9d", "--db", url)
    *lines, last = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == sorted(
        [day(MIDNIGHT_MS), day(MIDNIGHT_MS - 1), day(LONG_AGO.begin_ms)]
    )
    assert last == "Dropped: 3 partitions."
    bad = wrapper.ask("db", "retain", "--keep", "7 days", "--db", url)
    assert (bad.returncode, bad.stderr.count("\n")) == (2, 1)


def test_compacting_afterwards_finds_nothing_left(url: str) -> None:
    keep = {1: 7 * MS_PER_DAY}
    retain(url, keep)
    assert compact(url, keep).windows == {1: 0}
    with pytest.raises(CarbontrackError, match="has no partitions"):
        retain("sqlite:////nowhere.db", keep)
