"""A team's ledger is backed up and restored as docs/collector.md says, and nothing is missing."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from carbontrack.ledger.merge import merge
from carbontrack.ledger.shipped import take
from carbontrack.ledger.transaction import open_ledger
from carbontrack.ledger.url import ledger_url as url_of
from tests.collect.batches import batch
from tests.collect.conftest import PAGE
from tests.collect.test_collect import Collector
from tests.collect.test_shipped import content
from tests.fixtures.postgres import PostgresServer
from tests.fixtures.wrap import CARBONTRACK, Wrapper
from tests.ledger.test_retain import OLD, YOUNG

pytestmark = pytest.mark.usefixtures("patient")

_RESTORED = "carbontrack_restored"


def commands() -> list[str]:
    """How a dump is made, and how it is restored."""
    (section,) = re.findall(
        r"^## Backup and restore\n(.*?)^## ", PAGE.read_text(), re.DOTALL | re.MULTILINE
    )
    return re.findall(r"```bash\n(.*?)```", section, re.DOTALL)


@pytest.fixture
def shell(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[list[str]]:
    """Runs on the server's machine, as its superuser; the database that is restored goes."""
    yield ["sh", "-ec"]
    postgres_server.sql(f"drop database if exists {_RESTORED} with (force)")


@pytest.mark.parametrize(
    "without", ["", "--exclude-table-data='seconds_*' --exclude-table-data=odd_seconds"]
)
def test_a_restored_ledger_is_the_same_and_takes_what_comes(
    granted: dict[str, str],
    postgres_server: PostgresServer,
    shell: list[str],
    wrapper: Wrapper,
    tmp_path: Path,
    without: str,
) -> None:
    team = url_of(granted["owner"])
    merge(team, [str(part.write(tmp_path / f"{part.one.name}.db")) for part in (OLD, YOUNG)])
    with closing(open_ledger(team)) as ledger, ledger.begin() as transaction:
        take(transaction, [(batch(0, 100), "nlp")])
        take(transaction, [(batch(60, 120, ended=True), "nlp")])
        before = content(transaction)
    env = {
        **os.environ,
        "PATH": f"{postgres_server.binaries}:{os.environ['PATH']}",
        "PGHOST": str(postgres_server.folder),
        "PGUSER": postgres_server.user,
        "CARBONTRACK_DB": granted["owner"],
    }
    for command in commands():
        line = command.replace("--jobs=4 --file", f"--jobs=4 {without} --file")
        done = subprocess.run([*shell, line], env=env, cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")

    def restored(role: str) -> str:
        return granted[role].replace("/carbontrack?", f"/{_RESTORED}?")

    words = ("table", "--format", "json")
    here = wrapper.ask(*words, "--db", granted["owner"])
    there = wrapper.ask(*words, "--db", restored("reader"))
    assert (there.returncode, there.stdout) == (0, here.stdout)
    verified = wrapper.ask("db", "verify", "--db", restored("owner"))
    assert verified.returncode == 0, verified.stdout
    with closing(open_ledger(url_of(restored("owner")))) as ledger, ledger.begin() as transaction:
        if not without:
            assert content(transaction) == before
    again = Collector(wrapper, restored("collector"))
    again.start("--keep", "all")
    wrapper.record()
    token = wrapper.ask("collect", "token", "add", "nlp", "--db", restored("owner"))
    env = {**wrapper.env, "CARBONTRACK_SHIP_TOKEN": token.stdout.split()[-1]}
    for options in ((), ("--everything",)):
        argv = [*CARBONTRACK, "db", "ship", "--to", again.url, *options]
        done = subprocess.run(argv, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        shown = wrapper.ask("show", "last", "--format", "json", "--db", restored("reader"))
        assert wrapper.json("show", "last")["id"] == json.loads(shown.stdout)["id"]
        if not options:  # as if the ledger had been restored only now
            newest = "select max(started_ms) from runs"
            postgres_server.sql(f"delete from runs where started_ms = ({newest})", _RESTORED)
    again.stop()
    assert wrapper.ask("db", "verify", "--db", restored("owner")).returncode == 0
