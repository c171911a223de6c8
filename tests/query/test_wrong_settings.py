"""Settings and amendments of a run that cannot be, as a ledger may hold them that was merged into
this one: its row says so, and no other one is the worse for it, on both databases.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from carbontrack import config
from carbontrack.ledger.amend import amendments_of, put
from carbontrack.ledger.transaction import changing
from dashboards.live.view import View
from tests.fixtures.command import Command
from tests.fixtures.runs import Recorded, write_runs

SOUND = Recorded(name="sound", number=1, count=2, facility={"zone": "FRA", "pue": 1.3})
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "text": ({"pue": "abc"}, "pue 'abc': not a number. It was recorded with the run"),
    "low": ({"pue": 0.5}, "pue 0.5 is below 1. It was recorded with the run"),
    "mapping": ({"tariff": {}, "currency": "EUR"}, "tariff {}: not a number."),
    "zone": ({"zone": 5}, "zone 5: not a text."),
    "price": ({"price": ["spot"]}, "price ['spot']: not a text."),
    "day": ({"factors_as_of": "noon"}, "factors_as_of 'noon': not a day"),
    "early": (
        {"factors_as_of": "2026-01-01"},
        "zone WORLD has no value that was known on 2026-01-01 (factors_as_of). It was recorded",
    ),
    "early in France": (
        {"factors_as_of": "2026-01-01", "zone": "FRA"},
        "zone FRA has no value that was known on 2026-01-01 (factors_as_of). It was recorded",
    ),
}


@pytest.fixture
def url(ledger_url: str) -> str:
    wrong = [
        Recorded(name=name, number=number, count=2, project="x", facility=facility)
        for number, (name, (facility, _)) in enumerate(WRONG.items(), start=2)
    ]
    write_runs(ledger_url, SOUND, *wrong)
    return ledger_url


def amend(url: str, one: Recorded, *calls: dict[str, Any]) -> None:
    """Write amendments unchecked, those of each call together."""
    with changing(url) as transaction:
        for number, changes in enumerate(calls):
            rows = amendments_of(one.run, {name: (None, value) for name, value in changes.items()})
            put(transaction, [replace(row, time_ms=row.time_ms + number) for row in rows])


def test_a_run_whose_settings_cannot_be_has_no_price_and_says_why(
    url: str, command: Command
) -> None:
    done = command("table", "--format", "json", "--db", url)
    assert done.code == 0, done.err
    rows = {row["label"]: row for row in done.json["rows"]}
    assert rows.keys() == {"sound", *WRONG}
    energies_kwh = {row["energy_kwh"] for row in rows.values()}
    assert len(energies_kwh) == 1 and rows["sound"]["tco2e"] > 0 and rows["sound"]["cost"] > 0
    for name, (_, why) in WRONG.items():
        row = rows[name]
        assert (row["tco2e"], row["cost"], row["facility_kwh"]) == (None, None, None)
        assert f"neither CO₂e nor cost: {why}" in "".join(row["notes"]), name
    assert command("table", "--by", "project", "--db", url).code == 0

    refused = command("table", "early", "--factors-as-of", "2026-01-02", "--db", url)
    assert (refused.code, refused.err.count("\n")) == (2, 1), "it is what was given that is early"
    assert "known on 2026-01-02" in refused.err
    now = ("--factors-as-of", "2026-11-30", "--format", "json")
    given = command("table", "early", *now, "--db", url)
    assert given.json["rows"][0]["tco2e"] > 0
    given = command("table", "text", "--pue", "1.2", "--format", "json", "--db", url)
    (row,) = given.json["rows"]
    assert row["tco2e"] > 0, "what is given goes first"
    assert command("explain", "text", "--db", url).code == 0
    assert command("amend", "text", "--pue", "1.2", "--db", url).code == 0
    (row,) = command("table", "text", "--format", "json", "--db", url).json["rows"]
    assert (row["tco2e"] > 0, row["pue"]) == (True, 1.2)


def test_an_amendment_that_cannot_be_hides_no_run(url: str, command: Command) -> None:
    amend(
        url,
        SOUND,
        {"name": "good", "tokens": 7, "note": "kept", "tag:team": "nlp"},
        {"name": {"a": 1}, "tokens": "many", "note": [1], "tag:team": 5, "project": 7},
        {"name": None},
        {"pue": {"a": 1}},
    )
    rows = command("table", "--format", "json", "--db", url).json["rows"]
    (row,) = [row for row in rows if row["label"] == "good"]
    assert (row["tokens"], row["tco2e"]) == (7, None)
    assert "pue {'a': 1}: not a number. It was amended by " in "".join(row["notes"])
    shown = command("show", SOUND.run.id, "--format", "json", "--db", url).json
    assert (shown["name"], shown["note"], shown["project"]) == ("good", "kept", None)
    assert shown["tags"] == {"team": "nlp"}
    text = command("show", SOUND.run.id, "--db", url)
    assert text.code == 0 and "name from none to {'a': 1}, by " in text.out

    view = View(url, config.flags())
    listed = view.runs(sort="name")["runs"]
    assert {one["name"] for one in listed} == {"good", *WRONG}
    assert view.totals(by="model")["total"]["tco2e"] is None
    view.close()


def test_settings_around_the_runs_that_contradict_each_other_are_an_error(
    url: str, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CARBONTRACK_TARIFF", "0.2")
    (tmp_path / "carbontrack.toml").write_text('currency = "EUR"\n')
    for words in (("table",), ("table", "sound", "--zone", "FRA")):
        refused = command(*words, "--db", url)
        assert (refused.code, refused.err.count("\n")) == (2, 1), refused
        assert "Give each price and its currency in one place." in refused.err


def test_a_price_may_be_amended_in_the_currency_that_a_run_has(url: str, command: Command) -> None:
    first = ("--tariff", "0.1", "--currency", "EUR")
    for money in (first, ("--tariff", "0.2", "--currency", "EUR"), ("--pue", "1.5")):
        assert command("amend", "sound", *money, "--db", url).code == 0
    (row,) = command("table", "sound", "--format", "json", "--db", url).json["rows"]
    assert (row["currency"], row["cost"]) == ("EUR", pytest.approx(row["facility_kwh"] * 0.2))


def test_money_in_two_currencies_is_a_note_on_the_run_that_has_it(
    url: str, command: Command
) -> None:
    amend(url, SOUND, {"tariff": 0.2, "currency": "EUR"}, {"currency": "USD"})
    rows = command("table", "--format", "json", "--db", url).json["rows"]
    (row,) = [row for row in rows if row["label"] == "sound"]
    assert row["cost"] is None
    said = "".join(row["notes"])
    assert "neither CO₂e nor cost: tariff is in EUR (amended by " in said
    shown = command("show", "sound", "--format", "json", "--db", url).json
    assert shown["facility"] == {**SOUND.facility, "tariff": 0.2, "currency": "USD"}
    asked = command("table", "sound", "--currency", "CHF", "--db", url)
    assert (asked.code, asked.err.count("\n")) == (2, 1), "it is what was given that does not fit"
