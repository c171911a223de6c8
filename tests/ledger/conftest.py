"""Ledgers to test with: new ones, and those that an older program left."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Connection, Engine

from carbontrack.ledger import engine
from carbontrack.ledger.migrations import config
from carbontrack.ledger.transaction import WritableLedger, open_ledger
from carbontrack.ledger.url import sqlite_path

ASSETS = Path(__file__).parents[1] / "assets/ledger"


@pytest.fixture
def writer(ledger_url: str) -> Iterator[Engine]:
    """A new ledger, open for writing."""
    opened = engine.open_writer(ledger_url)
    yield opened
    opened.dispose()


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[WritableLedger]:
    """The same ledger, open as a recorder opens it."""
    with closing(open_ledger(ledger_url)) as opened:
        yield opened


@pytest.fixture
def reader(ledger_url: str, writer: Engine) -> Iterator[Connection]:
    """The same ledger, open for reading."""
    with engine.open_reader(ledger_url).connect() as connection:
        yield connection


@pytest.fixture
def leave_old(ledger_url: str) -> Callable[[str], str]:
    """Put a ledger of an older schema, with rows, at `ledger_url`."""

    def leave(revision: str) -> str:
        path = sqlite_path(ledger_url)
        if path is not None:
            shutil.copy(ASSETS / f"{revision}.db", path)
            return ledger_url
        old = engine.connect(ledger_url)
        with old.begin() as connection:
            command.upgrade(config(connection), revision)
            connection.exec_driver_sql((ASSETS / f"{revision}.sql").read_text())
        old.dispose()
        return ledger_url

    return leave
