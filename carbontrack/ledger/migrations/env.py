"""Alembic's entry: on the connection that carbontrack gives, or for developers on their ledger."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from carbontrack.ledger.migrations import ours_only
from carbontrack.ledger.models import Base


def go(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
        include_object=ours_only(connection),
    )
    with context.begin_transaction():
        context.run_migrations()


shared = context.config.attributes.get("connection")
if shared is not None:
    go(shared)
else:
    from carbontrack.ledger import engine, sqlite, url

    address = url.ledger_url()
    if path := url.sqlite_path(address):
        sqlite.create_file(path)
    made = engine.connect(address)
    with made.begin() as own:
        go(own)
    made.dispose()
