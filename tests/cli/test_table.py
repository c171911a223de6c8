"""`carbontrack table` on a ledger of several runs with 8 devices each."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml

from carbontrack.factors import catalog
from carbontrack.vocabulary import Status
from tests.fixtures.command import Command
from tests.fixtures.runs import Recorded, write_ledger

_KEYS = """
    label run_ids status devices gpu_hours power_w energy_kwh facility_kwh pue intensity_kg_per_kwh
    tco2e cost currency coverage scope meter method tokens final_loss assumed
"""

SMALL = Recorded(name="small", number=1, project="llm", tags={"team": "nlp"}, model={"name": "s"})
LARGE = Recorded(name="large", number=2, project="llm", count=16, host="node2", user="bob")
FAILED = Recorded(name="large", number=3, seconds=600.0, status=Status.FAILED, exit_code=9)
SIMULATED = Recorded(name="sim", number=40, meter="sim", quality="simulated")


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return write_ledger(tmp_path / "ledger.db", SMALL, LARGE, FAILED, SIMULATED)


def test_rows_have_the_keys_of_the_contract_and_the_total_is_their_sum(
    command: Command, ledger: Path
) -> None:
    answer = command("table", "--format", "json").json
    rows, total = answer["rows"], answer["total"]
    assert [row["label"] for row in rows] == ["sim", "large", "large", "small"]
    for row in [*rows, total]:
        assert [key for key in _KEYS.split() if key not in row] == []
        assert row["facility_kwh"] == pytest.approx(row["energy_kwh"] * row["pue"])
        assert row["tco2e"] * 1000 == pytest.approx(
            row["facility_kwh"] * row["intensity_kg_per_kwh"]
        )
        assert row["assumed"] == ["pue", "intensity", "tariff"]
    for key in ("gpu_hours", "energy_kwh", "tco2e", "cost", "tokens"):
        assert total[key] == pytest.approx(sum(row[key] for row in rows))
    assert rows[3]["gpu_hours"] == pytest.approx(16)
    assert total["devices"] == 16 + 8, "16 by NVML, of which one run used 8, and 8 simulated"


def test_text_says_what_is_assumed_simulated_and_failed(command: Command, ledger: Path) -> None:
    text = command("table").out
    assert max(len(line) for line in text.splitlines()) <= 100
    for words in (
        "PUE 1.54 assumed",
        "intensity 0.45829 kg/kWh assumed: World",
        "tariff 0.0806 USD/kWh assumed",
        "simulated: no real device was read (sim)",
        "failed: its energy was spent too",
        "scope gpu: without CPUs",
        "large (failed)",
        "total",
    ):
        assert words in text


def test_named_runs_and_flags(command: Command, ledger: Path) -> None:
    done = command(
        "table", "small", SMALL.run.id[:9], "--zone", "FR", "--pue", "1.2", "--tariff", "0.2",
        "--currency", "EUR", "--format", "json",
    )  # fmt: skip
    (row,) = done.json["rows"]
    assert (row["label"], row["pue"], row["currency"], row["assumed"]) == ("small", 1.2, "EUR", [])
    assert row["intensity_kg_per_kwh"] == pytest.approx(0.04144)
    assert row["cost"] == pytest.approx(row["facility_kwh"] * 0.2)


def test_both_methods_and_their_ratio(command: Command, tmp_path: Path) -> None:
    """Power over power: neither coverage nor a CPU beside the GPUs is in it; nor in the total's."""
    write_ledger(
        tmp_path / "ledger.db",
        Recorded(name="whole", number=1),
        Recorded(name="gap", number=2, coverage=0.4),
        Recorded(name="idle", number=3, power_w=200.0, coverage=0.1),
    )
    both = ("table", "--method", "report,measured")
    answer = command(*both, "--format", "json").json
    ratio = {row["label"]: row["rated_over_measured"] for row in answer["rows"][::2]}
    assert [row["method"] for row in answer["rows"][:2]] == ["report", "measured"]
    assert ratio == {
        "whole": pytest.approx(400 / 360),
        "gap": pytest.approx(400 / 360),
        "idle": pytest.approx(2.0),
    }
    assert answer["rows"][1]["rated_over_measured"] is None
    assert answer["totals"]["report"]["rated_over_measured"] == pytest.approx(
        400 * 1.5 / (360 * 1.4 + 200 * 0.1)
    )
    lines = list(csv.DictReader(io.StringIO(command(*both, "--format", "csv").out)))
    assert float(lines[0]["rated_over_measured"]) == pytest.approx(2.0)
    text = command(*both).out
    assert len([line for line in text.splitlines() if "rated ÷ measured:" in line]) == 1
    head, _, *cells = command(*both, "--format", "markdown").out.splitlines()
    at = head.split("|").index(" rated ÷ (measured) ")
    shown = [line.split("|")[at].strip() for line in cells if line.startswith("|")]
    assert shown == ["2", "–", "1.111", "–", "1.111", "–", "1.145", "–"]
    assert "rated ÷" not in command("table").out


def test_methods_side_by_side_have_the_same_factors(command: Command, tmp_path: Path) -> None:
    """More energy is more carbon; who wants the report's own factors asks for its table."""
    write_ledger(tmp_path / "ledger.db", Recorded(number=1), Recorded(name="other", number=2))
    both = ("--method", "report,measured", "--format", "json")
    pue = catalog.pue("industry").value
    for options in ((), ("--by", "month")):
        rows = command("table", *options, *both).json["rows"]
        assert {(row["pue"], row["intensity_kg_per_kwh"]) for row in rows} == {(pue, 0.45829)}
        for report, measured in zip(rows[::2], rows[1::2], strict=True):
            assert report["tco2e"] / measured["tco2e"] == pytest.approx(400 / 360)
            assert report["energy_kwh"] / measured["energy_kwh"] == pytest.approx(400 / 360)
    steps = [
        {step["name"]: step["value"] for step in one["steps"]}
        for one in command("explain", "other", *both).json["explained"]
    ]
    assert [step["PUE"] for step in steps] == [pue, pue]
    (alone,) = command("table", "other", *both, "--method", "report").json["rows"]
    assert (alone["pue"], alone["intensity_kg_per_kwh"]) == (1.1, 0.385)
    text = command("table", *both[:2], "--like", "llama2").out
    notes = [" ".join(note.split()) for note in text.split("•")]
    reported, measured = [note for note in notes if note.startswith("PUE")]
    assert reported.startswith("PUE 1.1 assumed: as LLaMA states") and reported.endswith(
        " (report)"
    )
    assert measured.startswith(f"PUE {pue} assumed") and measured.endswith(" (measured)")


def test_factors_that_differ_are_columns(command: Command, tmp_path: Path) -> None:
    alike = {"pue": 1.2, "tariff": 0.1}
    write_ledger(
        tmp_path / "ledger.db",
        Recorded(name="here", number=1, facility={**alike, "zone": "FRA"}),
        Recorded(name="there", number=2, facility={**alike, "zone": "POL"}),
        Recorded(name="nowhere", number=3, facility={**alike, "zone": "NOWHERE"}),
    )
    lines = command("table", "--format", "markdown").out.splitlines()
    heads = [cell.strip() for cell in lines[0].split("|")]
    assert "intensity (kg/kWh)" in heads
    assert "PUE" not in heads
    at = heads.index("intensity (kg/kWh)")
    cells = [line.split("|")[at].strip() for line in lines[2:5]]
    assert cells[0] == "–"
    assert cells[2] == "0.04144"
    assert "PUE" in command("table", "here", "--format", "markdown").out, "in the notes"
    other = command("table", "--pue", "1.2", "--zone", "FRA", "--format", "markdown").out
    assert "intensity (kg/kWh)" not in other


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
    command: Command, ledger: Path, options: list[str], labels: list[str]
) -> None:
    answer = command("table", *options, "--format", "json").json
    assert [row["label"] for row in answer["rows"]] == labels


def test_unlike_runs_have_sub_totals(command: Command, tmp_path: Path) -> None:
    euro = {"tariff": 0.2, "currency": "EUR"}
    write_ledger(
        tmp_path / "ledger.db",
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


def test_coverage_says_of_how_many_runs(command: Command, tmp_path: Path) -> None:
    write_ledger(
        tmp_path / "ledger.db",
        *(Recorded(number=n) for n in range(1, 7)),
        *(Recorded(name="none", number=n, count=0) for n in (7, 8)),
    )
    assert "100.0 % of 6 of 8 runs" in command("table").out
    assert "100.0 % of 6" not in command("table", "llama2-7b").out


@pytest.fixture
def long_ledger(tmp_path: Path) -> Path:
    """One run of 60 days over two nodes, one beside it on the same devices, one more."""
    long = Recorded(name="long", number=1, project="llm", count=2, seconds=60 * 86_400.0)
    far = replace(long, host="node2", meter="sim", quality="simulated", steps=0)
    beside = Recorded(name="beside", number=30, count=2, seconds=5 * 86_400.0, tags={"team": "x"})
    later = Recorded(name="later", number=80, count=2, user="bob", model={"name": "s"}, steps=0)
    return write_ledger(tmp_path / "ledger.db", long, far, beside, later)


@pytest.mark.parametrize(
    "by", ["name", "project", "user", "model", "status", "host", "month", "tag:team"]
)
def test_groups_add_up_to_the_total(command: Command, long_ledger: Path, by: str) -> None:
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
    command: Command, long_ledger: Path, first: str
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


def test_two_keys_in_every_format(command: Command, long_ledger: Path) -> None:
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
    command: Command, long_ledger: Path, keys: list[str], said: str
) -> None:
    done = command("table", *(word for key in keys for word in ("--by", key)))
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_a_run_of_60_days_is_in_each_of_its_months(command: Command, long_ledger: Path) -> None:
    rows = command("table", "long", "--by", "month", "--format", "json").json["rows"]
    assert [row["label"] for row in rows] == ["2026-07", "2026-06", "2026-05"]
    assert rows[1]["gpu_hours"] == pytest.approx(30 * 24 * 4)
    assert rows[1]["energy_kwh"] == pytest.approx(30 * 24 * 4 * 0.36)
    hosts = command("table", "long", "--by", "host", "--format", "json").json["rows"]
    assert [(row["label"], row["devices"]) for row in hosts] == [("node1", 2), ("node2", 2)]


def test_a_run_must_have_every_tag(command: Command, tmp_path: Path) -> None:
    write_ledger(
        tmp_path / "ledger.db",
        Recorded(name="both", number=1, tags={"a": "1", "b": "2"}),
        Recorded(name="one", number=2, tags={"b": "2"}),
    )
    both = ("--tag", "a=1", "--tag", "b=2", "--format", "json")
    for named in ((), ("both", "one")):
        answer = command("table", *named, *both).json
        assert [row["label"] for row in answer["rows"]] == ["both"]


def test_a_run_whose_place_cannot_be_found_does_not_hide_the_others(
    command: Command, tmp_path: Path
) -> None:
    write_ledger(
        tmp_path / "ledger.db",
        Recorded(name="good", number=1),
        Recorded(name="lost", number=2, facility={"zone": "NOWHERE"}),
        Recorded(name="unpriced", number=3, facility={"price": "book:gone"}),
    )
    answer = command("table", "--method", "report,measured", "--format", "json").json
    by_name = {row["label"]: row for row in answer["rows"]}
    assert by_name["lost"]["energy_kwh"] == by_name["good"]["energy_kwh"]
    assert (by_name["lost"]["tco2e"], by_name["lost"]["cost"]) == (None, None)
    assert by_name["unpriced"]["tco2e"] == by_name["good"]["tco2e"]
    assert by_name["unpriced"]["cost"] is None
    text = " ".join(command("table").out.split())
    assert "lost: neither CO₂e nor cost: zone 'NOWHERE' is unknown." in text
    assert "unpriced: no cost: no imported price 'book:gone'." in text
    assert "CO₂e of the total is too low: it is unknown for 1 of 3 rows" in text
    assert command("table", "lost", "--zone", "FRA", "--format", "json").json["total"]["tco2e"]
    assert command("explain", "lost").out.splitlines()[-1] == "CO₂e –"
    assert command("table", "--zone", "NOWHERE").code == 2, "what was asked for here is refused"
    done = command("project", "lost", "--tokens", "2T")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "NOWHERE" in done.err


def test_like_llama2_has_exactly_table_2s_columns(command: Command, ledger: Path) -> None:
    head = command("table", "small", "--like", "llama2", "--format", "markdown").out.splitlines()[0]
    assert head == "| run | Time (GPU hours) | Power Consumption (W) | Carbon Emitted (tCO2eq) |"
    both = ("--like", "llama2", "--method", "report,measured", "--format", "markdown")
    rows = command("table", "small", *both).out.splitlines()[2:4]
    assert [row.split("|")[1].strip() for row in rows] == ["small (report)", "small (measured)"]


def test_market_based_and_embodied_stand_in_their_own_columns(
    command: Command, ledger: Path
) -> None:
    options = ("--contract-intensity", "0", "--embodied")
    row = command("table", "small", *options, "--format", "json").json["rows"][0]
    assert row["tco2e_market"] == 0.0
    assert row["tco2e"] > 0
    assert row["embodied_tco2e"] == pytest.approx(16 * 150 / (6 * 8760 * 0.85) / 1000)
    assert {"lifetime_years", "utilisation"} <= set(row["assumed"])
    assert row["sci_g_per_mtok"] == pytest.approx(
        (row["tco2e"] + row["embodied_tco2e"]) * 1e6 / (row["tokens"] / 1e6)
    )
    text = command("table", "small", *options).out
    assert "market" in text
    for words in (
        "embodied 150 kgCO2e/GPU",
        "one GPU without its server",
        "lifetime 6 years",
        "utilisation 0.85 assumed",
        "SCI",
    ):
        assert words in " ".join(text.split())
    (made,) = [f for f in row["factors"] if f["name"] == "embodied_kg"]
    assert (made["value"], made["basis"]) == (150, "one GPU without its server")
    assert made["version"]


def test_each_run_keeps_the_facility_it_was_recorded_in(command: Command, tmp_path: Path) -> None:
    write_ledger(
        tmp_path / "ledger.db",
        Recorded(name="here", number=1, facility={"zone": "FRA", "pue": 1.1}),
        Recorded(
            name="there", number=2, facility={"zone": "POL", "tariff": 0.2, "currency": "EUR"}
        ),
    )
    answer = command("table", "--format", "json").json
    there, here = answer["rows"]
    assert (here["pue"], here["assumed"]) == (1.1, ["tariff"])
    assert there["intensity_kg_per_kwh"] > 10 * here["intensity_kg_per_kwh"]
    assert answer["total"]["cost"] is None, "USD and EUR are not added"
    assert "EUR and USD" in command("table").out


def test_project_file_and_environment(
    command: Command, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("carbontrack.toml").write_text("pue = 1.3\ntariff = 0.1\n")
    monkeypatch.setenv("CARBONTRACK_PUE", "1.25")
    row = command("table", "small", "--format", "json").json["rows"][0]
    assert (row["pue"], row["assumed"]) == (1.25, ["intensity"])


def test_csv_and_parquet_hold_full_precision(command: Command, ledger: Path) -> None:
    import pandas as pd

    expected = command("table", "--format", "json").json["rows"]
    lines = list(csv.DictReader(io.StringIO(command("table", "--format", "csv").out)))
    assert [float(line["tco2e"]) for line in lines] == [row["tco2e"] for row in expected]
    assert lines[0]["assumed"] == "pue;intensity;tariff"
    assert command("table", "--format", "parquet", "--out", "t.parquet").code == 0
    frame = pd.read_parquet("t.parquet")
    assert list(frame["tco2e"]) == [row["tco2e"] for row in expected]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["table", "nobody"], "carbontrack runs"),
        (["table", "--method", "guess"], "measured or report"),
        (["table", "--by", "moon"], "tag:KEY"),
        (["table", "--like", "gpt"], "llama2"),
        (["table", "--like", "llama2", "--format", "csv"], "--format text, markdown"),
        (["table", "--unit", "lb"], "Give MWh, kWh"),
        (["table", "--unit", "kWh", "--unit", "MWh"], "two units of one quantity"),
        (["table", "--unit", "kg", "--out", "x.csv"], "without it csv has every column"),
        (["table", "--out", "x.docx"], "no format has files that end in .docx"),
        (["table", "--only", "done"], "completed"),
        (["table", "--since", "soon"], "7d"),
        (["table", "--tag", "nlp"], "KEY=VALUE"),
        (["table", "--zone", "Frnce"], "FRA"),
        (["table", "--pue", "0.9"], "below 1"),
        (["table", "--published", "lama 2"], "Llama 2"),
        (["table", "small", "--published", "sam"], "RUNS would change nothing"),
        (["table", "--published", "sam", "--pue", "1.2", "--method", "guess"], "--method, --pue"),
        (["table", "--published", "sam", "--format", "csv"], "Take json"),
        (["table", "--out", "no/such/folder/x.csv", "--format", "csv"], "No such file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_one_line(
    command: Command, ledger: Path, arguments: list[str], says: str
) -> None:
    done = command(*arguments)
    assert done.code in (1, 2)
    assert done.err.count("\n") == 1
    assert says in done.err
    assert done.out == ""


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("t.csv", "label,"),
        ("t.md", "| run |"),
        ("t.markdown", "| run |"),
        ("t.TEX", "%"),
        ("t.html", "<table>"),
        ("t.json", "{"),
        ("t.yml", "rows:\n- label:"),
        ("t.txt", " "),
        ("t", " "),
    ],
)
def test_a_file_has_the_format_that_its_name_says(
    command: Command, ledger: Path, name: str, begins: str
) -> None:
    assert command("table", "small", "--out", name).code == 0
    assert Path(name).read_text().startswith(begins)
    assert command("table", "small", "--out", name, "--format", "json").code == 0
    assert Path(name).read_text().startswith("{"), "what is said goes before the name"


def test_json_and_yaml_say_the_same(command: Command, ledger: Path) -> None:
    both = ("table", "--by", "user", "--format")
    assert yaml.safe_load(command(*both, "yaml").out) == command(*both, "json").json


def test_what_is_binary_is_not_put_on_a_terminal(
    command: Command, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    assert command("table", "small", "--out", "t.parquet").code == 0
    (row,) = pd.read_parquet("t.parquet").to_dict("records")
    assert row["started"] == pd.Timestamp(SMALL.start_ms, unit="ms", tz="UTC")
    with monkeypatch.context() as patch:
        patch.setattr("carbontrack.report.render._on_terminal", lambda: True)
        done = command("table", "small", "--format", "parquet")
    assert (done.code, done.out) == (2, "")
    assert "--out table.parquet" in done.err


def test_the_newest_of_a_name_is_shown_and_said(command: Command, ledger: Path) -> None:
    for asked in ("table", "show", "explain"):
        done = command(asked, "large")
        assert f"2 runs are named large; the newest is shown ({FAILED.run.id[:13]})" in done.err
        assert command(asked, FAILED.run.id).err == ""
    assert command("table", "small").err == ""


def test_a_shell_completes_the_names_of_runs(command: Command, ledger: Path) -> None:
    from carbontrack.cli.common import _run_names

    assert _run_names("") == ["large", "sim", "small"]
    assert _run_names("s") == ["sim", "small"]
    assert _run_names("%") == []


def test_a_pipe_is_as_wide_as_columns_says(
    command: Command, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "72")
    assert max(map(len, command("table").out.splitlines())) <= 72
    monkeypatch.setenv("COLUMNS", "200")
    assert "left out" not in command("table").out


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_runs_has_a_readable_name_at_any_width(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    named = Recorded(name="llama2-13b-ablation-3", status=Status.FAILED, exit_code=143)
    short = replace(named, number=2, seconds=75.0, quality="estimate", meter="cpu-model")
    write_ledger(tmp_path / "ledger.db", named, short)
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = [line.rstrip() for line in command("runs").out.splitlines()]
    assert max(map(len, lines)) <= columns
    assert "llama2-13b-a" in lines[1]
    assert short.run.id[:13] in lines[1]
    assert lines[1].endswith("estimate") or columns == 200
    assert ("2026-05-30 " in lines[1] or "2026-05-31 " in lines[1]) == (columns == 200)


def test_runs_is_too_wide_rather_than_cut(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ledger(tmp_path / "ledger.db", Recorded(name="x" * 30, quality="simulated", meter="sim"))
    monkeypatch.setenv("COLUMNS", "30")
    assert "5.76 kWh simulated" in command("runs").out


def test_the_band_of_the_sensors_is_shown_where_it_is_asked_for(
    command: Command, ledger: Path
) -> None:
    """Of NVML's readings, and of what follows from them; a simulated device has none."""
    lines = command("table", "small", "sim", "--band", "--unit", "kWh").out.splitlines()
    (small,) = (line for line in lines if line.startswith(" small"))
    (sim,) = (line for line in lines if line.startswith(" sim"))
    assert "5.76 ± 0.29" in small
    assert "0.71 ± 0.04" in small
    assert "±" not in sim
    assert any("±: a band of 5 % of the sensors, assumed" in line for line in lines)
    assert "5.76 $\\pm$ 0.29" in command("table", "small", "--band", "--format", "latex").out
    assert "±" not in command("table", "small").out
    rows = command("table", "small", "sim", "--format", "json").json["rows"]
    assert [row["sensor_band"] for row in rows] == [0.05, None]
    rented = command("table", "small", "--band", "--price-per-gpu-hour", "2").out
    assert "32.00 ±" not in rented, "hours are not measured by a sensor"
    assert "± 0.288 kWh: a band of 5 %" in command("explain", "small").out
    report = command("table", "small", "--band", "--method", "report").out
    assert "±" not in report


def test_cost_says_what_it_is_made_of(command: Command, ledger: Path) -> None:
    def said(*options: str) -> tuple[str, str]:
        (row,) = command("table", "small", *options, "--format", "json").json["rows"]
        return row["cost_of"], " ".join(command("table", "small", *options).out.split())

    of, text = said()
    assert (of, "cost: electricity only" in text) == ("electricity", True)
    of, text = said("--gpu-price", "20000")
    assert (of, "cost: electricity + hardware" in text) == ("electricity + hardware", True)
    of, text = said("--price-per-gpu-hour", "2")
    assert (of, "cost: rent of GPU-hours" in text) == ("rent", True)
    of, text = said("--currency", "EUR")
    assert (of, "no cost: no price in EUR is known; set a tariff" in text) == ("", True)


def test_no_run_matches(command: Command, ledger: Path) -> None:
    assert "No such runs" in command("table", "--project", "none").out
    answer = command("table", "--project", "none", "--format", "json").json
    assert answer == {"rows": [], "total": None}


def test_without_a_ledger(command: Command) -> None:
    done = command("table")
    assert (done.code, done.out) == (2, "")
    assert "carbontrack run" in done.err


def test_published_table_of_llama2_to_the_printed_digit(command: Command) -> None:
    answer = command("table", "--published", "llama 2", "--format", "json").json
    printed = [row["tco2e"]["recomputed_as_printed"] for row in answer["rows"]]
    assert printed == ["31.22", "62.44", "153.90", "291.42", "539.00"]
    assert [row["tco2e"]["how"] for row in answer["rows"]][1:3] == ["cut", "cut"]
    assert {row["factors"] for row in answer["rows"]} == {"assumed"}
    text = command("table", "--published", "llama 2").out
    assert "3,311,616" in text
    assert "neither PUE nor intensity" in text


def test_published_energy_says_whether_pue_is_in_it(command: Command) -> None:
    text = command("table", "--published", "BLOOM", "--format", "markdown").out
    head, _, *rows = [line for line in text.splitlines() if line.startswith("|")]
    at = [cell.strip() for cell in head.split("|")].index("PUE (in MWh)")
    assert [row.split("|")[at].strip() for row in rows] == ["no", "no", "yes", "–", "–"]
    assert head.count("off by") == 2, "of the energy and of the carbon"
    assert "MWh after PUE" in command("table", "--published", "llama 1").out
    sam = command("table", "--published", "sam", "--format", "json").json["rows"][0]
    assert (sam["status"], sam["energy_mwh"]["status"]) == ("energy only", "reproduces")


def test_published_list_and_all(command: Command) -> None:
    names = [
        entry["name"]
        for entry in command("table", "--published", "list", "--format", "json").json["published"]
    ]
    assert {"LLaMA 1", "Llama 2", "Patterson 2021", "BLOOM", "OLMo 2"} <= set(names)
    answer = command("table", "--published", "all", "--format", "json").json
    assert answer["rows"] == 156 == sum(answer["by_status"].values())
    assert answer["by_status"]["does not follow"] == 4
    assert "does not follow" in command("table", "--published", "all").out


def test_numbers_in_json_are_finite(command: Command, ledger: Path) -> None:
    def walk(value: object) -> None:
        if isinstance(value, dict):
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)
        else:
            assert not isinstance(value, float) or math.isfinite(value)

    walk(command("table", "--format", "json").json)
