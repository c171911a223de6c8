"""The sums of a run's hours and days on PostgreSQL: exact at any time, whatever is written and
rolled.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
from alembic import command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, text

from carbontrack.ledger import engine, migrations, read, remove, transaction, usages
from carbontrack.ledger.outcome import attempts_of
from carbontrack.ledger.retain import roll_hours
from carbontrack.ledger.transaction import LedgerServer, open_ledger
from carbontrack.ledger.url import ledger_url as url_of
from carbontrack.ledger.verify import verify
from carbontrack.units import MS_PER_HOUR
from tests.fixtures.many import many, write_many
from tests.fixtures.postgres import PostgresServer

RUNS = [one for one in many(5, hours=3) if one.kind != 3]
_OF_HOURS = (
    "from hours join recordings on recordings.key = hours.recording_key "
    "join sensors on sensors.key = sensor_key join devices on devices.key = device_key"
)
_PER_HOUR = (
    "select run_key, start_ms, kind, restart, count(*), count(*) filter (where flags & 512 <> 0), "
    "bit_or(flags), coalesce(sum(energy_j), -1), sum(energy_s), sum(sampled_s), sum(samples), "
    f"coalesce(max(energy_j / nullif(energy_s, 0)), -1) {_OF_HOURS} "
    "group by 1, 2, 3, 4 order by 1, 2, 3, 4"
)
_ROLLED = (
    "select run_key, start_ms, kind, restart, sensors, used, flags, coalesce(energy_j, -1), "
    "energy_s, sampled_s, samples, coalesce(peak_w, -1) from run_hours order by 1, 2, 3, 4"
)
_DAY = "to_timestamp(start_ms / 1000) at time zone 'UTC'"
_PER_DAY = (
    f"select run_key, date({_DAY}), kind, bit_or(flags), coalesce(sum(energy_j), -1), "
    "sum(energy_s), sum(sampled_s), sum(samples), "
    f"coalesce(max(energy_j / nullif(energy_s, 0)), -1) {_OF_HOURS} "
    "group by 1, 2, 3 order by 1, 2, 3"
)
_ROLLED_DAYS = (
    f"select run_key, date({_DAY}), kind, flags, coalesce(energy_j, -1), energy_s, sampled_s, "
    "samples, coalesce(peak_w, -1) from run_days order by 1, 2, 3"
)
_ENERGIES = (
    f"select run_key, date({_DAY}), kind, extract(hour from {_DAY})::integer, sum(energy_j) "
    f"{_OF_HOURS} where energy_j is not null group by 1, 2, 3, 4 order by 1, 2, 3, 4"
)
_HOURLY = (
    f"select run_key, date({_DAY}), kind, number - 1, of_hour_j from run_days "
    "cross join lateral unnest(hourly_j) with ordinality as u(of_hour_j, number) "
    "where of_hour_j is not null order by 1, 2, 3, 4"
)
# What each finds, what it should be, and how many columns say where.
_CHECKS = (
    (_ROLLED, _PER_HOUR, 7),
    (_ROLLED_DAYS, _PER_DAY, 4),
    (_HOURLY, _ENERGIES, 4),
)


@pytest.fixture(scope="module")
def url(postgres_server: PostgresServer) -> str:
    url = url_of(postgres_server.new_database())
    write_many(url, RUNS)
    return url


@pytest.fixture(scope="module")
def server(url: str) -> Iterator[Engine]:
    with engine.writing(url) as opened:
        yield opened


def check(connection: Connection) -> None:
    """Whether they are what the hours add up to."""
    for rolled, per_hour, places in _CHECKS:
        found, own = (
            [tuple(row) for row in connection.execute(text(query))] for query in (rolled, per_hour)
        )
        assert [row[:places] for row in found] == [row[:places] for row in own]
        for row, wanted in zip(found, own, strict=True):
            assert row[places:] == pytest.approx(wanted[places:], rel=1e-12)


def marks(server: Engine) -> int:
    with server.connect() as connection:
        return int(connection.scalar(text("select count(*) from stale_hours")) or 0)


_CHANGES = st.sampled_from(
    [
        "update hours set energy_j = energy_j + {n} where sensor_key % 3 = {n} % 3",
        "update hours set energy_j = null where sensor_key = {n}",
        "update hours set sampled_s = {n} where start_ms % 7 = {n} % 7",
        "update hours set flags = 513 where sensor_key = {n}",
        "delete from hours where sensor_key = {n}",
        "delete from recordings where key = {n}",
        "insert into hours select start_ms - 3600000 * {n}, {n}, energy_s, sampled_s, power_min_w, "
        "power_max_w, util_pct, memory_max_bytes, temperature_max_c, sm_clock_mhz, throttle, "
        "recording_key, sensor_key, samples, vitals, flags from hours "
        "where sensor_key % 2 = {n} % 2 "
        "on conflict (recording_key, start_ms, sensor_key) do update set energy_j = {n}",
        "roll",
    ]
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(_CHANGES, st.integers(1, 12)), min_size=1, max_size=6))
def test_they_are_the_sums_of_the_hours_after_any_change(
    server: Engine, changes: list[tuple[str, int]]
) -> None:
    with server.connect() as connection:
        for change, number in changes:
            if change == "roll":
                connection.execute(text(f"select roll_hours({1 << 53}, {number})"))
            else:
                connection.execute(text(change.format(n=number)))
            check(connection)
        connection.rollback()


def test_a_roller_leaves_what_a_writer_has_open(server: Engine) -> None:
    with closing(LedgerServer(server)) as ledger:
        roll_hours(ledger)
        assert marks(server) == 0
        with server.connect() as writer:
            writer.execute(text("update hours set energy_j = energy_j + 1 where recording_key = 1"))
            roll_hours(ledger)
            writer.commit()
        assert marks(server) > 0
        with server.connect() as connection:
            check(connection)
        roll_hours(ledger)
        assert marks(server) == 0
        with server.connect() as connection:
            check(connection)


def test_reports_read_them(server: Engine, url: str) -> None:
    with closing(open_ledger(url)) as ledger:
        roll_hours(ledger)
    with engine.open_reader(url).connect() as connection:
        runs = read.list_runs(connection)
        found = usages.hours_of_all_of(connection, [run.key for run in runs])
        for run in runs:
            by_device = read.hours(connection, run)
            energy_j = sum(usage.energy_j or 0 for usage in by_device)
            assert sum(usage.energy_j or 0 for usage in found[run.key]) == pytest.approx(energy_j)
            assert len(found[run.key]) == len({usage.start_ms for usage in by_device})


def test_attempts_have_what_their_recordings_have(server: Engine) -> None:
    """Also of one hour, and where the scheduler does not count them."""
    with server.connect() as connection:
        keys = "select min(key) from recordings group by run_key having max(restart) > 0"
        first = list(connection.scalars(text(keys)))
        for longer in (
            "insert into hours (select (jsonb_populate_record(hours, jsonb_build_object("
            "'start_ms', start_ms + 3600000))).* from hours where recording_key = any(:first))",
            "update recordings set ended_ms = ended_ms + 3600000, "
            "heartbeat_ms = heartbeat_ms + 3600000 where key = any(:first)",
        ):
            assert connection.execute(text(longer), {"first": first}).rowcount
        groups: dict[int, usages.Group] = {}
        for run in read.list_runs(connection):
            for of in attempts_of(read.recordings(connection, run)):
                span = min(one.started_ms for one in of), max(one.end_ms for one in of)
                group = usages.Group(run.key, of[0].restart, [one.key for one in of], span)
                groups[len(groups)] = group
        assert len(groups) > len({group.run_key for group in groups.values()})
        own = {number: group.keys for number, group in groups.items()}
        wanted = usages.hours_of_groups(connection, own)
        assert usages.hours_of_attempts(connection, groups) == wanted
        connection.execute(text("update recordings set restart = 0"))
        connection.execute(text("update hours set flags = flags"))
        uncounted = {number: replace(group, restart=0) for number, group in groups.items()}
        assert usages.hours_of_attempts(connection, uncounted) == wanted
        connection.rollback()


def test_verify_reports_sums_that_are_wrong(server: Engine, url: str) -> None:
    with closing(open_ledger(url)) as ledger:
        roll_hours(ledger)
    assert verify(url) == []
    with server.begin() as connection:
        spoil = "update rolled_hours set energy_j = energy_j + 5 where start_ms = :at"
        at = connection.scalar(text("select min(start_ms) from rolled_hours where run_key = 1"))
        connection.execute(text(spoil), {"at": at})
    problem, *of_its_day = verify(url)
    assert problem.where.startswith("run_hours of run 0198aaaa")
    assert "energy_j" in problem.what
    assert [one.where.split(" of run ")[0] for one in of_its_day] == [
        "run_days",
        "hourly_j in run_days",
    ]
    again = text("update hours set flags = flags where start_ms = :at")
    with server.begin() as connection:
        connection.execute(again, {"at": at})
    assert verify(url) == [], "what is written is added up anew"
    with closing(open_ledger(url)) as ledger:
        roll_hours(ledger)
    for spoil, where in (
        ("sampled_s = 1", "run_days"),
        ("hourly_j[1] = 1", "hourly_j in run_days"),
    ):
        with server.begin() as connection:
            connection.execute(text(f"update rolled_days set {spoil} where run_key = 1"))
        (problem,) = verify(url)
        assert problem.where.startswith(f"{where} of run 0198aaaa")
        with server.begin() as connection:
            connection.execute(again, {"at": at})
        with closing(open_ledger(url)) as ledger:
            roll_hours(ledger)
        assert verify(url) == [], "what is rolled again is added up anew"
    spoil = "update recorded_devices set device_keys = device_keys[2:] where recording_key = 1"
    with server.begin() as connection:
        connection.execute(text(spoil))
    (problem,) = verify(url)
    assert problem.where == "recorded_devices of recording 1, gpu"
    with server.begin() as connection:
        connection.execute(text("update sensors set share = share where recording_key = 1"))
    assert verify(url) == []


def test_a_run_that_goes_takes_its_sums_along(server: Engine, url: str) -> None:
    with closing(open_ledger(url)) as ledger:
        roll_hours(ledger)
    with engine.open_reader(url).connect() as connection:
        gone = read.list_runs(connection)[0]
    remove.remove(url, [gone])
    with server.connect() as connection:
        check(connection)
        for table in ("rolled_hours", "rolled_days"):
            left = text(f"select count(*) from {table} where run_key = :key")
            assert connection.scalar(left, {"key": gone.key}) == 0
    assert gone.started_ms % MS_PER_HOUR == 0


def test_an_older_ledger_is_added_up_by_its_upgrade(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = url_of(postgres_server.new_database())
    with monkeypatch.context() as before:
        for module in (engine, transaction):
            before.setattr(module, "HEAD", "1001")
        older = engine.connect(url)
        with older.begin() as connection:
            command.upgrade(migrations.config(connection), "1001")
        write_many(url, RUNS)
        with older.begin() as connection:
            connection.execute(text(f"select roll_hours({1 << 53}, 9)"))
        older.dispose()
    assert engine.upgrade(url) == "1001"
    with engine.writing(url) as opened, opened.connect() as connection:
        assert connection.scalar(text("select count(*) from stale_hours"))
        check(connection)
        connection.execute(text(f"select roll_hours({1 << 53}, 1000)"))
        check(connection)
