"""The roles of a team's ledger, as docs/collector.md makes them: each can do its work, no more."""

from __future__ import annotations

import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from carbontrack.ledger.batch import TOMBSTONES_PATH, encode, encode_tombstone
from carbontrack.ledger.merge import merge
from carbontrack.ledger.rows import Tombstone
from carbontrack.ledger.url import ledger_url as url_of
from carbontrack.record import server as by_sql
from carbontrack.units import now_ms
from tests.collect.batches import batch
from tests.collect.conftest import run, statements
from tests.collect.test_collect import Collector
from tests.dashboards.live.conftest import Server
from tests.fixtures import documents
from tests.fixtures.postgres import PostgresServer
from tests.fixtures.wrap import CARBONTRACK, Wrapper, wait_until
from tests.ledger.test_retain import OLD

pytestmark = pytest.mark.usefixtures("patient")


@pytest.fixture
def collector(granted: dict[str, str], wrapper: Wrapper, tmp_path: Path) -> Iterator[Collector]:
    """On a ledger with a run of ten days ago, run by the collector's role."""
    merge(url_of(granted["owner"]), [str(OLD.write(tmp_path / "old.db"))])
    one = Collector(wrapper, granted["collector"])
    one.start()
    yield one
    one.stop()


def test_the_collectors_role_takes_batches_and_drops_what_is_old(
    collector: Collector, granted: dict[str, str], wrapper: Wrapper
) -> None:
    made = wrapper.ask("collect", "token", "add", "nlp", "--db", granted["owner"])
    token = made.stdout.split()[-1]
    assert collector.post(encode(batch(0, 60)), token)[0] == 204
    assert collector.post(encode(batch(60, 100)), token)[0] == 204
    assert collector.post(encode(batch(60, 120, ended=True)), token)[0] == 200
    wait_until(lambda: "dropped_partitions_total 2.0\n" in collector.get("/metrics")[1]["text"])
    assert "retention_failures_total 0.0\n" in collector.get("/metrics")[1]["text"]
    sent = by_sql.Server(url_of(granted["collector"])).send(
        batch(ended=True, run="0199aaaa-0000-7000-8000-000000000002")
    )
    assert sent.status == 200, sent.reason
    tombstone = Tombstone(batch().run.id, now_ms(), "ada", "nlp")
    assert collector.post(encode_tombstone(tombstone), token, TOMBSTONES_PATH)[0] == 204
    wait_until(lambda: rows(granted["owner"], "runs") == 2)
    wait_until(lambda: "is deleted" in collector.said)
    collector.stop()
    collector.start()


def rows(url: str, table: str) -> int:
    with psycopg.connect(url) as connection:
        found = connection.execute(f"select count(*) from {table}".encode()).fetchone()
    return 0 if found is None else int(found[0])


@pytest.mark.parametrize(
    "statement",
    [
        "drop table runs",
        "drop table seconds",
        "truncate hours",
        "alter table runs drop column name",
        "create table mine (one integer)",
        "delete from tokens",
        "delete from imports",
        "update tombstones set time_ms = 0",
        "update events set message = ''",
        "update amendments set time_ms = 0",
        "insert into tokens (hash, project, made_ms) values ('x', 'vision', 1)",
        "update tokens set revoked_ms = null",
        "update alembic_version set version_num = '9999'",
        "select drop_partition('seconds_' || to_char(now() at time zone 'UTC', 'YYYYMMDD'))",
        "select drop_partition('runs')",
        "create or replace function make_partitions(wanted text, starts_ms bigint[]) "
        "returns void language sql as $$ select $$",
    ],
)
def test_the_collectors_role_can_do_nothing_else(granted: dict[str, str], statement: str) -> None:
    with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.CheckViolation)):
        run(granted["collector"], statement)


def test_the_readers_role_sees_what_there_is_and_writes_nothing(
    granted: dict[str, str], wrapper: Wrapper, tmp_path: Path
) -> None:
    merge(url_of(granted["owner"]), [str(OLD.write(tmp_path / "old.db"))])
    owner, reader = (("--db", granted[name]) for name in ("owner", "reader"))
    for words in (
        ("table",),
        ("show", "last"),
        ("runs",),
        ("explain", "last"),
        ("db", "verify"),
        ("db", "status"),
    ):
        done = wrapper.ask(*words, "--format", "json", *reader)
        assert done.returncode == 0, done.stderr
        expected = wrapper.ask(*words, "--format", "json", *owner).stdout
        assert done.stdout == expected.replace("carbontrack_owner", "carbontrack_reader")
    with psycopg.connect(granted["reader"]) as grafana:
        assert grafana.execute("select count(*) from windows where level = 1").fetchone() == (520,)
        query = "select count(*) from windows_between(60, 0, 1::bigint << 50)"
        assert grafana.execute(query).fetchone() is not None
    server = Server(wrapper, reader).start()
    for path in ("api/runs", "api/totals", "api/fleet"):
        with urllib.request.urlopen(server.address + path) as answer:
            assert answer.status == 200
    server.stop()
    amended = wrapper.ask("amend", "last", "--name", "mine", *reader)
    assert (amended.returncode, amended.stderr.count("\n")) == (2, 1), amended.stderr
    assert "permission denied" in amended.stderr and "docs/collector.md" in amended.stderr
    for statement in (
        "update runs set name = 'mine'",
        "delete from hours",
        "select hash from tokens",
        "select make_partitions('seconds', '{0}')",
        "select drop_partition('seconds_20200101')",
        "create table mine (one integer)",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            run(granted["reader"], statement)


def test_the_role_that_grafanas_page_makes_sees_the_runs_and_no_token(
    granted: dict[str, str], postgres_server: PostgresServer
) -> None:
    (block,) = documents.blocks("../dashboards/grafana/README.md", "sql")
    role, *rights = (one for one in block.split(";\n") if one.strip())
    superuser = postgres_server.url(granted["owner"].rpartition("/")[2].partition("?")[0])
    run(superuser, role)
    try:
        for right in rights:
            run(granted["owner"], right)
        grafana = granted["reader"].replace("//carbontrack_reader@", "//grafana@")
        run(grafana, "select * from runs")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            run(grafana, "select hash from tokens")
    finally:
        run(superuser, "drop owned by grafana")
        run(superuser, "drop role grafana")


def test_a_collector_without_the_rights_says_so_before_it_listens(
    urls: dict[str, str], wrapper: Wrapper
) -> None:
    """Of an empty database, of a schema, with all but one, and as a reader."""
    port = 1  # which nobody but root could listen on, if it came to that

    def starts(role: str) -> subprocess.CompletedProcess[str]:
        argv = [*CARBONTRACK, "collect", "--listen", f"127.0.0.1:{port}", "--db", urls[role]]
        done = subprocess.run(argv, env=wrapper.env, text=True, capture_output=True)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
        assert "docs/collector.md" in done.stderr
        return done

    assert "permission denied for schema public" in starts("collector").stderr
    assert wrapper.ask("db", "upgrade", "--db", urls["owner"]).returncode == 0
    assert "permission denied for table alembic_version" in starts("collector").stderr
    run(urls["owner"], statements()[1])
    said = starts("reader").stderr
    assert "The role carbontrack_reader lacks " in said and " more rights in postgresql" in said
    create = "create on schema public"
    run(urls["owner"], f"revoke {create} from pg_database_owner")
    assert f"lacks an owner of the ledger (carbontrack_owner) with {create}" in (
        starts("collector").stderr
    )
    run(urls["owner"], f"grant {create} to pg_database_owner")
    for revoked, lacks in (
        ("update on live", "update on live"),
        ("usage on sequence runs_key_seq", "usage on the keys of runs"),
        ("execute on function drop_partition(text)", "execute on drop_partition(text)"),
    ):
        run(urls["owner"], f"revoke {revoked} from carbontrack_collector")
        assert f"The role carbontrack_collector lacks {lacks} in " in starts("collector").stderr
        run(urls["owner"], f"grant {revoked} to carbontrack_collector")
