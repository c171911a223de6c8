"""`amend` and `Ledger.amend` on both databases: what reports make of it, and what is refused."""

from __future__ import annotations

from contextlib import closing

import pandas as pd
import pytest

from carbontrack import Ledger, config
from carbontrack.errors import CarbontrackError, NotFoundError
from carbontrack.ledger.transaction import open_ledger
from carbontrack.ledger.write import RunWriter
from dashboards.live.view import View
from tests.fixtures.command import Command, Done
from tests.fixtures.runs import Recorded, recording_of

MODEL = {"name": "tiny", "parameters": 68_980_000}
ONE = Recorded(
    name="one", number=1, count=2, steps=40, model=MODEL, facility={"zone": "FRA", "pue": 1.3}
)
TWO = Recorded(name="two", number=2, count=2, project="nlp", tags={"team": "x"}, model=MODEL)


@pytest.fixture
def url(ledger_url: str, command: Command) -> str:
    with closing(open_ledger(ledger_url)) as opened:
        for one in (ONE, TWO):
            writer = RunWriter(opened, one.begun, recording_of(one.begun), one.sensors)
            writer.commit(
                windows=one.windows,
                steps=one.step_rows,
                heartbeat_ms=one.end_ms,
                model=dict(one.model),
            )
            writer.finish(status=one.status, exit_code=0, ended_ms=one.end_ms)
    return ledger_url


@pytest.fixture
def call(url: str, command: Command) -> Command:
    """A command on this ledger."""
    return lambda *words: command(*words, "--db", url)


def row(done: Done) -> dict[str, object]:
    (found,) = done.json["rows"]
    return dict(found)


def test_every_report_uses_it_and_says_so(call: Command, url: str) -> None:
    before = row(call("table", "one", "--format", "json"))
    done = call(
        *("amend", "one", "--name", "uno", "--project", "nlp", "--tag", "team=y", "--pue", "1.1"),
        *("--zone", "DEU", "--tokens", "1M", "--planned-tokens", "2M", "--note", "ran in Lyon"),
    )
    assert (done.code, len(done.out.splitlines())) == (0, 8), done.err
    table = call("table", "uno", "--format", "json")
    after = row(table)
    assert (after["label"], after["pue"], after["tokens"]) == ("uno", 1.1, 1_000_000)
    assert after["energy_kwh"] == before["energy_kwh"], "nothing that was measured is another"
    pue = next(f for f in after["factors"] if f["name"] == "pue")  # type: ignore[attr-defined]
    assert "amended by" in pue["source"]
    assert "uno: tokens are stated, not logged" in call("table", "uno").out

    listed = call("runs", "--project", "nlp", "--tag", "team=y", "--format", "json").json["runs"]
    assert [one["name"] for one in listed] == ["uno"]
    by_project = call("table", "--by", "project", "--format", "json").json["rows"]
    assert [(one["label"], len(one["run_ids"])) for one in by_project] == [("nlp", 2)]
    compared = call("compare", "uno", "two", "--format", "json").json
    assert [side["name"] for side in compared["sides"]] == ["uno", "two"]
    projected = call("project", "uno", "--format", "json").json
    assert projected["tokens"] == 2_000_000, "of the amended card"
    shown = call("show", "uno", "--format", "json").json
    assert (shown["note"], shown["facility"]) == ("ran in Lyon", {"zone": "DEU", "pue": 1.1})
    text = call("show", "uno").out
    assert "name from 'one' to 'uno', by " in text
    assert "ran in Lyon" in text
    explained = call("explain", "uno").out
    assert "pue from 1.3 to 1.1, by " in explained
    assert "zone from 'FRA' to 'DEU'" in explained
    assert "tokens from 40,960 to 1,000,000" in explained
    view = View(url, config.flags())
    try:
        run = view.find("uno")
        page = view.run(run)
        assert (page["name"], page["rows"][0]["pue"]) == ("uno", 1.1)
        assert view.totals(project="nlp")["summed"] == 2
        steps = view.explain(run, method="measured")["steps"]
        assert sum(step["name"] == "amended" for step in steps) == 8
    finally:
        view.close()


def test_it_is_taken_back_a_call_at_a_time(call: Command) -> None:
    before = row(call("table", "one", "--format", "json"))
    call("amend", "one", "--name", "uno", "--pue", "1.1")
    call("amend", "uno", "--pue", "1.2")
    done = call("amend", "uno", "--undo")
    assert done.out.startswith("undone: pue from 1.1 to 1.2, of run uno (")
    assert row(call("table", "uno", "--format", "json"))["pue"] == 1.1
    assert call("amend", "uno", "--undo").code == 0
    assert row(call("table", "one", "--format", "json")) == before
    amendments = call("show", "one", "--format", "json").json["amendments"]
    assert [(one["field"], one["undone"]) for one in amendments] == [
        ("name", True),
        ("pue", True),
        ("pue", True),
        ("undo", False),
        ("undo", False),
        ("undo", False),
    ]
    refused = call("amend", "one", "--undo")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "no amendment to undo" in refused.err


def test_a_page_that_is_open_shows_it(call: Command, url: str) -> None:
    view = View(url, config.flags())
    try:
        assert view.run(view.find("one"))["rows"][0]["pue"] == 1.3
        assert [run["name"] for run in view.runs()["runs"]] == ["two", "one"]
        call("amend", "one", "--pue", "1.1", "--name", "uno")
        assert view.run(view.find("uno"))["rows"][0]["pue"] == 1.1
        assert [run["name"] for run in view.runs()["runs"]] == ["two", "uno"]
    finally:
        view.close()


REFUSED = (
    (("two",), "Nothing to amend is given"),
    (("three", "--name", "x"), "There is no run 'three'"),
    (("two", "--colour", "red"), "No such option: --colour"),
    (("two", "--name", "last"), "--name 'last' is reserved"),
    (("two", "--name", ""), "--name '' is empty"),
    (("two", "--pue", "0.5"), "--pue 0.5 is below 1"),
    (("two", "--zone", "ATLANTIS"), "zone 'ATLANTIS' is unknown"),
    (("two", "--provider", "nobody"), "provider 'nobody' is unknown"),
    (("two", "--price", "book:item"), "no imported price 'book:item'"),
    (("two", "--factors-as-of", "2020-01-01"), "known on 2020-01-01 (factors_as_of)"),
    (("one", "--factors-as-of", "2020-01-01"), "known on 2020-01-01 (factors_as_of)"),
    (("two", "--tokens", "-3"), "--tokens -3: not a count"),
    (("two", "--planned-tokens", "many"), "--planned-tokens many: not a count"),
    (("two", "--tag", "team"), "--tag team: not KEY=VALUE"),
    (("two", "--note", "x" * 5000), "the note has 5,000 characters, and may have 4,096"),
    (("two", "--tag", "team=" + "x" * 5000), "the tag:team has 5,000 characters"),
    (("two", "--undo", "--pue", "1.1"), "--undo takes the newest amendment back: --pue"),
)


def test_what_cannot_be_is_refused_in_a_line_and_nothing_is_written(call: Command) -> None:
    for words, said in REFUSED:
        refused = call("amend", *words)
        assert (refused.code, refused.err.count("\n")) == (2, 1), refused.err
        assert said in refused.err
    for name in ("one", "two"):
        assert call("show", name, "--format", "json").json["amendments"] == []


def test_money_is_amended_with_its_currency(call: Command) -> None:
    assert call("amend", "one", "--tariff", "0.2").code == 0
    assert call("show", "one", "--format", "json").json["facility"]["currency"] == "USD"
    refused = call("amend", "one", "--currency", "EUR")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "tariff is in USD" in refused.err
    assert call("amend", "one", "--tariff", "0.3", "--currency", "EUR").code == 0
    assert row(call("table", "one", "--format", "json"))["currency"] == "EUR"


def test_what_is_said_already_changes_nothing(call: Command) -> None:
    done = call("amend", "one", "--pue", "1.3", "--name", "one")
    assert (done.code, "says so already" in done.out) == (0, True)
    assert call("show", "one", "--format", "json").json["amendments"] == []


def test_from_python(url: str) -> None:
    ledger = Ledger(url)
    made = ledger.amend("two", name="due", tags={"team": ""}, tokens=10_000, pue=1.5)
    assert made["field"].tolist() == ["name", "tag:team", "tokens", "pue"]
    assert made["after"].tolist() == ["due", None, 10_000, 1.5]
    runs = ledger.runs()
    assert runs["name"].tolist() == ["due", "one"]
    assert runs["tags"][0] == {}
    assert ledger.table("due")["tokens"].tolist() == [10_000]
    assert ledger.steps("due")["tokens"].tolist() == [500] * 20
    assert ledger.undo("due")["field"].tolist() == ["name", "tag:team", "tokens", "pue"]
    said = ledger.amendments("two")
    assert said["field"].tolist()[-4:] == ["undo"] * 4
    assert str(said["time"].dtype) == "datetime64[ms, UTC]"
    assert ledger.amendments("one").dtypes.to_dict() == said.dtypes.to_dict()
    for wrong, error in (
        ({"colour": "red"}, CarbontrackError),
        ({"tokens": 0}, CarbontrackError),
        ({}, CarbontrackError),
    ):
        with pytest.raises(error):
            ledger.amend("two", **wrong)  # type: ignore[arg-type]
    with pytest.raises(NotFoundError):
        ledger.amend("three", name="x")
    assert isinstance(ledger.amendments("two"), pd.DataFrame)


def test_no_secret_in_its_labels_is_written(call: Command) -> None:
    tags = ("--tag", "token=S11", "--tag", "tokens=2T")
    done = call("amend", "one", "--name", "HF_TOKEN=S11", "--project", "pwd=S11", *tags)
    assert done.code == 0, done.err
    shown = call("show", "HF_TOKEN=***", "--format", "json").json
    assert (shown["project"], shown["tags"]) == ("pwd=***", {"token": "***", "tokens": "2T"})
    assert "S11" not in done.out + str(shown)
