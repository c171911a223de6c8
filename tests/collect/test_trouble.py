"""Servers that die, freeze and fall silent, and networks that cut: afterwards node and team agree.

The recorder's thread ships as `Shipping` does here, and waits between two attempts; so it is
`Shipping` that meets the trouble, and what a job notices of it is looked at beside.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from carbontrack.collect.intake import Away, Intake
from carbontrack.ledger.batch import encode
from carbontrack.ledger.engine import open_writer
from carbontrack.ledger.shipped import Reply, Sent, take
from carbontrack.ledger.shipped_seconds import NO_SECONDS
from carbontrack.ledger.transaction import LedgerServer, Transaction, open_ledger
from carbontrack.ledger.url import ledger_url
from carbontrack.record import collector as http_collector
from carbontrack.record.collector import Collector as HttpTarget
from carbontrack.record.ship import Shipping
from carbontrack.record.ship_to import address
from carbontrack.record.target import NotShipped
from tests.collect.batches import batch
from tests.collect.test_backlog import Recorder
from tests.collect.test_collect import Collector
from tests.collect.test_shipped import content
from tests.fixtures import tools
from tests.fixtures.postgres import PostgresServer, private_server
from tests.fixtures.proxy import Proxy
from tests.fixtures.wrap import PATIENCE_S, Held, Wrapper, stop, wait_until

BACKLOG_S = 3 * 3600
Sums = dict[tuple[str, int, int], int]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """One that may be killed."""
    tools.need(tools.POSTGRESQL)
    with private_server() as server:
        yield server


@contextmanager
def proxied(target: Path | int) -> Iterator[Proxy]:
    proxy = Proxy(target)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()


@contextmanager
def silent(server: PostgresServer) -> Iterator[tuple[Proxy, str]]:
    """A new database behind a proxy that says nothing yet; and its address."""
    name = server.new_database().rpartition("@/")[2].partition("?")[0]
    with proxied(server.folder / ".s.PGSQL.5432") as proxy:
        proxy.silent = True
        yield proxy, f"postgresql://{server.user}@127.0.0.1:{proxy.port}/{name}"


def restart(server: PostgresServer) -> None:
    """After a kill."""

    def starts() -> bool:  # once what it had shared is left by all its processes
        try:
            server.start()
        except AssertionError:
            return False
        return True

    wait_until(starts)


def sums_mj(url: str, *levels: int) -> Sums:
    """The energy in mJ of each window of these levels, by device, level and time."""
    asked = (
        "select devices.uuid, level, start_ms, energy_j from windows "
        "join sensors on sensors.key = sensor_key join devices on devices.key = device_key"
    )
    with closing(open_ledger(ledger_url(url))) as ledger, ledger.reading() as transaction:
        return {
            (row["uuid"], row["level"], row["start_ms"]): round(row["energy_j"] * 1000)
            for row in transaction.ask(asked, {})
            if row["level"] in levels
        }


def ships(shipping: Shipping) -> bool:
    """Whether all that waits could be shipped."""
    try:
        for recording in shipping.waiting():
            shipping.ship(recording)
    except NotShipped:
        return False
    return True


def node_of(folder: Path) -> str:
    """A ledger's file with three hours of two devices, none of which was shipped."""
    url = f"sqlite:///{folder / 'node.db'}"
    with closing(open_ledger(url)) as ledger:
        recorder = Recorder(ledger)
        recorder.record(0, BACKLOG_S)
        recorder.finish(BACKLOG_S)
    return url


def test_a_backlog_of_hours_arrives_through_all_trouble(
    wrapper: Wrapper, server: PostgresServer, tmp_path: Path
) -> None:
    """A network that cuts before the answer and swallows, a database that is killed, a collector
    that is killed: each between two batches that are written.
    """
    node = node_of(tmp_path)
    collector = Collector(wrapper, server.new_database())
    collector.start()
    token = collector.token("nlp")
    with proxied(collector.port) as proxy:
        at = address(f"http://127.0.0.1:{proxy.port}")
        shipping = Shipping(node, HttpTarget(at, lambda: token), NO_SECONDS)
        proxy.cutting = True
        with pytest.MonkeyPatch.context() as patient:
            patient.setattr(http_collector, "DEADLINE_S", PATIENCE_S)
            assert not ships(shipping), "it is written, and not known to be"
        assert proxy.cuts
        proxy.cutting, proxy.silent = False, True
        assert not ships(shipping)
        assert proxy.swallowed
        proxy.silent = False
        server.kill()
        assert not ships(shipping)
        restart(server)
        collector.stop(signal.SIGKILL)
        assert not ships(shipping)
        collector.start()
        wait_until(lambda: ships(shipping))
        assert shipping.waiting() == []
        shipping.close()
    collector.stop()
    there = sums_mj(collector.ledger, 60, 3600)
    assert there == sums_mj(node, 60, 3600)
    assert len(there) == 2 * (180 + 3)


def test_frozen_backends_hold_up_one_batch_and_it_is_written_once(
    wrapper: Wrapper, server: PostgresServer, tmp_path: Path
) -> None:
    node = node_of(tmp_path)
    collector = Collector(wrapper, server.new_database())
    collector.start()
    token = collector.token("nlp")
    at = address(collector.url)
    shipping = Shipping(node, HttpTarget(at, lambda: token), NO_SECONDS)
    assert collector.get("/healthz")[0] == 200
    frozen = backends(server)
    stop(*frozen)
    try:
        assert not ships(shipping)
    finally:
        for pid in frozen:
            with suppress(ProcessLookupError):  # one may have been about to end
                os.kill(pid, signal.SIGCONT)
    wait_until(lambda: ships(shipping))
    shipping.close()
    collector.stop()
    assert sums_mj(collector.ledger, 60, 3600) == sums_mj(node, 60, 3600)


IMPATIENT = (
    "from carbontrack.collect import access, app; app._LONGEST_S, app._SILENT_S = 10, 0.5; "
    "access._REMEMBERED_S = 600; "
    "from carbontrack.__main__ import main; main()"
)


def test_a_connection_that_falls_silent_is_said_though_another_one_answers(
    wrapper: Wrapper, server: PostgresServer
) -> None:
    """As where a host that died has a successor under its name."""
    with silent(server) as (proxy, url):
        proxy.silent = False
        collector = Collector(wrapper, url)
        collector.program = [sys.executable, "-P", "-c", IMPATIENT]
        collector.start()
        token = collector.token("nlp")
        wait_until(lambda: collector.post(encode(batch()), token)[0] == 204)
        wait_until(lambda: collector.get("/healthz")[0] == 200)
        proxy.strand()
        status, answer = collector.post(encode(batch(0, 120)), token)
        assert (status, answer["error"]) == (503, "the batch was not written in time")
        assert collector.get("/healthz")[0] == 503
        said = collector.stop(signal.SIGKILL)
        assert "the database cannot be used now: it does not answer\n" in said


def test_a_connection_that_falls_silent_is_left_for_another_one(server: PostgresServer) -> None:
    with silent(server) as (proxy, url):
        proxy.silent = False
        strands = iter([True])

        def write(transaction: Transaction, sent: Sequence[tuple[Sent, str]]) -> Sequence[Reply]:
            if next(strands, False):
                proxy.strand()
            return take(transaction, sent)

        with closing(LedgerServer(open_writer(ledger_url(url)), deadline_s=5.0)) as ledger:
            intake = Intake(ledger, write)
            assert isinstance(intake.put(batch(), "nlp").exception(PATIENCE_S), Away)
            wait_until(lambda: intake.put(batch(), "nlp").exception(PATIENCE_S) is None)
            intake.close()
        assert sums_mj(url, 3600)


def backends(server: PostgresServer) -> list[int]:
    """The processes that serve the collector's connections."""
    asked = "select pid from pg_stat_activity where application_name = 'carbontrack'"
    with psycopg.connect(server.url("postgres")) as connection:
        return [pid for (pid,) in connection.execute(asked)]


def test_a_recorder_whose_server_is_killed_goes_on_and_all_of_it_arrives(
    wrapper: Wrapper, server: PostgresServer
) -> None:
    """With the address of a server as the ledger, what is recorded is on this host first."""
    url = server.new_database()
    job = wrapper.hold("sh", "-c", "exit 3", options=("--quiet", "--name", "killed", "--db", url))
    here = recorded(wrapper, job)
    server.kill()
    seconds = len(here)
    wait_until(lambda: len(recorded(wrapper, job)) > seconds)
    done = job.end()
    assert done.returncode == 3
    restart(server)
    sent = wrapper.ask("db", "ship", "--db", url)
    assert sent.returncode == 0, sent.stderr
    run = wrapper.json("show", "last", "--db", url)
    assert (run["name"], run["status"], run["exit_code"]) == ("killed", "failed", 3)
    (file,) = files(wrapper)
    assert sums_mj(url, 1, 60, 3600) == sums_mj(str(file), 1, 60, 3600)


def files(wrapper: Wrapper) -> list[Path]:
    """Where recorders of this host write what is meant for a server."""
    return list(wrapper.folder.glob("data/carbontrack/servers/*/*.db"))


def recorded(wrapper: Wrapper, job: Held) -> list[int]:
    """The seconds that are there of the first device; waits for some."""

    def some() -> list[int]:
        assert job.process.poll() is None, job.said
        found = [seconds for file in files(wrapper) for seconds in wrapper.seconds(file).values()]
        return found[0] if found else []

    found: list[int] = wait_until(some)
    return found


def test_a_server_that_falls_silent_holds_up_nothing_and_is_found_again(
    wrapper: Wrapper, server: PostgresServer
) -> None:
    with silent(server) as (proxy, url):
        job = wrapper.hold("sh", "-c", "exit 3", options=("--name", "silent", "--db", url))
        job.until_said("cannot be written")
        seconds = len(recorded(wrapper, job))
        wait_until(lambda: len(recorded(wrapper, job)) > seconds)
        proxy.silent = False
        job.until_said("takes rows again; nothing was lost")
        done = job.end()
        assert done.returncode == 3
        run = wrapper.json("show", "last", "--db", url)
        assert (run["name"], run["status"]) == ("silent", "failed"), "it is there on return"
        (file,) = files(wrapper)
        assert sums_mj(url, 1, 60, 3600) == sums_mj(str(file), 1, 60, 3600)
        assert "carbontrack table" in done.stderr


def test_what_a_server_lacks_when_a_job_ends_is_said_and_comes_with_the_next_run(
    wrapper: Wrapper, server: PostgresServer
) -> None:
    with silent(server) as (proxy, url):
        done = wrapper.run("true", options=("--name", "first", "--db", url))
        assert done.returncode == 0
        assert "does not have all of this run yet" in done.stderr
        assert "more    carbontrack db ship --db postgresql" in done.stderr
        proxy.silent = False
        # Its schema, too, would take a busy machine longer than a last look at the server may.
        assert wrapper.ask("db", "upgrade", "--db", url).returncode == 0
        wait_until(lambda: "1 recording" in wrapper.ask("runs", "--db", url).stderr)
        assert wrapper.run("true", options=("--quiet", "--db", url)).returncode == 0
        runs = wrapper.json("runs", "--db", url)["runs"]
        assert [(run["name"], run["status"]) for run in runs] == [
            ("true", "completed"),
            ("first", "completed"),
        ]


@contextmanager
def small_disk(server: PostgresServer) -> Iterator[tuple[str, Path]]:
    """A new database on a disk of its own, and a file that takes what is left of that."""
    folder = Path(tempfile.mkdtemp(prefix="carbontrack-disk-"))
    shutil.chown(folder, server.user)
    mount = ["mount", "-t", "tmpfs", "-o", f"size=48m,mode=700,uid={server.uid}", "tmpfs", folder]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        folder.rmdir()
        pytest.skip(f"{tools.OF_THE_MACHINE}: a filesystem cannot be mounted: {done.stderr}")
    (folder / "data").mkdir()
    shutil.chown(folder / "data", server.user)
    try:
        server.sql(f"create tablespace small location '{folder / 'data'}'")
        url = server.new_database("tablespace small")
        yield url, folder / "ballast"
        name = url.rpartition("@/")[2].partition("?")[0]
        server.sql(f"drop database {name} with (force)")
        server.sql("drop tablespace small")
    finally:
        subprocess.run(["umount", "--lazy", folder], check=False)
        folder.rmdir()


def test_a_full_disk_of_the_server_is_waited_for(
    wrapper: Wrapper, server: PostgresServer, tmp_path: Path
) -> None:
    node = node_of(tmp_path)
    with small_disk(server) as (url, ballast):
        collector = Collector(wrapper, url)
        collector.start()
        token = collector.token("nlp")
        shipping = Shipping(node, HttpTarget(address(collector.url), lambda: token), NO_SECONDS)
        with suppress(OSError), ballast.open("wb") as file:  # nothing is left for anybody
            while True:
                file.write(b"x" * 4096)
                file.flush()
        with pytest.raises(NotShipped, match="cannot be written now") as refused:
            shipping.ship_all()
        assert refused.value.answer is not None
        assert (refused.value.answer.status, refused.value.answer.retry_after_s) == (503, 5.0)
        assert not refused.value.is_for_a_person, "it is tried again by itself"
        ballast.unlink()
        wait_until(lambda: ships(shipping))
        shipping.close()
        collector.stop()
        assert sums_mj(url, 60, 3600) == sums_mj(node, 60, 3600)


def test_two_collectors_take_the_same_and_other_batches_at_once(
    wrapper: Wrapper, server: PostgresServer
) -> None:
    """Of twelve nodes that share their devices, each batch by both, in an order of each's own."""
    url = server.new_database()
    collectors = [Collector(wrapper, url) for _ in range(2)]
    for collector in collectors:
        collector.start()
    token = collectors[0].token("nlp")
    runs = [f"0199cccc-0000-7000-8000-{number:012}" for number in range(12)]
    ends = (60, 120, 180)
    bodies = [encode(batch(0, end, run=run, ended=end == ends[-1])) for run in runs for end in ends]
    answers: list[int] = []

    def post(collector: Collector, seed: int) -> None:
        for body in random.Random(seed).sample(bodies, len(bodies)):
            while (status := collector.post(body, token)[0]) in (429, 503):  # a busy machine
                time.sleep(0.1)
            answers.append(status)

    nodes = [
        threading.Thread(target=post, args=(collector, 10 * place + number))
        for place, collector in enumerate(collectors)
        for number in range(4)
    ]
    for node in nodes:
        node.start()
    for node in nodes:
        node.join()
    said = [collector.stop() for collector in collectors]
    assert set(answers) <= {200, 204}, said
    assert "deadlock detected" not in (server.folder / "log").read_text()
    found = rows_of(url)
    alone = server.new_database()
    with closing(open_ledger(ledger_url(alone))) as ledger, ledger.begin() as transaction:
        for run in runs:
            take(transaction, [(batch(0, ends[-1], run=run, ended=True), "nlp")])
            others = [(batch(0, end, run=run), "nlp") for end in ends]
            take(transaction, list(others))
    assert found == rows_of(alone)
    assert len(found[1]) == len(runs)


def rows_of(url: str) -> list[list[str]]:
    with closing(open_ledger(ledger_url(url))) as ledger, ledger.reading() as transaction:
        return content(transaction)
