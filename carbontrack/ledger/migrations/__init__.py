"""The schema's history: an installed carbontrack brings any older ledger to its own schema."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, text


def config(connection: Connection) -> Config:
    """An Alembic configuration that works on this connection, inside its transaction."""
    settings = Config()
    settings.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    settings.attributes["connection"] = connection
    return settings


def migrate(connection: Connection) -> None:
    """Run the revisions that this ledger has not seen."""
    command.upgrade(config(connection), "head")


def schema_sql() -> str:
    """What all of them make of an empty SQLite file, as `make schema` writes it to `schema.sql`."""
    memory = create_engine("sqlite://")
    with memory.begin() as connection:
        migrate(connection)
        made = connection.scalars(text("select sql from sqlite_master where sql is not null")).all()
        revision = connection.scalar(text("select version_num from alembic_version"))
    memory.dispose()
    insert = f"INSERT INTO alembic_version (version_num) VALUES ('{revision}')"
    return ";\n".join([*made, insert]) + ";"
