"""A server that acknowledges everything and never answers holds up nothing, and nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fixtures.postgres import PostgresServer
from tests.fixtures.proxy import Proxy
from tests.fixtures.wrap import Wrapper, wait_until
from tests.record.test_manners import processes_of


@pytest.fixture
def proxy(postgres_server: PostgresServer) -> Iterator[Proxy]:
    proxy = Proxy(postgres_server.folder / ".s.PGSQL.5432")
    proxy.start()
    yield proxy
    proxy.stop()


@pytest.fixture
def url(postgres_server: PostgresServer, proxy: Proxy) -> str:
    """The address of an empty database behind the proxy."""
    name = postgres_server.new_database().rpartition("@/")[2].partition("?")[0]
    return f"postgresql://{postgres_server.user}@127.0.0.1:{proxy.port}/{name}"


def shown(wrapper: Wrapper, url: str) -> dict[str, Any]:
    done = wrapper.ask("show", "last", "--db", url, "--format", "json")
    found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
    return found


def test_the_run_goes_to_the_journal_and_is_recovered(
    wrapper: Wrapper, proxy: Proxy, url: str
) -> None:
    job = wrapper.hold("sh", "-c", "exit 3", options=("--name", "silent", "--db", url))
    wait_until(lambda: shown(wrapper, url).get("duration_s", 0) > 2)
    proxy.silent = True
    job.until_said("the ledger has not answered for")
    done = job.end()  # when its stderr is closed
    assert done.returncode == 3
    wait_until(lambda: not processes_of(wrapper.folder))
    assert len(list(wrapper.folder.glob("data/carbontrack/journals/*/*.jsonl"))) == 1

    proxy.silent = False
    recovered = wrapper.ask("db", "recover", "--db", url)
    assert "Recovered 1 run: silent." in recovered.stdout, recovered.stderr
    run = shown(wrapper, url)
    assert (run["status"], run["exit_code"]) == ("failed", 3)
    assert run["energy_kwh"] > 0


def test_a_server_that_answers_again_is_found_while_the_job_runs(
    wrapper: Wrapper, proxy: Proxy, url: str
) -> None:
    job = wrapper.hold("true", options=("--name", "back", "--db", url))
    wait_until(lambda: shown(wrapper, url))
    proxy.silent = True
    job.until_said("the ledger has not answered for")
    proxy.silent = False
    job.until_said("the ledger is written again; nothing was lost")
    job.end()
    wait_until(lambda: shown(wrapper, url)["status"] == "completed")
