"""The schema's history: an installed carbontrack brings any older ledger to its own schema."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def ours_only(connection: Connection) -> Callable[..., bool]:
    """Which tables Alembic compares with the models. A database may hold others (a user's, an
    extension's), and of ours what is a view there, with the tables behind it.
    """
    from carbontrack.ledger.models import Base

    views = {
        table.name
        for table in Base.metadata.sorted_tables
        if table.info.get("view_on") == connection.dialect.name
    }

    def is_ours(_: Any, name: str | None, kind: str, reflected: bool, compared: Any) -> bool:
        return kind != "table" or (name in Base.metadata.tables and name not in views)

    return is_ours


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
