"""The migrations lead to the models, everywhere, from every ledger that was ever written."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, Table, inspect, text

from carbontrack.ledger import engine, migrations
from carbontrack.ledger.models import Base
from carbontrack.ledger.transaction import open_ledger
from tests.fixtures.postgres import PostgresServer

ROOT = Path(__file__).parents[2]


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Engine]:
    writer = engine.open_writer(ledger_url)
    yield writer
    writer.dispose()


def tables_on(connection: Connection) -> list[Table]:
    """Those of the models that are tables there."""
    tables = Base.metadata.sorted_tables
    return [one for one in tables if one.info.get("view_on") != connection.dialect.name]


def shape(connection: Connection) -> dict[str, object]:
    """Whatever the database knows of our tables."""
    known = inspect(connection)
    found: dict[str, object] = {
        table: {
            "columns": [
                (c["name"], repr(c["type"]), c["nullable"], c["default"], c.get("computed"))
                for c in known.get_columns(table)
            ],
            "primary key": known.get_pk_constraint(table),
            "foreign keys": sorted(map(repr, known.get_foreign_keys(table))),
            "unique": known.get_unique_constraints(table),
            "indexes": sorted(map(repr, known.get_indexes(table))),
            "checks": known.get_check_constraints(table),
        }
        for table in (table.name for table in tables_on(connection))
    }
    if connection.dialect.name == "sqlite":
        rowless = "select name from pragma_table_list where wr order by name"
        found["without rowid"] = connection.scalars(text(rowless)).all()
    return found


def test_the_schema_in_sql_is_what_the_migrations_make() -> None:
    made = (ROOT / "carbontrack/ledger/schema.sql").read_text()
    assert made == f"{migrations.schema_sql()}\n", "make schema writes it"


def test_a_file_that_a_recorder_makes_is_as_migrations_make_it(tmp_path: Path) -> None:
    ours, theirs = (str(tmp_path / name) for name in ("ours.db", "theirs.db"))
    open_ledger(engine.ledger_url(ours)).close()
    engine.open_writer(engine.ledger_url(theirs)).dispose()
    with closing(sqlite3.connect(ours)) as a, closing(sqlite3.connect(theirs)) as b:
        for asked in ("select * from alembic_version", "select type, name, sql from sqlite_master"):
            assert a.execute(asked).fetchall() == b.execute(asked).fetchall()


def test_a_new_ledger_is_what_the_models_say(ledger: Engine) -> None:
    with ledger.connect() as connection:
        opts = {"compare_type": True, "include_object": migrations.ours_only(connection)}
        context = MigrationContext.configure(connection, opts=opts)
        assert compare_metadata(context, Base.metadata) == []


def test_migrations_and_models_make_the_same_tables(
    ledger: Engine, ledger_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if ledger.dialect.name == "sqlite":
        other = f"sqlite:///{tmp_path / 'models.db'}"
        (tmp_path / "models.db").touch()
    else:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        other = engine.ledger_url(server.new_database())
    made = engine.connect(other)
    with made.begin() as connection:
        Base.metadata.create_all(connection, tables_on(connection))
    with made.connect() as from_models, ledger.connect() as from_migrations:
        assert shape(from_migrations) == shape(from_models)
    made.dispose()


def test_windows_have_the_same_columns_on_both_databases(ledger: Engine) -> None:
    """As a table of a file, and as a view on a server."""
    with ledger.connect() as connection:
        columns = inspect(connection).get_columns("windows")
        found = [(one["name"], one["type"].compile(ledger.dialect)) for one in columns]
    columns = Base.metadata.tables["windows"].columns
    assert found == [(one.name, one.type.compile(ledger.dialect)) for one in columns]


def test_head_is_the_newest_revision() -> None:
    scripts = ScriptDirectory.from_config(Config(str(ROOT / "alembic.ini")))
    assert scripts.get_heads() == [engine.HEAD]
    # Revisions are compared as text, so they must sort as they follow each other.
    revisions = [script.revision for script in scripts.walk_revisions()]
    assert revisions == sorted(revisions, reverse=True)


def alembic(command: str, url: str) -> subprocess.CompletedProcess[str]:
    """Alembic as a developer runs it in a checkout."""
    return subprocess.run(
        [sys.executable, "-m", "alembic", *command.split()],
        cwd=ROOT,
        env={**os.environ, "CARBONTRACK_DB": url},
        capture_output=True,
        text=True,
        check=False,
    )


def test_alembic_works_in_a_checkout(ledger_url: str) -> None:
    assert alembic("upgrade head", ledger_url).returncode == 0
    done = alembic("check", ledger_url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No new upgrade operations detected" in done.stdout
    with engine.open_reader(ledger_url).connect() as connection:
        assert engine.revision_of(connection, ledger_url) == engine.HEAD


def test_what_others_keep_in_the_same_database_is_left_alone(postgres_url: str) -> None:
    url = engine.ledger_url(postgres_url)
    made = engine.connect(url)
    with made.begin() as connection:
        connection.execute(text("create table theirs (x int)"))
    made.dispose()
    writer = engine.open_writer(url)
    with writer.connect() as connection:
        assert inspect(connection).has_table("theirs")
        assert inspect(connection).has_table("windows")
    writer.dispose()
