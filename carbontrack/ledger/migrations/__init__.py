"""The schema's history: an installed carbontrack brings any older ledger to its own schema."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection


def config(connection: Connection) -> Config:
    """An Alembic configuration that works on this connection, inside its transaction."""
    settings = Config()
    settings.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    settings.attributes["connection"] = connection
    return settings


def migrate(connection: Connection) -> None:
    """Run the revisions that this ledger has not seen."""
    command.upgrade(config(connection), "head")
