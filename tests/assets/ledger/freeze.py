"""Make a small ledger as a program with schema NNNN left it, from the rows in NNNN.sql.

Run once, when the revision is made: `python tests/assets/ledger/freeze.py NNNN`. The file NNNN.db
then stays as it is and is never made anew: it stands for the ledgers that people have.
"""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

from alembic import command
from sqlalchemy import create_engine

from carbontrack.ledger.migrations import config


def freeze(revision: str) -> None:
    place = Path(__file__).with_name(revision)
    engine = create_engine(f"sqlite:///{place}.db")
    with engine.begin() as connection:
        # A kilobyte for each table and index, not four.
        connection.exec_driver_sql("PRAGMA page_size=1024")
        command.upgrade(config(connection), revision)
    engine.dispose()
    ledger = sqlite3.connect(f"{place}.db")
    ledger.executescript(place.with_suffix(".sql").read_text())
    ledger.close()


if __name__ == "__main__":
    freeze(sys.argv[1])
