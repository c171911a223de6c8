"""The Grafana boards of a fleet and a project: their numbers are those of `carbontrack table`, and
their names, as that of a run, those of `carbontrack runs`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from carbontrack.ledger import engine, kept_overlaps, live, read
from carbontrack.ledger.retain import roll_hours
from carbontrack.ledger.transaction import open_ledger
from carbontrack.query.by import NO_GROUP
from carbontrack.vocabulary import UNATTRIBUTED, RunKind
from dashboards import grafana_boards
from dashboards.live.fleet import fleet_of
from tests.fixtures.command import Command
from tests.fixtures.fleet import nodes_of, write_fleet
from tests.fixtures.runs import START_MS
from tests.ledger.test_overlaps import put, recorded, run_at

BOARDS = {name: json.loads(text) for name, text in grafana_boards.texts().items()}
FLEET, PROJECT = (
    {panel["title"]: panel["targets"][0]["rawSql"] for panel in BOARDS[name]["panels"]}
    for name in ("fleet.json", "project.json")
)
CHOICES = {
    one["name"]: one["query"] for board in BOARDS.values() for one in board["templating"]["list"]
}
FACTORS = {"pue": "1.5", "intensity": "0.4"}
GIVEN = ("--pue", "1.5", "--intensity", "0.4")
FAR = ("--name", "far", "--device", "A100", "--gpu-hours", "3", "--energy", "2 kWh")
Ask = Callable[..., list[Any]]
# Jobs and watches of two nodes that read the same devices, or instances of one, over the border of
# two hours:
# (number, watch, project, user, host, devices, from and to in s)
RUNS = (
    (1, False, "nlp", "ada", "a", (0, 1), 3400, 3700),
    (2, False, "vision", "bob", "a", (1,), 3650, 3800),
    (3, False, "nlp", "bob", "a", (0, 1), 3690, 3900),
    (4, False, "nlp", "bob", "b", (2,), 3500, 3640.5),
    (5, False, "late", "ada", "b", (3,), 3300, 3500),
    (8, False, "nlp", "ada", "b", ("MIG-3-3",), 3450, 3620),
    (9, False, "vision", "bob", "b", ("MIG-3-4",), 3400, 3660),
    (10, False, "nlp", "ada", "b", ("MIG-3-4",), 3550, 3750),
    (6, True, None, "root", "a", (0, 1), 3300, 4000),
    (7, True, None, "root", "b", (2, 3), 3200, 3700),
)


@pytest.fixture
def ask(postgres_url: str, command: Command) -> Iterator[Ask]:
    """The rows of a panel's SQL."""
    with closing(open_ledger(postgres_url)) as ledger:
        for number, watch, project, user, host, devices, start_s, end_s in RUNS:
            kind = RunKind.WATCH if watch else RunKind.JOB
            run = run_at(number, start_s, kind=kind, project=project, user=user, name=f"r{number}")
            uuids = [at if isinstance(at, str) else f"GPU-{at}" for at in devices]
            put(ledger, run, recorded(run, start_s, end_s, host), uuids)
        kept_overlaps.keep(ledger, range(1, len(RUNS) + 1))
        with ledger.begin() as transaction:  # one of two devices: they are not alike
            half = "update sensors set share = 0.5 where key = 1 returning key"
            assert list(transaction.ask(half, {}))
        roll_hours(ledger)
    assert command("amend", "r5", "--project", "nlp", "--db", postgres_url).code == 0
    words = ("--start", "2026-05-28T20:30Z", "--end", "2026-05-28T21:45Z", "--project", "vision")
    assert command("add", *FAR, *words, "--db", postgres_url).code == 0
    with engine.open_reader(postgres_url).connect() as connection:

        def rows(sql: str, hours: int = 2, **values: str) -> list[Any]:
            sql = expanded(sql, START_MS // 1000, START_MS // 1000 + hours * 3600, values)
            return [dict(row) for row in connection.execute(text(sql)).mappings()]

        yield rows


def expanded(sql: str, from_s: int, to_s: int, values: dict[str, str]) -> str:
    """As Grafana sends it: its macros and the board's variables filled in."""
    sql = sql.replace("$__unixEpochFrom()", str(from_s)).replace("$__unixEpochTo()", str(to_s))
    known = FACTORS | values
    sql = re.sub(r"\$\{(\w+):sqlstring\}", lambda match: f"'{known[match[1]]}'", sql)
    assert "$" not in sql, "every macro is known"
    return sql


def table(command: Command, url: str, *words: str) -> Any:
    return command("table", "--db", url, *words, *GIVEN, "--format", "json").json


def value(rows: list[Any]) -> float:
    ((found,),) = (row.values() for row in rows)
    return float(found)


def test_the_boards_are_written_from_their_queries() -> None:
    for name, content in grafana_boards.texts().items():
        assert (grafana_boards.FOLDER / name).read_text(encoding="utf-8") == content, (
            "run: python -m dashboards.grafana_boards"
        )
        board = BOARDS[name]
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        assert all(0 <= one["gridPos"]["x"] <= 24 - one["gridPos"]["w"] for one in board["panels"])


def test_a_project_has_the_numbers_of_its_table(
    ask: Ask, command: Command, postgres_url: str
) -> None:
    assert [row["project"] for row in ask(CHOICES["project"])] == ["nlp", "vision"]
    for project in ("nlp", "vision"):

        def shown(title: str, project: str = project) -> list[Any]:
            return ask(PROJECT[title], project=project)

        answer = table(command, postgres_url, "--project", project)
        total = answer["total"]
        assert value(shown("Energy of the devices")) == pytest.approx(total["energy_kwh"])
        assert value(shown("GPU-hours")) == pytest.approx(total["gpu_hours"], rel=1e-5)
        kwh, kg = total["facility_kwh"], total["tco2e"] * 1000
        assert value(shown("Energy of the facility (PUE of this board)")) == pytest.approx(kwh)
        assert value(shown("Emissions (PUE and intensity of this board)")) == pytest.approx(kg)
        rows = table(command, postgres_url, "--project", project, "--by", "user")["rows"]
        if project == "vision":  # of another project's joules each user has its own
            by_user = {row["user"]: row["kwh"] for row in shown("By user")}
            assert by_user == pytest.approx({row["label"]: row["energy_kwh"] for row in rows})
        for title, scale in (
            ("Energy by user and day (UTC)", 1),
            ("Power, mean of each hour", 1e-3),
        ):
            summed = sum(row["value"] for row in shown(title)) * scale
            assert summed == pytest.approx(total["energy_kwh"]), title
        by_run = shown("By run")
        assert sum(row["kwh"] for row in by_run) == pytest.approx(total["energy_kwh"])
        assert sum(row["gpu_hours"] for row in by_run) == pytest.approx(
            total["gpu_hours"], rel=1e-5
        )


def test_the_fleet_has_the_numbers_of_the_table(
    ask: Ask, command: Command, postgres_url: str
) -> None:
    answer = table(command, postgres_url, "--by", "project")
    rows = {row["group"]["project"]: row for row in answer["rows"]}
    assert value(ask(FLEET["Energy of the devices"])) == pytest.approx(
        answer["total"]["energy_kwh"]
    )
    kg = answer["total"]["tco2e"] * 1000
    assert value(ask(FLEET["Emissions (PUE and intensity of this board)"])) == pytest.approx(kg)
    rest = rows[UNATTRIBUTED]["energy_kwh"]
    assert value(ask(FLEET["Energy that no job used"])) == pytest.approx(rest)

    shown = {row["project"]: row for row in ask(FLEET["By project"])}
    assert shown.keys() == rows.keys() == {"nlp", "vision", UNATTRIBUTED}
    for name, row in rows.items():
        assert shown[name]["kwh"] == pytest.approx(row["energy_kwh"]), name
        assert float(shown[name]["gpu_hours"]) == pytest.approx(row["gpu_hours"], rel=1e-5), name
        assert shown[name]["kg"] == pytest.approx(row["tco2e"] * 1000), name
    power = ask(FLEET["Power by project, mean of each hour"])
    for name, row in rows.items():
        watts = sum(one["value"] for one in power if one["metric"] == name)
        assert watts / 1000 == pytest.approx(row["energy_kwh"]), name

    hosts = table(command, postgres_url, "--by", "host")["rows"]
    by_node = {row["host"]: row for row in ask(FLEET["By node, the 50 that use most"])}
    for row in hosts:
        host = row["group"]["host"]
        if row["kind"] == UNATTRIBUTED:
            assert by_node[host]["unattributed_kwh"] == pytest.approx(row["energy_kwh"])
        else:
            assert by_node[host]["jobs_kwh"] == pytest.approx(row["energy_kwh"])


def test_projects_and_names_are_those_that_were_said_last(
    ask: Ask, command: Command, postgres_url: str
) -> None:
    quoted = 'a "b" \\c'
    for run, *words in (
        ("r1", "--name", "first"),
        ("first", "--name", quoted),
        ("r2", "--project", "nlp"),
        ("r2", "--undo"),
        ("r3", "--project", quoted),
        ("r4", "--project", ""),
    ):
        assert command("amend", run, *words, "--db", postgres_url).code == 0
    rows = table(command, postgres_url, "--by", "project")["rows"]
    expected = {row["group"]["project"]: row["energy_kwh"] for row in rows}
    assert expected.keys() == {"nlp", "vision", quoted, NO_GROUP, UNATTRIBUTED}
    shown = ask(FLEET["By project"])
    assert {row["project"]: row["kwh"] for row in shown} == pytest.approx(expected)
    assert {row["project"] for row in ask(CHOICES["project"])} == expected.keys() - {UNATTRIBUTED}

    rows = table(command, postgres_url, "--project", "nlp")["rows"]
    expected = {row["label"]: row["energy_kwh"] for row in rows}
    assert expected.keys() == {quoted, "r5", "r8", "r10"}
    shown = {row["name"]: row["kwh"] for row in ask(PROJECT["By run"], project="nlp")}
    assert shown.keys() == expected.keys()
    for name in (quoted, "r5"):  # the others have something in common, which counts once
        assert shown[name] == pytest.approx(expected[name])
    listed = command("runs", "--db", postgres_url, "--format", "json").json["runs"]
    said = {row["__value"]: row["__text"] for row in ask(CHOICES["run"])}
    assert said == {run["id"]: f"{run['name']} {run['id'][:13]}" for run in listed}


def test_a_range_of_hours_is_that_of_the_table(
    ask: Ask, command: Command, postgres_url: str
) -> None:
    words = ("--name", "some time", "--project", "nlp", "--db", postgres_url)  # in no range
    assert command("add", *FAR, *words).code == 0
    answer = table(command, postgres_url, "--until", "2026-05-28T21:00Z", "--by", "project")
    total = answer["total"]["energy_kwh"]
    assert value(ask(FLEET["Energy of the devices"], hours=1)) == pytest.approx(total)
    shown = {row["project"]: row for row in ask(FLEET["By project"], hours=1)}
    for row in answer["rows"]:
        name = row["group"]["project"]
        assert shown[name]["kwh"] == pytest.approx(row["energy_kwh"]), name
        assert float(shown[name]["gpu_hours"]) == pytest.approx(row["gpu_hours"], rel=1e-5), name


def test_what_is_now_is_of_nodes_that_are_heard_of(postgres_url: str, tmp_path: Path) -> None:
    used, watched, silent, *others = nodes_of(40)
    used = replace(used, is_watch=False, is_silent=False)
    watched = replace(watched, run=20_000, is_watch=True, is_silent=False)
    nodes = [used, watched, replace(silent, is_silent=True), *others]
    heard = [node for node in nodes if not node.is_silent]
    idle_w = tuple(0.0 for _ in used.power_w)
    beside = [  # a watch over a job, and a job whose recorder was killed on a node that is watched
        replace(used, run=20_001, is_watch=True, power_w=idle_w),
        replace(watched, run=20_002, is_watch=False, is_silent=True, power_w=idle_w),
    ]
    write_fleet(postgres_url, [*nodes, *beside])
    with engine.open_reader(postgres_url).connect() as connection:
        (now_s,) = connection.execute(text("select max(time_ms) / 1000 from live")).scalars()

        def now(title: str) -> float:
            sql = expanded(FLEET[title], now_s - 3600, now_s + 40, {})
            return float(connection.execute(text(sql)).scalar_one())

        watts = sum(sum(node.power_w) for node in heard)
        assert now("Power now") == pytest.approx(watts)
        assert now("Devices now") == 8 * len(heard)
        assert now("Silent nodes") == len(nodes) - len(heard) > 0
        page = fleet_of(live.newest(connection), {}, read.watches(connection), now_ms=now_s * 1000)
    stale = page["devices"]["stale"]
    rows = zip(page["devices"]["power_w"], stale, strict=True)
    assert sum(power_w for power_w, is_stale in rows if not is_stale) == pytest.approx(watts)
    assert stale.count(False) == 8 * len(heard)
