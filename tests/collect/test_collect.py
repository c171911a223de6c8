"""A collector as a process, and nodes that ship to it: no job notices, and nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import pytest
from sqlalchemy import text

from carbontrack.ledger import read, set_aside
from carbontrack.ledger.batch import VERSION, encode
from carbontrack.ledger.engine import open_reader
from carbontrack.ledger.merge import merge
from carbontrack.ledger.remove import remove
from carbontrack.ledger.shipped_seconds import NO_SECONDS
from carbontrack.ledger.transaction import open_ledger
from carbontrack.ledger.url import ledger_url as url_of
from carbontrack.ledger.verify import verify
from carbontrack.record.collector import Collector as HttpTarget
from carbontrack.record.ship import Shipping
from carbontrack.record.ship_to import address
from tests.collect.batches import RECORDED, altered, batch
from tests.collect.test_backlog import Recorder
from tests.collect.test_shipped import content
from tests.fixtures import tools
from tests.fixtures.postgres import private_server
from tests.fixtures.tables import tables_of
from tests.fixtures.wrap import CARBONTRACK, Wrapper, wait_until, warnings_in
from tests.ledger.test_retain import OLD

pytestmark = pytest.mark.usefixtures("patient")

Answer = tuple[int, dict[str, Any]]


class Collector:
    """`carbontrack collect` on a ledger, which can be killed and started again on its port."""

    def __init__(self, wrapper: Wrapper, ledger: str) -> None:
        self.wrapper = wrapper
        self.env = wrapper.env
        self.ledger = ledger
        self.program: list[str] = CARBONTRACK
        self.options: list[str] = []
        self.host = "127.0.0.1"
        self.port = 0
        self.process: subprocess.Popen[str] | None = None
        self.said = ""  # on stderr, since it started last

    def start(self, *options: str) -> None:
        if not self.port:
            self._hold_port()
        where = f"{self.host}:{self.port}"
        named = (*self.options, *options)
        self.process = subprocess.Popen(
            [*self.program, "collect", "--listen", where, "--db", self.ledger, *named],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = ""
        self._reader = threading.Thread(target=self._read, args=(self.process.stderr,), daemon=True)
        self._reader.start()
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().strip().rstrip("/").rpartition(":")[2])

    def _hold_port(self) -> None:
        """Keep a port of our own while the collector is down. It is bound, and nothing listens on
        it, so the collector can bind it, too.
        """
        held = socket.socket()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((self.host, 0))
        self.port = held.getsockname()[1]
        weakref.finalize(self, held.close)

    def _read(self, stderr: IO[str]) -> None:
        for line in stderr:
            self.said += line

    def stop(self, signo: int = signal.SIGTERM) -> str:
        """End it; what it had said on stderr."""
        assert self.process is not None
        self.process.send_signal(signo)
        with self.process:
            self._reader.join()
        return self.said

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def token(self, project: str) -> str:
        done = self.wrapper.ask("collect", "token", "add", project, "--db", self.ledger)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()[-1]

    def post(self, body: bytes, token: str | None, path: str = "/v1/batches") -> Answer:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return self.get(path, urllib.request.Request(self.url + path, body, headers))

    def get(self, path: str, request: urllib.request.Request | None = None) -> Answer:
        try:
            with urllib.request.urlopen(request or self.url + path) as answer:
                text = answer.read().decode()
                return answer.status, json.loads(text) if text[:1] == "{" else {"text": text}
        except urllib.error.HTTPError as error:
            text = error.read().decode()
            return error.code, json.loads(text) if text[:1] == "{" else {"text": text}


@pytest.fixture
def collector(wrapper: Wrapper, ledger_url: str) -> Iterator[Collector]:
    address = ledger_url.removeprefix("sqlite:///")
    if address != ledger_url:
        address = str(Path(address).with_name("team.db"))
    collector = Collector(wrapper, address)
    collector.start()
    yield collector
    if collector.process is not None and collector.process.poll() is None:
        collector.stop()


def shown(wrapper: Wrapper, *options: str) -> dict[str, Any]:
    """The newest run without what only its own ledger says."""
    done = wrapper.ask("show", "last", "--format", "json", *options)
    found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
    return {name: value for name, value in found.items() if name not in ("ledger", "project")}


def test_a_run_that_is_shipped_is_the_same_in_the_teams_ledger(
    wrapper: Wrapper, collector: Collector
) -> None:
    token = collector.token("nlp")
    options = ("--quiet", "--ship", collector.url, "--name", "shipped")
    env = {**wrapper.env, "CARBONTRACK_SHIP_TOKEN": token}
    job = wrapper.hold(
        "sh", "-c", 'test -z "$CARBONTRACK_SHIP_TOKEN" && exit 3', options=options, env=env
    )
    job.until_recorded(2)
    assert job.end().returncode == 3, "the job has the token, or it was disturbed"
    of_team = ("--db", collector.ledger)
    wait_until(lambda: shown(wrapper, *of_team).get("status") == "failed")
    here, there = shown(wrapper), shown(wrapper, *of_team)
    assert there == here
    assert here["energy_kwh"] > 0
    assert wrapper.json("show", "last", "--db", collector.ledger)["project"] == "nlp"
    for file in wrapper.folder.rglob("*"):
        assert not file.is_file() or token.encode() not in file.read_bytes(), file
    assert collector.get("/healthz") == (200, {"text": "ok\n"})
    metrics = collector.get("/metrics")[1]["text"]
    assert 'batches_total{status="20' in metrics
    assert "nlp" not in metrics and "shipped" not in metrics
    assert "no token lets anybody write" in collector.stop()  # when it started, there was none


def windows(ledger: str, level_s: int = 1) -> int:
    """How many of this length there are; where seconds are gone, reports read minutes."""
    with open_reader(url_of(ledger)).connect() as connection:
        query = f"select count(*) from windows where level = {level_s}"
        return int(connection.scalar(text(query)) or 0)


@pytest.mark.parametrize("setting", ["off", "7d"])
def test_seconds_travel_by_themselves_as_the_project_has_it(
    wrapper: Wrapper, collector: Collector, setting: str
) -> None:
    env = {**wrapper.env, "CARBONTRACK_SHIP_TOKEN": collector.token("nlp")}
    settings = wrapper.folder / "carbontrack.toml"
    settings.write_text(f'ship = "{collector.url}"\nship_seconds = "{setting}"\n')
    job = wrapper.hold(env=env, cwd=str(wrapper.folder))
    job.until_recorded(2)
    job.end()
    wait_until(lambda: shown(wrapper, "--db", collector.ledger).get("status") == "completed")
    here = windows(str(wrapper.ledger))
    assert here >= 2 * 2
    assert windows(collector.ledger) == (0 if setting == "off" else here)
    argv = [*CARBONTRACK, "db", "ship", "--seconds", "last"]
    done = subprocess.run(argv, env=env, cwd=wrapper.folder, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert windows(collector.ledger) == here, "when they are asked for, in any case"


def test_what_a_collector_that_is_away_misses_comes_later(
    wrapper: Wrapper, collector: Collector
) -> None:
    token = collector.token("nlp")
    collector.stop(signal.SIGKILL)
    env = {**wrapper.env, "CARBONTRACK_SHIP_TOKEN": token}
    options = ("--quiet", "--ship", collector.url)
    job = wrapper.hold(options=options, env=env)
    job.until_recorded(1)
    done = job.end()
    assert (done.returncode, done.stderr) == (0, "")
    collector.start()
    shipped = subprocess.run(
        [*CARBONTRACK, "db", "ship", "--to", collector.url],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert shipped.returncode == 0, shipped.stderr
    # The recorder may have tried once more, a moment ago.
    assert shown(wrapper, "--db", collector.ledger) == shown(wrapper)


def test_a_black_hole_holds_up_neither_the_job_nor_its_prompt(wrapper: Wrapper) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=16) as hole:
        port = hole.getsockname()[1]
        env = {**wrapper.env, "CARBONTRACK_SHIP_TOKEN": "secret"}
        options = ("--quiet", "--ship", f"http://127.0.0.1:{port}")
        job = wrapper.hold("sh", "-c", "exit 4", options=options, env=env)
        job.until_recorded(1)
        done = job.end()  # and its stderr is closed
        assert (done.returncode, done.stderr) == (4, "")
        assert wrapper.json("show", "last")["status"] == "failed"


def test_a_server_that_was_restarted_is_found_again(wrapper: Wrapper) -> None:
    tools.need(tools.POSTGRESQL)
    with private_server() as server:
        collector = Collector(wrapper, server.new_database())
        collector.start()
        token = collector.token("nlp")
        assert collector.post(encode(batch()), token)[0] == 204
        assert collector.get("/healthz")[0] == 200
        data = str(server.folder / "data")
        server.run("pg_ctl", "stop", "--wait", "--mode=immediate", "-D", data)
        assert collector.post(encode(batch(0, 120)), token)[0] == 503
        assert collector.get("/healthz")[0] == 503
        options = f"-c listen_addresses='' -k {server.folder}"
        server.run(
            *("pg_ctl", "start", "--wait", "-D", data, "-o", options),
            *("-l", str(server.folder / "log")),
        )
        status, held = collector.post(encode(batch(0, 120, ended=True)), token)
        assert (status, held["minutes"]) == (200, 2 * 2)
        said = collector.stop()
        assert said.count("the database cannot be used now: ") == 1


def test_what_is_too_old_goes_and_does_not_come_again(
    wrapper: Wrapper, postgres_url: str, tmp_path: Path
) -> None:
    """A run of ten days ago, all of which a node sends once more."""
    old = OLD.write(tmp_path / "old.db")
    team = url_of(postgres_url)
    merge(team, [str(old)])
    tables = tables_of(team)
    collector = Collector(wrapper, postgres_url)
    collector.start("--keep", "1s:7d,60s:8w")

    def metrics() -> str:
        text: str = collector.get("/metrics")[1]["text"]
        return text

    wait_until(lambda: "dropped_partitions_total 2.0\n" in metrics())
    wait_until(lambda: windows(team) == 0)  # those in no partition, too
    assert tables_of(team) == tables
    argv = [*CARBONTRACK, "db", "ship", "--to", collector.url, "--db", str(old)]
    argv += ["--seconds", "last"]
    env = {**wrapper.env, "CARBONTRACK_SHIP_TOKEN": collector.token("nlp")}
    done = subprocess.run(argv, env=env, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    minutes = windows(str(old), 60)  # seconds come by the minute
    assert f"late_rows_total {minutes}.0\n" in metrics(), "all seconds, and nothing else"
    said = f"the collector left out {minutes} rows of seconds and minutes: too old."
    assert said in done.stdout.splitlines()[1]
    assert windows(team) == 0
    assert windows(team, 60) == windows(str(old), 60) > 0
    assert tables_of(team) == tables
    assert verify(team) == []
    said = collector.stop().splitlines()
    assert sum(line.startswith("carbontrack: dropped seconds_") for line in said) == 2


def test_each_refusal_has_its_status_and_says_why(collector: Collector) -> None:
    token = collector.token("vision")
    good = encode(batch())
    assert collector.post(good, None)[0] == 401
    assert collector.post(good, "carbontrack_unknown")[0] == 401
    assert collector.post(good, token) == (
        403,
        {"error": "the token is of another project than the run", "version": VERSION},
    )
    nlp = collector.token("nlp")
    assert collector.post(good, nlp)[0] == 204
    assert collector.post(good, nlp)[0] == 204
    of_nobody = altered(lambda document: document["run"].update(project=None))
    status, answer = collector.post(of_nobody, token)
    assert (status, answer["error"]) == (403, "the run belongs to another project")
    status, answer = collector.post(altered(lambda document: document.update(version=99)), nlp)
    assert status == 409 and "version 99" in answer["error"]
    status, answer = collector.post(b"nonsense", nlp)
    assert (status, answer["error"]) == (422, "the body is not zlib data")
    assert collector.post(b"x" * (5 << 20), nlp)[0] in (413, 400)
    assert collector.post(good, nlp, "/v2/batches")[0] == 404
    assert "a batch was refused (403)" in collector.stop()


# When it writes, it makes a file and waits for another one.
_HELD = """
import time
from pathlib import Path
from carbontrack.collect import app, server
app._LONGEST_S = app._SILENT_S = server._ASKED_S = 600
take, folder = server.take, Path({folder!r})
def held(transaction, sent):
    replies = take(transaction, sent)
    (folder / "held").touch()
    while not (folder / "go-on").exists():
        time.sleep(0.01)
    return replies
server.take = held
from carbontrack.__main__ import main
main()
"""


def test_tokens_are_read_and_health_is_asked_while_a_batch_is_written(
    wrapper: Wrapper, collector: Collector, tmp_path: Path
) -> None:
    token = collector.token("nlp")
    collector.stop()
    collector.program = [sys.executable, "-P", "-c", _HELD.format(folder=str(tmp_path))]
    collector.start()
    body = encode(batch())
    with ThreadPoolExecutor(17) as pool:
        written = pool.submit(collector.post, body, token)
        wait_until((tmp_path / "held").exists)
        unknown = [pool.submit(collector.post, body, f"carbontrack_{n}") for n in range(8)]
        asked = [pool.submit(collector.get, "/healthz") for _ in range(8)]
        assert {one.result()[0] for one in unknown} == {401}
        assert {one.result()[0] for one in asked} == {200}
        (tmp_path / "go-on").touch()
        assert written.result()[0] == 204
    assert "the database cannot be used now" not in collector.stop()


def test_a_writer_neither_reads_nor_changes_the_rows_of_another_project(
    collector: Collector,
) -> None:
    """Whatever ids it knows or guesses; nor does it learn what that project has."""
    nlp, vision = (collector.token(project) for project in ("nlp", "vision"))
    assert collector.post(encode(batch(0, 120)), nlp)[0] == 204
    with closing(open_ledger(url_of(collector.ledger))) as ledger, ledger.begin() as transaction:
        before = content(transaction)
    sent = batch(0, 180, ended=True)
    own = replace(sent.run, project="vision", name="mine")
    other_id = "0199aaaa-0000-7000-8000-000000000001"
    of_other = tuple(replace(one, run_id=other_id) for one in sent.amendments)
    for foreign in (
        sent,
        replace(sent, run=own),
        replace(sent, run=replace(own, project=None)),
        replace(sent, run=replace(own, id=other_id), amendments=of_other),  # its recording
        replace(sent, run=own, recording=replace(sent.recording, id=other_id)),
    ):
        status, answer = collector.post(encode(foreign), vision)
        assert status == 403 and set(answer) == {"error", "version"}, answer
        assert "nlp" not in str(answer) and "mine" not in str(answer)
    own_run = replace(own, id=other_id)
    own_recording = replace(sent.recording, id=other_id)
    its_amendments = replace(sent, run=own_run, recording=own_recording)  # of the other's run
    assert collector.post(encode(its_amendments), vision)[0] == 422
    with closing(open_ledger(url_of(collector.ledger))) as ledger, ledger.begin() as transaction:
        assert content(transaction) == before
    status, held = collector.post(encode(replace(its_amendments, amendments=of_other)), vision)
    assert (status, held["minutes"]) == (200, 2 * 3), "the same devices, in a run of its own"


def test_a_batch_that_is_refused_is_set_aside_shown_and_sent_again(
    wrapper: Wrapper, collector: Collector
) -> None:
    """The token is of another project than the run."""
    tokens = {project: collector.token(project) for project in ("nlp", "vision")}
    assert wrapper.record(options=("--quiet", "--project", "nlp")).returncode == 0

    def ship(project: str, *options: str) -> subprocess.CompletedProcess[str]:
        env = {**wrapper.env, "CARBONTRACK_SHIP_TOKEN": tokens[project]}
        argv = [*CARBONTRACK, "db", "ship", "--to", collector.url, *options]
        return subprocess.run(argv, env=env, capture_output=True, text=True, check=False)

    refused = ship("vision")
    assert refused.returncode == 1
    assert "were refused and set aside: the token is of another project" in refused.stderr
    doctor = wrapper.ask("doctor")
    assert "a collector refused rows: the token is of another project" in doctor.stdout
    assert ship("nlp").stdout == "Shipped 0 rows in 0 requests.\n", "it is not sent by itself"
    again = ship("nlp", "--retry")
    assert "Of 1 recording something had been refused: sent again." in again.stdout
    assert shown(wrapper, "--db", collector.ledger) == shown(wrapper)
    assert "a collector refused" not in wrapper.ask("doctor").stdout


def test_a_recorder_leaves_what_its_token_may_not_write_to_one_whose_token_may(
    collector: Collector, tmp_path: Path
) -> None:
    """Jobs of two projects on one node; a run of one of them is removed then."""
    node = url_of(str(tmp_path / "node.db"))
    shippings = {}
    with closing(open_ledger(node)) as ledger:
        for number, project in enumerate(("nlp", "vision"), start=1):
            job = Recorder(ledger, replace(RECORDED, number=number, project=project))
            job.record(0, 100)
            job.finish(100)
            target = HttpTarget(address(collector.url), partial(str, collector.token(project)))
            shippings[project] = Shipping(node, target, NO_SECONDS, recording_id=job.id)
    nlp, vision = shippings.values()

    def there() -> set[str | None]:
        with open_reader(url_of(collector.ledger)).connect() as connection:
            return {run.project for run in read.list_runs(connection)}

    vision.ship_all()
    vision.ship_all()
    assert there() == {"vision"}
    nlp.ship_all()
    assert there() == {"nlp", "vision"}
    with open_reader(node).connect() as connection:
        removed = [run for run in read.list_runs(connection) if run.project == "nlp"]
    remove(node, removed)
    vision.ship_all()
    assert there() == {"nlp", "vision"}
    nlp.ship_all()
    assert there() == {"vision"}
    assert not list(set_aside.found(node))
    assert collector.stop().count("refused (403)") == 2, "a recording and a tombstone, once each"
    for shipping in shippings.values():
        shipping.close()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--ship", ""), "--ship is empty: is a variable unset?"),
        (("--ship", "collector:8477"), "--ship collector:8477: not an http or https address"),
        (("--ship", "ftp://collector"), "not an http or https address"),
        (("--ship", "http://collector:8477"), "http would send the token in clear text"),
        (("--ship", "https://me:secret@collector"), "an address has no user, token or query"),
        (("--ship", "https://collector/?token=secret"), "an address has no user, token or query"),
        (("--ship", "https://collector:99999"), "Port out of range"),
        (("--ship", "https://collector"), "there is no token to ship with"),
        (("--token", "secret"), "A token is never an argument"),
        (("--ship", "https://collector", "--ship-token=secret"), "A token is never an argument"),
    ],
)
def test_a_bad_address_is_one_line_before_the_job_starts(
    wrapper: Wrapper, options: tuple[str, ...], says: str
) -> None:
    done = wrapper.run("touch", str(wrapper.folder / "started"), options=("--quiet", *options))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert says in done.stderr and "secret" not in done.stderr
    assert not (wrapper.folder / "started").exists()


@pytest.mark.parametrize(
    ("environ", "words", "says"),
    [
        ({}, ("--to", "collector:8477"), "--to collector:8477: not an http or https address"),
        ({}, ("--to", "https://me:secret@c"), "--to https://…: an address has no user, token"),
        ({"CARBONTRACK_SHIP": "c:1"}, (), "CARBONTRACK_SHIP c:1: not an http or https address"),
        ({}, ("--token", "secret"), "A token is never an argument"),
        ({}, (), "no collector is named. Give --to URL, or set CARBONTRACK_SHIP"),
        ({}, ("--to", "https://c"), "there is no token to ship with. Set CARBONTRACK_SHIP_TOKEN"),
        ({"CARBONTRACK_SHIP_SECONDS": "long"}, ("--to", "https://c"), "SHIP_SECONDS 'long': "),
    ],
)
def test_mistakes_of_shipping_by_hand_are_one_line(
    wrapper: Wrapper, environ: dict[str, str], words: tuple[str, ...], says: str
) -> None:
    OLD.write(wrapper.ledger)
    argv = [*CARBONTRACK, "db", "ship", *words]
    done = subprocess.run(argv, env=wrapper.env | environ, text=True, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert says in done.stderr and "secret" not in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("CARBONTRACK_SHIP", "collector:8477", "CARBONTRACK_SHIP collector:8477: not an http"),
        ("CARBONTRACK_SHIP_SECONDS", "long", "CARBONTRACK_SHIP_SECONDS 'long': neither off nor"),
        ("CARBONTRACK_SHIP", "http://collector", "http would send the token in clear text"),
        ("CARBONTRACK_SHIP", "https://me:secret@c", "CARBONTRACK_SHIP https://…: an address has"),
        ("CARBONTRACK_SHIP_TOKEN", "two words", "CARBONTRACK_SHIP_TOKEN holds no token"),
        ("CARBONTRACK_SHIP_TOKEN", "", "there is no token to ship with"),
        ("CARBONTRACK_SHIP_TOKEN_FILE", "/nonexistent", "CARBONTRACK_SHIP_TOKEN_FILE /nonexistent"),
    ],
)
def test_a_mistake_of_the_environment_costs_the_shipping_and_not_the_job(
    wrapper: Wrapper, name: str, value: str, says: str
) -> None:
    """It is set for all jobs of a cluster."""
    token = {} if name.endswith("_FILE") else {"CARBONTRACK_SHIP_TOKEN": "a-secret"}
    around = {"CARBONTRACK_SHIP": "https://c", **token, name: value}
    done = wrapper.run("sh", "-c", "exit 7", env=wrapper.env | around)
    (line,) = warnings_in(done.stderr)
    assert done.returncode == 7
    assert line.startswith("carbontrack: nothing is shipped: ") and says in line
    assert "secret" not in line
    (run,) = wrapper.json("runs")["runs"]
    assert run["exit_code"] == 7


def test_the_collector_that_a_file_names_is_recorded_with_no_run(
    wrapper: Wrapper, collector: Collector
) -> None:
    token = collector.token("nlp")
    settings = wrapper.folder / "carbontrack.toml"
    settings.write_text(f'ship = "{collector.url}"\nzone = "FRA"\n')
    job = wrapper.hold(
        env={**wrapper.env, "CARBONTRACK_SHIP_TOKEN": token}, cwd=str(wrapper.folder)
    )
    job.until_recorded(1)
    job.end()
    there = wait_until(lambda: shown(wrapper, "--db", collector.ledger))
    assert there["facility"] == {"zone": "FRA"}
    settings.write_text('ship = "https://me:secret@collector"\n')
    job = wrapper.hold(options=(), cwd=str(wrapper.folder))
    job.until_recorded(1)
    done = job.end()
    assert "carbontrack.toml: ship https://…: an address has no user" in done.stderr
    settings.unlink()
    for file in wrapper.folder.rglob("*"):
        assert not file.is_file() or b"me:secret" not in file.read_bytes(), file


def test_a_token_is_read_from_a_file_and_an_empty_one_is_refused(wrapper: Wrapper) -> None:
    from carbontrack.errors import CarbontrackError
    from carbontrack.record import ship_to
    from carbontrack.record.plain_job import TOKEN_FILE

    file = wrapper.folder / "token"
    file.write_text("carbontrack_abc\n")
    assert ship_to.token_of({TOKEN_FILE: str(file)}) == "carbontrack_abc"
    for written in ("", "two words", "ключ"):
        file.write_text(written)
        with pytest.raises(CarbontrackError, match="holds no token"):
            ship_to.token_of({TOKEN_FILE: str(file)})
    with pytest.raises(CarbontrackError, match="not a regular file"):
        ship_to.token_of({TOKEN_FILE: os.fspath(wrapper.folder)})


def test_mistakes_of_a_collector_are_one_line(wrapper: Wrapper, ledger_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for options, says in (
            (("--listen", "8477"), "not HOST:PORT"),
            (("--listen", "http://0.0.0.0:8477"), "not HOST:PORT"),
            (("--keep", "7 days"), "--keep 7 days: invalid"),
            (("--token", "secret"), "A token is never an argument"),
            (("--listen", f"127.0.0.1:{port}"), "cannot be used"),
            (("--tls-cert", "a.pem"), "go together"),
            (("--tls-cert", "a.pem", "--tls-key", "b.pem"), "No such file"),
            (("--oldest-days", "0"), "must be above 0"),
        ):
            done = wrapper.ask("collect", *options, "--db", ledger_url)
            assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
            assert says in done.stderr
    for bare in ("db.example/carbontrack", "ada@db.example/carbontrack"):
        done = wrapper.ask("collect", "--listen", "127.0.0.1:0", "--db", bare)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert "for a server, write postgresql://USER@HOST/DATABASE" in done.stderr
    empty = wrapper.ask("collect", "token", "add", " ", "--db", ledger_url)
    assert "the project is empty" in empty.stderr
    unknown = wrapper.ask("collect", "token", "revoke", "ffff", "--db", ledger_url)
    assert "No token of this ledger begins with 'ffff'" in unknown.stderr
