"""Runs that are removed on a node or from the team's ledger: gone there for good, and no node asks
again and again.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest

from carbontrack.collect.sweeper import LOST_MS, Sweeper
from carbontrack.ledger import engine, read
from carbontrack.ledger.remove import remove
from carbontrack.ledger.shipped import take
from carbontrack.ledger.shipped_seconds import NO_SECONDS
from carbontrack.ledger.transaction import WritableLedger, open_ledger
from carbontrack.ledger.url import ledger_url as url_of
from carbontrack.record.collector import Collector as HttpTarget
from carbontrack.record.server import Server
from carbontrack.record.ship import Shipping
from carbontrack.record.ship_to import address
from carbontrack.record.target import Target
from carbontrack.units import now_ms
from tests.collect.batches import RECORDED, batch
from tests.collect.test_backlog import Recorder
from tests.collect.test_collect import Collector
from tests.fixtures.wrap import CARBONTRACK, PATIENCE_S, Wrapper, wait_until

pytestmark = pytest.mark.usefixtures("patient")


@pytest.fixture(params=["http", "sql"])
def team(
    request: pytest.FixtureRequest, wrapper: Wrapper, postgres_url: str
) -> Iterator[tuple[str, Target]]:
    """A team's ledger on PostgreSQL, and what a node ships to: a collector, or the server."""
    url = url_of(postgres_url)
    if request.param == "sql":
        yield url, Server(url)
        return
    collector = Collector(wrapper, url)
    collector.start()
    token = collector.token("nlp")
    target = HttpTarget(address(collector.url), lambda: token)
    yield url, target
    target.close()
    collector.stop()


def rows(url: str) -> int:
    """Of runs, recordings, devices and windows together."""
    tables = ("runs", "recordings", "devices", "windows", "steps", "events")
    with closing(open_ledger(url)) as ledger, ledger.reading() as transaction:
        counts = [
            next(transaction.ask(f"select count(*) as n from {table}", {}))["n"] for table in tables
        ]
    return sum(counts)


def remove_run(url: str) -> None:
    with engine.open_reader(url).connect() as connection:
        run = read.resolve_run(connection, RECORDED.run.id)
    remove(url, [run])


def shipping_of(url: str, target: Target) -> tuple[Shipping, Callable[[], int]]:
    """And what counts the batches of shipping all that waits."""
    shipping = Shipping(url, target, NO_SECONDS)

    def ship() -> int:
        before = shipping.shipped.batches
        shipping.ship_all()
        return shipping.shipped.batches - before

    return shipping, ship


def test_a_run_that_is_removed_on_its_node_goes_from_the_teams_ledger(
    team: tuple[str, Target], tmp_path: Path
) -> None:
    url, target = team
    node = url_of(str(tmp_path / "node.db"))
    with closing(open_ledger(node)) as ledger:
        recorder = Recorder(ledger)
        recorder.record(0, 100)
        recorder.finish(100)
    shipping, ship = shipping_of(node, target)
    ship()
    assert rows(url) > 10
    remove_run(node)
    ship()
    assert shipping.shipped.removed == 1
    wait_until(lambda: rows(url) == 0)
    ship()
    assert shipping.shipped.removed == 1, "it is sent once"
    assert not shipping.shipped.set_aside


def test_a_run_that_the_team_removed_stays_on_its_node_which_sends_nothing_more(
    team: tuple[str, Target], tmp_path: Path
) -> None:
    """While it is recorded, too: the second hour of it is never sent."""
    url, target = team
    node = url_of(str(tmp_path / "node.db"))
    with closing(open_ledger(node)) as ledger:
        recorder = Recorder(ledger)
        recorder.record(0, 100)
        shipping, ship = shipping_of(node, target)
        ship()
        remove_run(url)
        recorder.record(100, 3700)
        before = rows(node)
        assert ship() == 0
        assert shipping.shipped.kept == [RECORDED.name]
        recorder.record(3700, 4000)
        recorder.finish(4000)
        assert ship() == 0
        assert shipping.waiting() == []
        assert shipping.shipped.kept == [RECORDED.name], "it is said once"
        assert rows(node) > before
    assert rows(url) == 0
    assert not shipping.shipped.set_aside


def test_the_next_recorder_and_a_command_send_tombstones(
    wrapper: Wrapper, ledger_url: str, tmp_path: Path
) -> None:
    ledger = str(tmp_path / "team.db") if "sqlite" in ledger_url else ledger_url
    collector = Collector(wrapper, ledger)
    collector.start()
    env = {**wrapper.env, "CARBONTRACK_SHIP_TOKEN": collector.token("nlp")}
    of_team = ("--db", collector.ledger)

    def there() -> list[str]:
        return sorted(run["name"] for run in wrapper.json("runs", *of_team)["runs"])

    def ship() -> str:
        argv = [*CARBONTRACK, "db", "ship", "--to", collector.url]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    for name in ("one", "two", "three"):
        assert wrapper.record(options=("--quiet", "--name", name)).returncode == 0
    ship()
    assert there() == ["one", "three", "two"]
    assert wrapper.ask("runs", "rm", "one", "--yes").returncode == 0
    job = wrapper.hold(options=("--quiet", "--ship", collector.url, "--name", "four"), env=env)
    job.until_recorded(1)
    job.end()
    wait_until(lambda: there() == ["four", "three", "two"])
    assert wrapper.ask("runs", "rm", "two", "--yes").returncode == 0
    assert wrapper.ask("runs", "rm", "three", "--yes", *of_team).returncode == 0
    assert wrapper.ask("amend", "three", "--note", "again").returncode == 0
    said = ship()
    assert "Removed there, as here: 1 run." in said
    assert "Run three was removed there; it stays as it is here." in said
    assert ship() == "Shipped 0 rows in 0 requests.\n"
    assert there() == ["four"]
    assert sorted(run["name"] for run in wrapper.json("runs")["runs"]) == ["four", "three"]
    assert "410" not in collector.stop(), "nobody has to do anything"


@contextmanager
def sweeping(opens: Callable[[], WritableLedger]) -> Iterator[None]:
    """While a sweeper does its work. It has no end, so it is held: other tests count statements."""
    ended, held = threading.Event(), threading.Event()

    def opened() -> WritableLedger:
        if ended.is_set():
            held.set()
            threading.Event().wait()
        return opens()

    sweeper = Sweeper(opened, lambda _: None)
    try:
        yield
    finally:
        ended.set()
        sweeper.wake()
        assert held.wait(PATIENCE_S)


def test_what_is_now_of_a_node_that_never_returns_is_forgotten(postgres_url: str) -> None:
    opens = partial(open_ledger, url_of(postgres_url))
    ids = [f"0199dddd-0000-7000-8000-00000000000{number}" for number in range(3)]
    ages_ms = dict(zip(ids, (LOST_MS + 60_000, LOST_MS - 3_600_000, 0), strict=True))
    with closing(opens()) as ledger:
        with ledger.begin() as transaction:
            take(transaction, [(batch(run=id), "nlp") for id in ids])
            transaction.write(
                "update live set heard_ms = :heard where recording_key = "
                "(select key from recordings where id = :id)",
                [{"id": id, "heard": now_ms() - age_ms} for id, age_ms in ages_ms.items()],
            )
        asked = "select id from recordings join live on recording_key = key order by id"

        def live() -> list[str]:
            with ledger.reading() as transaction:
                return [row["id"] for row in transaction.ask(asked, {})]

        with sweeping(opens):
            wait_until(lambda: live() == ids[1:])
        with ledger.reading() as transaction:
            assert len(list(transaction.ask("select id from recordings", {}))) == 3
