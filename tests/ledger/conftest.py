"""Ledgers to test with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import Connection, Engine

from carbontrack.ledger import engine
from carbontrack.ledger.transaction import WritableLedger, open_ledger


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
