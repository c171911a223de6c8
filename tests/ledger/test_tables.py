"""The table of tables against SQLAlchemy's models, and so the migrations, and itself."""

from __future__ import annotations

import dataclasses
import json
import math
from enum import IntFlag, StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import JSON, Boolean, UniqueConstraint
from sqlalchemy import Table as ModelTable

from carbontrack.ledger import tables
from carbontrack.ledger.models import Array, Base, Json
from carbontrack.ledger.recorded_rows import Event, Step
from carbontrack.ledger.tables import EVENTS, RECORDINGS, RUNS, STEPS, TABLES, WINDOWS, Table, plain
from carbontrack.vocabulary import Status
from tests.fixtures.runs import Recorded, recording_of

ONE = Recorded(count=2)


def test_they_are_those_of_the_models() -> None:
    assert {table.name for table in TABLES} == set(Base.metadata.tables)
    order = [table.name for table in TABLES]
    for table in TABLES:
        referred = {key.column.table.name for key in model(table).foreign_keys}
        assert all(order.index(name) < order.index(table.name) for name in referred)


def model(table: Table[object]) -> ModelTable:
    return Base.metadata.tables[table.name]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_each_has_the_columns_of_its_model(table: Table[object]) -> None:
    columns = model(table).columns
    serial = () if table.serial is None else (table.serial,)
    assert sorted((*table.columns, *table.computed, *serial)) == sorted(columns.keys())
    assert {column.name for column in columns if column.computed is not None} == set(table.computed)
    assert {c.name for c in columns if isinstance(c.type, Boolean)} == table.booleans
    is_json = {column.name for column in columns if isinstance(column.type, (JSON, Json))}
    assert is_json == {table.column_of.get(name, name) for name in table.json}
    assert {column.name for column in columns if isinstance(column.type, Array)} == table.arrays


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_each_has_the_key_of_its_model(table: Table[object]) -> None:
    primary = {column.name for column in model(table).primary_key}
    if table.serial is None:
        assert primary == set(table.key)
        return
    assert primary == {table.serial}
    uniques = [c for c in model(table).constraints if isinstance(c, UniqueConstraint)]
    assert [{column.name for column in unique.columns} for unique in uniques] == [set(table.key)]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_its_fields_are_those_of_its_row_and_known_once(table: Table[object]) -> None:
    own = {field.name for field in dataclasses.fields(table.row)}  # type: ignore[arg-type]
    assert set(table.fields) <= own
    assert set(table.json) | set(table.read_as) | set(table.column_of) <= set(table.fields)
    assert len(set(table.columns)) == len(table.columns)


def test_a_row_that_is_written_is_read() -> None:
    def stored(table: Table[object], columns: dict[str, object]) -> dict[str, object]:
        """As SQLAlchemy gives a row: JSON is parsed."""
        return {k: json.loads(str(v)) if k in table.json else v for k, v in columns.items()}

    run = dataclasses.replace(ONE.begun, heartbeat_ms=None)
    assert RUNS.read(stored(RUNS, RUNS.written(run))) == run
    recording = recording_of(ONE.run)
    recorded = RECORDINGS.read(stored(RECORDINGS, RECORDINGS.written(recording, run_key=1)))
    assert (recorded, recorded.status) == (recording, Status.COMPLETED)
    _, window = ONE.windows[0]
    assert WINDOWS.read(WINDOWS.written(window, recording_key=1, sensor_key=2)) == window
    step = Step(1, 2, loss=1.5, extra={"a": [1, None]})
    assert STEPS.read(stored(STEPS, STEPS.written(step, recording_key=1))) == step
    event = Event(1, "gap", "said", data={"é": 1})
    assert EVENTS.read(stored(EVENTS, EVENTS.written(event, recording_key=1, number=2))) == event


def test_statements_name_every_column_and_never_a_key_twice() -> None:
    assert tables.DEVICES.insert_once == (
        'insert into "devices" ("uuid", "kind", "name", "mig_parent") '
        "values (:uuid, :kind, :name, :mig_parent) "
        'on conflict ("uuid") do nothing'
    )
    assert tables.PRICES.upsert.endswith(
        'on conflict ("book", "key", "version") do update set "unit" = excluded."unit", '
        '"price" = excluded."price", "currency" = excluded."currency", '
        '"as_of" = excluded."as_of", "source" = excluded."source"'
    )


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.sampled_from([Status.FAILED, IntFlag("Bits", "A B")(3)]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=10,
)


@given(value=values)
def test_what_is_stored_is_plain_whatever_it_was(value: object) -> None:
    text = json.dumps(plain(value), allow_nan=False)
    assert "\\u0000" not in text
    text.encode()
    assert plain(plain(value)) == plain(value)


def test_subclasses_are_stored_as_what_they_are() -> None:
    class Word(StrEnum):
        A = "a"

    assert type(plain(Word.A)) is str
    assert type(plain(IntFlag("Bits", "A B")(3))) is int
    assert plain(True) is True
    assert plain(math.inf) == "inf"
