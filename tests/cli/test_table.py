"""The rows of `carbontrack table`, on a ledger of several runs with 8 devices each."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from carbontrack.factors import catalog
from tests.cli.conftest import SMALL
from tests.fixtures.command import Command
from tests.fixtures.runs import Recorded, write_ledger

_KEYS = """
    label run_ids status devices gpu_hours power_w energy_kwh facility_kwh pue intensity_kg_per_kwh
    tco2e cost currency coverage scope meter method tokens final_loss assumed
"""


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
        "tariff 0.0862 USD/kWh assumed",
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
