"""A team's ledger whose roles are those of docs/collector.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from carbontrack.record import collector as http_collector
from carbontrack.record import server as sql_server
from tests.fixtures.postgres import PostgresServer
from tests.fixtures.wrap import PATIENCE_S, Wrapper

PAGE = Path(__file__).parents[2] / "docs" / "collector.md"
_DATABASE = "carbontrack"
_ROLES = ("carbontrack_owner", "carbontrack_collector", "carbontrack_reader")


def statements() -> tuple[str, str]:
    """A superuser's, and the owner's."""
    (roles,) = re.findall(r"^## Roles\n(.*?)^## ", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    superusers, owners = re.findall(r"```sql\n(.*?)```", roles, re.DOTALL)
    return superusers, owners


@pytest.fixture
def urls(postgres_server: PostgresServer) -> Iterator[dict[str, str]]:
    """The ledger's address as each role has it, by the last word of its name; nothing is granted
    yet.
    """
    for statement in statements()[0].split(";\n"):
        if statement.strip():
            postgres_server.sql(statement)
    url = postgres_server.url(_DATABASE)
    yield {
        role.partition("_")[2]: url.replace(f"//{postgres_server.user}@", f"//{role}@")
        for role in _ROLES
    }
    postgres_server.sql(f"drop database {_DATABASE} with (force)")
    postgres_server.sql(f"drop role {', '.join(_ROLES)}")


@pytest.fixture
def granted(urls: dict[str, str], wrapper: Wrapper) -> dict[str, str]:
    """With a schema and the roles' rights."""
    done = wrapper.ask("db", "upgrade", "--db", urls["owner"])
    assert done.returncode == 0, done.stderr
    run(urls["owner"], statements()[1])
    return urls


def run(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is shipped by a command is waited for, however busy the machine is."""
    monkeypatch.setattr(http_collector, "DEADLINE_S", PATIENCE_S)
    monkeypatch.setattr(sql_server, "_DEADLINE_S", PATIENCE_S)
