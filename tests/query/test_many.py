"""Many runs take as many queries as a few, whatever there is of them, in a file and on a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from carbontrack import config
from carbontrack.ledger import engine, imported, overlaps
from carbontrack.ledger.recorded_rows import Run
from carbontrack.ledger.url import ledger_url as url_of
from carbontrack.query import group, price, select
from carbontrack.query.by import values_of
from carbontrack.units import MS_PER_HOUR
from carbontrack.vocabulary import Method
from dashboards.live.view import View
from tests.fixtures.counted import counted
from tests.fixtures.many import KINDS, One, many, write_many
from tests.fixtures.postgres import PostgresServer
from tests.fixtures.runs import START_MS

BLOCKS = 6
LOSES = {2, 9}  # the kinds that lose work within an hour, whose windows are read run by run
SPAN_MS = START_MS + 2 * MS_PER_HOUR, START_MS + 26 * MS_PER_HOUR
FLAGS = config.flags(zone="FRA", price="aws:A100")


def of_each_kind(blocks: int) -> list[One]:
    return [one for one in many(KINDS * blocks) if one.kind not in LOSES]


@pytest.fixture(params=["sqlite", "postgresql"])
def new_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[list[One]], str]:
    """Makes ledgers that hold runs, on one database or the other."""

    def make(runs: list[One]) -> str:
        if request.param == "sqlite":
            url = url_of(str(tmp_path / f"{len(runs)}.db"))
        else:
            server: PostgresServer = request.getfixturevalue("postgres_server")
            url = url_of(server.new_database())
        write_many(url, runs)
        with engine.writing(url) as writer:
            a_price = {"book": "aws", "item": "A100", "version": "1", "unit": "gpu_hour"}
            also = {"price": 2.0, "currency": "USD", "as_of": "2026-01-01", "source": "a list"}
            imported.put_prices(writer, [a_price | also])
            hours: list[dict[str, Any]] = [
                {"zone": "FRA", "start_ms": START_MS + at * MS_PER_HOUR, "length_ms": MS_PER_HOUR,
                 "intensity_kg_per_kwh": 0.05 + at % 24 / 1000, "basis": "average",
                 "source": "a grid", "version": "2026"}
                for at in range(24 * 60)
            ]  # fmt: skip
            imported.put_intensity(writer, hours)
        return url

    return make


def asked(url: str, question: Callable[[Any, list[Run]], Any]) -> tuple[int, Any]:
    """How many queries a question about all runs takes, and its answer."""
    with engine.open_reader(url).connect() as connection:
        runs = select.choose(connection, [])
        with counted() as statements:
            answer = question(connection, runs)
    return len(statements), answer


def table(*by: str, span_ms: tuple[int, int] | None = None) -> Callable[[Any, list[Run]], Any]:
    def question(connection: Any, runs: list[Run]) -> Any:
        rows = price.estimates(connection, runs, FLAGS, list(Method), span_ms=span_ms)
        if not by:
            return rows, overlaps.recorded_twice(connection, runs)
        return group.grouped(connection, runs, rows, by, FLAGS, span_ms=span_ms)

    return question


@pytest.mark.parametrize(
    "question",
    [
        pytest.param(table(), id="table"),
        pytest.param(table(span_ms=SPAN_MS), id="range"),
        pytest.param(table("project", "host"), id="project host"),
        pytest.param(table("month", "user"), id="month user"),
        pytest.param(table("attempt", "tag:team"), id="attempt tag"),
        pytest.param(lambda c, runs: values_of(c, runs, "attempt"), id="values"),
    ],
)
def test_fifty_take_as_many_queries_as_five(
    new_ledger: Callable[[list[One]], str], question: Callable[[Any, list[Run]], Any]
) -> None:
    few, _ = asked(new_ledger(of_each_kind(2)), question)
    most, _ = asked(new_ledger(of_each_kind(BLOCKS)), question)
    assert most == few
    assert few <= 40


def test_each_of_many_is_as_it_is_alone(new_ledger: Callable[[list[One]], str]) -> None:
    url = new_ledger(many(3 * KINDS))

    def one_by_one(connection: Any, runs: list[Run]) -> list[Any]:
        methods = list(Method)
        return [row for run in runs for row in price.estimates(connection, [run], FLAGS, methods)]

    _, (together, _) = asked(url, table())
    queries, alone = asked(url, one_by_one)
    assert [row.row() for row in together] == [row.row() for row in alone]
    assert queries > 100
    losses = {row.label: row.lost_kwh for row in together}
    assert any(lost for lost in losses.values()), "some lost work"


def test_the_first_page_takes_as_many_for_each(new_ledger: Callable[[list[One]], str]) -> None:
    counts = []
    for blocks in (2, BLOCKS):
        view = View(new_ledger(of_each_kind(blocks)), FLAGS)
        with counted() as statements:
            shown = view.runs()
            sums = view.totals(by="project")
        view.close()
        counts.append(len(statements))
        assert len(shown["runs"]) == sums["summed"] == (KINDS - len(LOSES)) * blocks
    assert counts[0] == counts[1]
