"""The Grafana board: each of its queries runs on a PostgreSQL ledger and gives what it holds."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from carbontrack import Ledger
from carbontrack.factors import catalog
from carbontrack.ledger import kept_overlaps
from carbontrack.ledger.transaction import open_ledger
from carbontrack.units import J_PER_KWH
from tests.fixtures import pictures
from tests.fixtures.runs import START_MS, Recorded
from tests.ledger.test_overlaps import put, recorded, run_at

FOLDER = Path(__file__).parents[2] / "dashboards/grafana"
BOARD = json.loads((FOLDER / "boards/run.json").read_text())
RUN = Recorded(count=8, seconds=120)
PANELS = {panel["title"]: panel["targets"][0]["rawSql"] for panel in BOARD["panels"]}
STATS = [panel["title"] for panel in BOARD["panels"] if panel["type"] == "stat"]
VALUES = {"run": RUN.run.id, "pue": "1.5", "intensity": "0.4"}


@pytest.fixture(scope="module")
def energy_j() -> float:
    seconds = range(int(RUN.seconds))
    return sum(pictures.power_w(second, device) for second in seconds for device in range(8))


@pytest.fixture
def ledger(postgres_url: str) -> Iterator[Any]:
    """A connection that may only read, as Grafana's role."""
    import psycopg

    pictures.write_seconds(postgres_url, RUN, gap=False)
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as connection:
        connection.read_only = True
        yield connection


def in_view(sql: str, from_s: int, length_s: int) -> str:
    """A query of a view of this time."""
    sql = sql.replace("$__unixEpochFrom()", str(from_s))
    return sql.replace("$__unixEpochTo()", str(from_s + length_s))


def expanded(sql: str) -> str:
    """As Grafana sends it: its macros and the board's variables filled in."""
    for macro, value in (
        ("$__unixEpochFrom()", str(RUN.start_ms // 1000)),
        ("$__unixEpochTo()", str(RUN.end_ms // 1000)),
        ("$__interval_ms", "1"),
    ):
        sql = sql.replace(macro, value)
    sql = re.sub(r"\$\{(\w+):sqlstring\}", lambda match: f"'{VALUES[match[1]]}'", sql)
    assert "$" not in sql, "every macro is known"
    return sql


def test_the_board_begins_with_the_factors_that_every_table_assumes() -> None:
    shown = {one["name"]: one["query"] for one in BOARD["templating"]["list"]}
    assert float(shown["pue"]) == catalog.pue("industry").value
    assert float(shown["intensity"]) == pytest.approx(catalog.intensity("WORLD").value, abs=5e-4)


def test_every_query_answers(ledger: Any, energy_j: float) -> None:
    rows = {title: ledger.execute(expanded(sql)).fetchall() for title, sql in PANELS.items()}
    assert all(rows.values())
    ((kwh,),) = rows["Energy of the devices"]
    assert kwh == pytest.approx(energy_j / J_PER_KWH)
    ((kg,),) = rows["Emissions (PUE and intensity of this board)"]
    assert kg == pytest.approx(energy_j / J_PER_KWH * 1.5 * 0.4)
    ((share,),) = rows["Share of device-seconds watched"]
    assert share == pytest.approx(1.0)
    assert rows["Meter, and how good it is"] == [("nvml (counter), scope gpu",)]


def test_its_sums_are_those_of_the_table(ledger: Any, postgres_url: str) -> None:
    (row,) = Ledger(postgres_url).table(RUN.run.id, pue=1.5, intensity=0.4).to_dict("records")
    found = {title: ledger.execute(expanded(sql)).fetchall() for title, sql in PANELS.items()}
    assert found["Energy of the devices"] == [(pytest.approx(row["energy_kwh"]),)]
    kg = row["tco2e"] * 1000
    assert found["Emissions (PUE and intensity of this board)"] == [(pytest.approx(kg),)]
    assert found["Share of device-seconds watched"] == [(pytest.approx(row["coverage"]),)]
    *_, (_, facility_kwh) = found["Energy of the facility in view"]
    assert facility_kwh == pytest.approx(row["facility_kwh"])


def test_what_two_recordings_of_it_have_counts_once(postgres_url: str) -> None:
    import psycopg

    dice = random.Random(1)
    run = run_at(RUN.number, 3400)
    with closing(open_ledger(postgres_url)) as opened:
        for name, start_s, end_s in (("a", 3400, 3700), ("b", 3500, 3900.5)):
            put(opened, run, recorded(run, start_s, end_s, name), dice=dice)
        kept_overlaps.keep(opened, (1, 2))
    (row,) = Ledger(postgres_url).table(run.id, pue=1.5, intensity=0.4).to_dict("records")
    assert row["gpu_hours"] == pytest.approx(2 * 500.5 / 3600)
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as connection:
        shown = {title: connection.execute(expanded(PANELS[title])).fetchall() for title in STATS}
        assert shown["Energy of the devices"] == [(pytest.approx(row["energy_kwh"]),)]
        kg = row["tco2e"] * 1000
        assert shown["Emissions (PUE and intensity of this board)"] == [(pytest.approx(kg),)]
        assert shown["Share of device-seconds watched"] == [(pytest.approx(row["coverage"]),)]
        # Seconds, minutes and hours.
        for from_s, length_s in ((3300, 3600), (0, 86_400), (0, 200_000)):
            sql = in_view(
                PANELS["Energy of the facility in view"], START_MS // 1000 + from_s, length_s
            )
            curve = [kwh for _, kwh in connection.execute(expanded(sql))]
            assert curve == sorted(curve)
            assert curve[-1] == pytest.approx(row["facility_kwh"])


def test_one_that_was_entered_by_hand_has_what_is_stated(
    ledger: Any, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered = Ledger(postgres_url).add("far", device="A100", gpu_hours=3, energy_kwh=2)
    monkeypatch.setitem(VALUES, "run", entered)
    shown = [ledger.execute(expanded(PANELS[title])).fetchall() for title in STATS]
    meter = "entered by hand (stated), scope gpu"
    assert shown == [[(2,)], [(pytest.approx(2 * 1.5 * 0.4),)], [(None,)], [(meter,)]]


def test_the_series_are_those_of_the_run(ledger: Any, energy_j: float) -> None:
    power = ledger.execute(expanded(PANELS["Power of each device"])).fetchall()
    assert len(power) == 8 * 120
    first = {uuid: watts for time_s, uuid, watts in power if time_s == RUN.start_ms // 1000}
    assert first == pytest.approx(
        {s.uuid: pictures.power_w(0, i) for i, s in enumerate(RUN.sensors)}
    )
    for title, factor in (
        ("Energy of the facility in view", 1.5),
        ("Emissions in view", 1.5 * 0.4),
    ):
        curve = [value for _, value in ledger.execute(expanded(PANELS[title]))]
        assert curve == sorted(curve)
        assert curve[-1] == pytest.approx(energy_j / J_PER_KWH * factor)
    assert len(ledger.execute(expanded(PANELS["Loss"])).fetchall()) == 119


def test_the_list_of_runs_and_the_events_answer(ledger: Any) -> None:
    (run, *_) = BOARD["templating"]["list"]
    assert ledger.execute(expanded(run["query"])).fetchall() == [
        (f"{RUN.name} {RUN.run.id[:13]}", RUN.run.id)
    ]
    (events,) = BOARD["annotations"]["list"]
    kinds = [row[2] for row in ledger.execute(expanded(events["target"]["rawSql"]))]
    assert kinds == ["eval", "eval", "checkpoint"]


def test_a_long_range_reads_hours(ledger: Any) -> None:
    sql = PANELS["Power of each device"]
    sql = sql.replace("$__unixEpochFrom()", str(RUN.start_ms // 1000 - 30 * 86_400))
    assert len(ledger.execute(expanded(sql)).fetchall()) == 8


@pytest.mark.parametrize("view_s", [600, 86_400])
def test_what_has_no_finer_windows_any_more_is_drawn_by_longer_ones(
    ledger: Any, postgres_url: str, energy_j: float, view_s: int
) -> None:
    """Of devices 0 to 2 hours are left, of 3 and 4 minutes, of the others all; and the view begins
    within the hour, and within a minute.
    """
    import psycopg

    with psycopg.connect(postgres_url.replace("+psycopg", "")) as owner:
        of_some = (
            "where sensor_key in (select s.key from sensors s join devices d on "
            "d.key = s.device_key where d.uuid = any(%s))"
        )
        uuids = [sensor.uuid for sensor in RUN.sensors]
        for table, last in (("seconds", 5), ("odd_seconds", 5), ("minutes", 3)):
            owner.execute(f"delete from {table} {of_some}", [uuids[:last]])
    from_s = RUN.start_ms // 1000 - 1

    def shown(title: str) -> list[Any]:
        return list(ledger.execute(expanded(in_view(PANELS[title], from_s, view_s))))

    rows = shown("Power of each device")
    assert all(from_s <= time_s < from_s + view_s for time_s, _, _ in rows)
    count = Counter(uuid for _, uuid, _ in rows)
    minutes = RUN.end_ms // 60_000 - RUN.start_ms // 60_000 + (RUN.end_ms % 60_000 > 0)
    finest = 120 if view_s <= 3600 else minutes
    assert [count[uuid] for uuid in uuids] == [1] * 3 + [minutes] * 2 + [finest] * 3
    for title, factor in (("Energy of the facility in view", 1.5), ("Emissions in view", 0.6)):
        assert shown(title)[-1][1] == pytest.approx(energy_j / J_PER_KWH * factor)


def test_a_wide_view_has_a_point_of_loss_for_each_pixel(ledger: Any) -> None:
    sql = PANELS["Loss"].replace("$__interval_ms", "10000")
    means = ledger.execute(expanded(sql)).fetchall()
    assert len(means) == 12
    assert means == sorted(means)
    each = [loss for _, loss in ledger.execute(expanded(PANELS["Loss"]))]
    assert means[-1][1] == pytest.approx(sum(each[-10:]) / 10, rel=0.01)


def test_everything_asks_the_data_source_that_is_provisioned() -> None:
    source = (FOLDER / "provisioning/datasources/carbontrack.yaml").read_text()
    uid = re.search(r"uid: (\S+)", source)
    kind = re.search(r"type: (\S+)", source)
    assert uid and kind
    expected = {"type": kind[1], "uid": uid[1]}
    assert all(panel["datasource"] == expected for panel in BOARD["panels"])
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
