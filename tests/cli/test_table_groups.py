"""Which runs `carbontrack table` selects, and the groups and sub-totals that it makes of them."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest

from tests.cli.conftest import FAILED, LARGE, SIMULATED, SMALL
from tests.fixtures.command import Command
from tests.fixtures.runs import Recorded, write_runs


@pytest.fixture
def shared(command: Command, ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a new ledger, in a file or on a server, that the command reads."""
    monkeypatch.setenv("CARBONTRACK_DB", ledger_url)
    return ledger_url


@pytest.fixture
def ledger(shared: str) -> str:
    write_runs(shared, SMALL, LARGE, FAILED, SIMULATED)
    return shared


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        (["--project", "llm"], ["large", "small"]),
        (["--tag", "team=nlp"], ["small"]),
        (["--only", "failed"], ["large"]),
        (["--limit", "1"], ["sim"]),
        (["--since", "2026-06-15"], ["sim"]),
        (["--by", "project"], ["–", "llm"]),
        (["--by", "user"], ["ada", "bob"]),
        (["--by", "host"], ["node1", "node2"]),
        (["--by", "month"], ["2026-07", "2026-05"]),
        (["--by", "model"], ["–", "s"]),
        (["--by", "tag:team"], ["–", "nlp"]),
        (["--by", "name", "--only", "completed"], ["sim", "large", "small"]),
        (["--status", "failed"], ["large"]),
        (["--user", "bob"], ["large"]),
        (["--host", "node2", "--status", "completed"], ["large"]),
        (["--quality", "simulated"], ["sim"]),
        (["--quality", "counter", "--user", "ada", "--project", "llm"], ["small"]),
        (["--until", "2026-05"], ["large", "large", "small"]),
        (["--since", "2026-06", "--until", "2026-07"], ["sim"]),
        (["--since", "2026-05-30T12:00+02:00", "--until", "2026-06"], ["large", "large"]),
        (["--until", "2026-05-30T00:00Z"], ["small"]),
        (["small", "sim", "--since", "2026-06"], ["sim"]),
    ],
    ids=" ".join,
)
def test_filters_and_groups(
    command: Command, ledger: str, options: list[str], labels: list[str]
) -> None:
    answer = command("table", *options, "--format", "json").json
    assert [row["label"] for row in answer["rows"]] == labels


def test_unlike_runs_have_sub_totals(command: Command, shared: str) -> None:
    euro = {"tariff": 0.2, "currency": "EUR"}
    write_runs(
        shared,
        *(Recorded(name="gpus", number=n) for n in (1, 2)),
        *(Recorded(name="euro", number=n, facility=euro) for n in (3, 4)),
        Recorded(name="sim", number=5, meter="sim", quality="simulated"),
        *(Recorded(name="none", number=n, count=0) for n in (6, 7)),
    )
    text = command("table", "--format", "markdown", "--pue", "1.25").out
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    heads, cells = rows[0], {row[0]: row for row in rows[2:] if row and row[0].startswith("total")}
    assert list(cells) == [
        "total: simulated, USD",
        "total: measured, EUR",
        "total: measured, USD",
        "total: no device",
    ]
    assert cells["total: measured, EUR"][heads.index("cost")] == "2.88 EUR"
    answer = command("table", "--by", "user", "--format", "json").json
    (ada,) = answer["rows"]
    assert [part["kind"] for part in ada["subtotals"]] == [k.split(": ")[1] for k in cells]
    assert {part["label"] for part in ada["subtotals"]} == {"ada"}
    alike = command("table", "gpus", "none", "--format", "json").json
    assert alike["total"]["subtotals"] == []
    lines = csv.DictReader(io.StringIO(command("table", "--by", "user", "--format", "csv").out))
    assert [line["currency"] for line in lines] == ["USD", "EUR", "USD", ""]


def test_coverage_says_of_how_many_runs(command: Command, shared: str) -> None:
    write_runs(
        shared,
        *(Recorded(number=n) for n in range(1, 7)),
        *(Recorded(name="none", number=n, count=0) for n in (7, 8)),
    )
    assert "100.0 % of 6 of 8 runs" in command("table").out
    assert "100.0 % of 6" not in command("table", "llama2-7b").out


@pytest.fixture
def long_ledger(shared: str) -> str:
    """One run of 60 days over two nodes, one beside it on the same devices, one more."""
    long = Recorded(name="long", number=1, project="llm", count=2, seconds=60 * 86_400.0)
    far = replace(long, host="node2", meter="sim", quality="simulated", steps=0)
    beside = Recorded(name="beside", number=30, count=2, seconds=5 * 86_400.0, tags={"team": "x"})
    later = Recorded(name="later", number=80, count=2, user="bob", model={"name": "s"}, steps=0)
    write_runs(shared, long, far, beside, later)
    return shared


@pytest.mark.parametrize(
    "by", ["name", "project", "user", "model", "status", "host", "month", "tag:team"]
)
def test_groups_add_up_to_the_total(command: Command, long_ledger: str, by: str) -> None:
    """A run in several months or on several hosts is split; a device counts once in a group."""
    apart = by not in ("host", "month", "user", "status")  # `beside` then is in another group
    only = ["long", "later"] if apart else []
    answer = command("table", *only, "--by", by, "--embodied", "--format", "json").json
    rows, total = answer["rows"], answer["total"]
    for key in ("energy_kwh", "tco2e", "cost", "gpu_hours", "embodied_tco2e", "sampled_s"):
        assert sum(row[key] for row in rows) == pytest.approx(total[key]), key
    if by != "host":
        assert sum(row["tokens"] or 0 for row in rows) == total["tokens"]


@pytest.mark.parametrize("first", ["month", "host", "user", "tag:team"])
def test_two_keys_have_a_row_per_pair_and_a_sub_total_per_first(
    command: Command, long_ledger: str, first: str
) -> None:
    """The rows of a pair add up to the first key's row, where no two of them share a device."""
    second = "month" if first == "host" else "host"
    table = ("table", "long", "later", "--embodied", "--by")
    answer = command(*table, first, "--by", second, "--format", "json").json
    groups = [(row["group"][first], row["group"][second]) for row in answer["rows"]]
    assert groups == sorted(groups, key=lambda pair: [(name == "–", name) for name in pair])
    assert [list(row["group"]) for row in answer["rows"]] == [[first, second]] * len(groups)
    assert [row["label"] for row in answer["rows"]] == [" / ".join(pair) for pair in groups]
    alone = {row["label"]: row for row in command(*table, first, "--format", "json").json["rows"]}
    assert {row["label"]: row["energy_kwh"] for row in answer["subtotals"]} == {
        name: row["energy_kwh"] for name, row in alone.items()
    }
    for key in ("energy_kwh", "tco2e", "cost", "gpu_hours", "embodied_tco2e", "sampled_s"):
        for name, row in alone.items():
            parts = [part[key] for part in answer["rows"] if part["group"][first] == name]
            assert sum(parts) == pytest.approx(row[key]), (name, key)


def test_two_keys_in_every_format(command: Command, long_ledger: str) -> None:
    keys = ("table", "long", "later", "--by", "host", "--by", "month")
    lines = [
        line.split("|")[1:3] for line in command(*keys, "--format", "markdown").out.split("\n")
    ]
    pairs = [(line[0].strip(), line[1].strip()) for line in lines[2:] if line]
    assert pairs[:4] == [
        *(("node1", month) for month in ("2026-05", "2026-06", "2026-07", "2026-08")),
    ]
    assert pairs[4] == ("**node1**", "**total**")
    assert [pair for pair in pairs if "total" in pair[1]] == [
        ("**node1**", "**total**"),
        ("**node2**", "**total**"),
    ]
    frame = list(csv.DictReader(io.StringIO(command(*keys, "--format", "csv").out)))
    assert [(line["host"], line["month"]) for line in frame[:2]] == [
        ("node1", "2026-05"),
        ("node1", "2026-06"),
    ]
    assert "label" not in frame[0]
    assert len(frame) == 7, "no sub-totals, so that a sum stays right"
    status = command("table", "--by", "status", "--format", "csv").out
    assert status.splitlines()[0].split(",").count("status") == 1


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["month", "month"], "--by month, month: not 2 different keys"),
        (["month", "host", "user"], "not 2 different keys"),
        (["month", "team"], "--by team: unknown. Give name, project"),
    ],
)
def test_keys_that_do_not_go_together(
    command: Command, long_ledger: str, keys: list[str], said: str
) -> None:
    done = command("table", *(word for key in keys for word in ("--by", key)))
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_a_run_of_60_days_is_in_each_of_its_months(command: Command, long_ledger: str) -> None:
    rows = command("table", "long", "--by", "month", "--format", "json").json["rows"]
    assert [row["label"] for row in rows] == ["2026-07", "2026-06", "2026-05"]
    assert rows[1]["gpu_hours"] == pytest.approx(30 * 24 * 4)
    assert rows[1]["energy_kwh"] == pytest.approx(30 * 24 * 4 * 0.36)
    hosts = command("table", "long", "--by", "host", "--format", "json").json["rows"]
    assert [(row["label"], row["devices"]) for row in hosts] == [("node1", 2), ("node2", 2)]


def test_a_run_must_have_every_tag(command: Command, shared: str) -> None:
    write_runs(
        shared,
        Recorded(name="both", number=1, tags={"a": "1", "b": "2"}),
        Recorded(name="one", number=2, tags={"b": "2"}),
    )
    both = ("--tag", "a=1", "--tag", "b=2", "--format", "json")
    for named in ((), ("both", "one")):
        answer = command("table", *named, *both).json
        assert [row["label"] for row in answer["rows"]] == ["both"]
