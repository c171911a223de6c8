"""The sums of a run's hours on PostgreSQL: exact at any time, whatever is written and rolled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, text

from carbontrack.ledger import engine, read, remove, usages
from carbontrack.ledger.retain import roll_hours
from carbontrack.ledger.transaction import LedgerServer, open_ledger
from carbontrack.ledger.url import ledger_url as url_of
from carbontrack.ledger.verify import verify
from carbontrack.units import MS_PER_HOUR
from tests.fixtures.many import many, write_many
from tests.fixtures.postgres import PostgresServer

RUNS = [one for one in many(5, hours=3) if one.kind != 3]
_PER_HOUR = (
    "select run_key, start_ms, kind, count(*), count(*) filter (where flags & 512 <> 0), "
    "bit_or(flags), coalesce(sum(energy_j), -1), sum(energy_s), sum(sampled_s), sum(samples), "
    "coalesce(max(energy_j / nullif(energy_s, 0)), -1) "
    "from hours join recordings on recordings.key = hours.recording_key "
    "join sensors on sensors.key = sensor_key join devices on devices.key = device_key "
    "group by 1, 2, 3 order by 1, 2, 3"
)
_ROLLED = (
    "select run_key, start_ms, kind, sensors, used, flags, coalesce(energy_j, -1), energy_s, "
    "sampled_s, samples, coalesce(peak_w, -1) from run_hours order by 1, 2, 3"
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
    found, own = (
        [tuple(row) for row in connection.execute(text(query))] for query in (_ROLLED, _PER_HOUR)
    )
    assert [row[:6] for row in found] == [row[:6] for row in own]
    for row, wanted in zip(found, own, strict=True):
        assert row[6:] == pytest.approx(wanted[6:], rel=1e-12)


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
        "insert into hours select start_ms - 3600000, {n}, energy_s, sampled_s, power_min_w, "
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


def test_verify_reports_sums_that_are_wrong(server: Engine, url: str) -> None:
    with closing(open_ledger(url)) as ledger:
        roll_hours(ledger)
    assert verify(url) == []
    with server.begin() as connection:
        spoil = "update rolled_hours set energy_j = energy_j + 5 where start_ms = :at"
        at = connection.scalar(text("select min(start_ms) from rolled_hours where run_key = 1"))
        connection.execute(text(spoil), {"at": at})
    (problem,) = verify(url)
    assert problem.where.startswith("run_hours of run 0198aaaa")
    assert "energy_j" in problem.what
    with server.begin() as connection:
        connection.execute(text("update hours set flags = flags where start_ms = :at"), {"at": at})
    assert verify(url) == [], "what is written is added up anew"
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
        left = text("select count(*) from rolled_hours where run_key = :key")
        assert connection.scalar(left, {"key": gone.key}) == 0
    assert gone.started_ms % MS_PER_HOUR == 0
