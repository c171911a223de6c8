"""The file of a host for a ledger on a server: what is old goes once the server has it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from carbontrack.ledger import backlog, prune, set_aside
from carbontrack.ledger.prune import KEPT_MS
from carbontrack.ledger.shipped_seconds import EVERY_SECOND
from carbontrack.ledger.transaction import WritableLedger, open_ledger
from carbontrack.ledger.url import ledger_url as url_of
from carbontrack.record.server import Server
from carbontrack.record.ship import Shipping
from carbontrack.units import MS_PER_HOUR
from tests.collect.batches import BEGIN_MS
from tests.collect.test_backlog import RECORDING, Recorder
from tests.collect.test_shipped import content
from tests.collect.test_trouble import sums_mj
from tests.fixtures.wrap import Wrapper, wait_until

pytestmark = pytest.mark.usefixtures("patient")

HOUR_S = 3600


@pytest.fixture
def node(tmp_path: Path) -> str:
    return url_of(str(tmp_path / "node.db"))


@pytest.fixture
def ledger(node: str) -> Iterator[WritableLedger]:
    with closing(open_ledger(node)) as opened:
        yield opened


def pruned(ledger: WritableLedger, node: str, target: str, *, later_ms: int) -> list[int]:
    """How many windows there are of each level, when so much time has passed since the start."""
    for _ in prune.prune(ledger, node, target, now_ms=BEGIN_MS + later_ms):
        pass
    with ledger.reading() as transaction:
        found = transaction.ask("select level, count(*) as n from windows group by level", {})
        counts = {row["level"]: row["n"] for row in found}
    return [counts.get(level, 0) for level in (1, 60, 3600)]


def test_what_the_server_has_goes_when_it_is_old_and_nothing_else(
    ledger: WritableLedger, node: str, postgres_url: str
) -> None:
    recorder = Recorder(ledger)
    recorder.record(0, HOUR_S)
    recorder.finish(HOUR_S)
    server = Server(url_of(postgres_url))
    late_ms = KEPT_MS + 2 * MS_PER_HOUR
    every = [2 * HOUR_S, 2 * 60, 2]
    assert pruned(ledger, node, server.name, later_ms=late_ms) == every, "it was not shipped"
    Shipping(node, server, EVERY_SECOND).ship_all()
    there = sums_mj(postgres_url, 1, 60, 3600)
    assert len(there) == sum(every)
    assert pruned(ledger, node, server.name, later_ms=KEPT_MS) == every, "it is not old"
    assert pruned(ledger, node, "another", later_ms=late_ms) == every
    set_aside.put(node, RECORDING.id, server.name, "refused")
    assert pruned(ledger, node, server.name, later_ms=late_ms) == every, "it can be sent again"
    for one in set_aside.found(node):
        one.path.unlink()
    with ledger.begin() as transaction:
        backlog.begin(transaction, RECORDING.id, "another")
    assert pruned(ledger, node, server.name, later_ms=late_ms) == every, "another lacks it"
    with ledger.begin() as transaction:
        transaction.write("delete from watermarks where target = :t", [{"t": "another"}])
    assert pruned(ledger, node, server.name, later_ms=late_ms) == [0, 0, 0]
    with ledger.begin() as transaction:
        assert not any(content(transaction)[:6])
    assert sums_mj(postgres_url, 1, 60, 3600) == there


def test_a_recording_that_goes_on_keeps_its_hours_and_what_was_not_shipped(
    ledger: WritableLedger, node: str, postgres_url: str
) -> None:
    recorder = Recorder(ledger)
    recorder.record(0, HOUR_S)
    server = Server(url_of(postgres_url))
    shipping = Shipping(node, server, EVERY_SECOND)
    shipping.ship_all()
    recorder.record(HOUR_S, 2 * HOUR_S)  # which is not shipped, however old it gets
    late_ms = KEPT_MS + 9 * MS_PER_HOUR
    assert pruned(ledger, node, server.name, later_ms=late_ms) == [2 * HOUR_S, 2 * 60, 2 * 2]
    recorder.finish(2 * HOUR_S)
    shipping.ship_all()
    assert shipping.waiting() == []
    assert not shipping.shipped.set_aside
    there = sums_mj(postgres_url, 1, 60, 3600)
    assert len(there) == 2 * 2 * (HOUR_S + 60 + 1)
    energy_mj = 2 * 2 * HOUR_S * 300_000
    assert [energy_of(there, level) for level in (1, 60, 3600)] == [energy_mj] * 3


def energy_of(there: dict[tuple[str, int, int], int], level: int) -> int:
    return sum(mj for (_, at, _), mj in there.items() if at == level)


def test_recorders_and_a_command_prune_what_they_ship(wrapper: Wrapper, postgres_url: str) -> None:
    options = ("--quiet", "--db", postgres_url)
    # To make a schema, too, may take a busy machine longer than a last look at the server may.
    assert wrapper.ask("db", "upgrade", "--db", postgres_url).returncode == 0
    assert wrapper.run("true", options=options).returncode == 0
    (file,) = wrapper.folder.glob("data/carbontrack/servers/*/*.db")

    def recordings() -> list[str]:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            return [one for (one,) in connection.execute("select id from recordings")]

    def grow_old() -> list[str]:
        wait_until(lambda: not waiting())
        found = recordings()  # before that: their recorder may be about to prune
        with closing(sqlite3.connect(file)) as connection, connection:
            times = ("started_ms", "ended_ms", "heartbeat_ms")
            days = KEPT_MS + 24 * MS_PER_HOUR
            earlier = ", ".join(f"{name} = {name} - {days}" for name in times)
            connection.execute(f"update recordings set {earlier}")
        return found

    def waiting() -> bool:
        asked = (
            "select 1 from recordings left join watermarks on recording_key = key "
            "where coalesce(shipped_ms, 0) < heartbeat_ms or ended_ms is null"
        )
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            return connection.execute(asked).fetchone() is not None

    (first,) = grow_old()
    assert wrapper.run("true", options=options).returncode == 0
    wait_until(lambda: first not in recordings())
    (second,) = grow_old()
    assert wrapper.ask("db", "ship", "--db", postgres_url).returncode == 0
    assert recordings() == []
    runs = wrapper.json("runs", "--db", postgres_url)["runs"]
    assert [run["status"] for run in runs] == ["completed"] * 2
    assert second != first
