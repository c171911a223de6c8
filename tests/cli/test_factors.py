"""`carbontrack factors`, and runs priced with what was imported."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.command import Command
from tests.fixtures.runs import Recorded, write_ledger

PRICES = """\
InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,SpotPrice,Region,GpuInfo
p4de.24xlarge,A100-80GB,8,96,1152,40.96,12.29,us-east-1,x
m5.large,,,2,8,0.096,0.03,us-east-1,
p4de.24xlarge,A100-80GB,8,96,1152,40.96,10.00,us-east-1,x
"""


def hourly_file(path: Path, recorded: Recorded, values: list[float], *, skip: int = -1) -> str:
    begin = datetime.fromtimestamp(recorded.start_ms / 1000, UTC)
    lines = ["time,zone,kg_per_kwh"]
    for i, value in enumerate(values):
        if i != skip:
            lines.append(f"{(begin + timedelta(hours=i)).isoformat()},FR,{value}")
    path.write_text("\n".join(lines))
    return str(path)


def test_list_by_kind(command: Command) -> None:
    everything = command("factors", "list", "--format", "json").json["factors"]
    assert {entry["kind"] for entry in everything} == {"intensity", "pue", "hardware", "price"}
    only = command("factors", "list", "pue", "--format", "json").json["factors"]
    assert {"industry", "llama", "gcp"} <= {entry["name"] for entry in only}
    assert all(entry["source"] and entry["licence"] and entry["version"] for entry in everything)


def test_search_and_show(command: Command) -> None:
    assert "gcp:us-central1" in command("factors", "search", "iowa").out
    shown = command("factors", "show", "france", "--format", "json").json["factors"]
    assert [entry["year"] for entry in shown] == ["2025", "2024", "2023", "2022", "2021"]
    assert "700" in command("factors", "show", "H100").out
    assert "CC BY 4.0" in command("factors", "show", "FR").out


def test_show_has_every_version_with_the_day_from_which_it_is_known(command: Command) -> None:
    shown = command("factors", "show", "gcp", "--format", "json").json["factors"]
    assert [(e["value"], e["known_from"]) for e in shown] == [
        (1.09, "2026-11-28"),
        (1.12, "2024-12-31"),
    ]
    text = " ".join(command("factors", "show", "NVIDIA A100-SXM4-40GB").out.split())
    assert "known" in text
    assert text.count("NVIDIA A100-SXM4-40GB") == 2


def test_an_estimate_of_the_last_edition_is_made_again_to_the_digit(command: Command) -> None:
    """What the release before the revisions printed for the same command."""
    asked = ("--gpu-hours", "1000", "--power", "400", "--provider", "gcp", "--zone", "US-CAMX")

    def tco2e(*more: str) -> float:
        row = command("estimate", *asked, *more, "--format", "json").json["rows"][0]
        return float(row["tco2e"])

    assert tco2e() == pytest.approx(0.400 * 1.09 * 0.19504)
    assert tco2e("--factors-as-of", "2026-11-27") == pytest.approx(0.101472, abs=5e-13)


def test_a_borrowed_embodied_figure_says_so_wherever_it_is_shown(
    command: Command, tmp_path: Path
) -> None:
    write_ledger(tmp_path / "ledger.db", Recorded(device="NVIDIA H200"))
    for arguments in (
        ("factors", "show", "H200"),
        ("explain", "last", "--embodied"),
        ("table", "--embodied"),
        ("estimate", "--gpu-hours", "10", "--gpu", "H200", "--embodied"),
    ):
        text = " ".join(command(*arguments).out.split())
        assert "borrowed from the H100, a lower bound" in text, arguments


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["list", "colour"], "intensity, pue, hardware, price"),
        (["search", "atlantis"], "factors list"),
        (["show", "atlantis"], "factors search atlantis"),
        (["import", "intensity", "none.csv"], "none.csv: No such file"),
        (["import", "prices", "none.csv"], "none.csv: No such file"),
    ],
)
def test_mistakes_are_one_line(command: Command, arguments: list[str], says: str) -> None:
    done = command("factors", *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert says in done.err


def test_an_imported_series_prices_a_run_hour_by_hour(command: Command, tmp_path: Path) -> None:
    run = Recorded()
    write_ledger(tmp_path / "ledger.db", run)
    file = hourly_file(tmp_path / "fr.csv", run, [0.1, 0.3, 0.9])
    assert "3 intervals of FRA" in command("factors", "import", "intensity", file).out
    row = command("table", "--zone", "FR", "--format", "json").json["rows"][0]
    assert row["intensity_kg_per_kwh"] == pytest.approx(0.2), "equal energy in both hours"
    year = command("table", "--zone", "FR@2024", "--format", "json").json["rows"][0]
    assert year["intensity_kg_per_kwh"] == pytest.approx(0.04048), "a year that is asked for wins"
    assert "hour by hour" in command("explain", "--zone", "FR").out
    assert "FRA" in command("factors", "list", "--imported").out


def test_a_zone_that_only_the_ledger_knows(command: Command, tmp_path: Path) -> None:
    run = Recorded()
    write_ledger(tmp_path / "ledger.db", run)
    file = hourly_file(tmp_path / "own.csv", run, [0.1, 0.3])
    command("factors", "import", "intensity", file, "--zone", "our-solar-roof")
    row = command("table", "--zone", "our-solar-roof", "--format", "json").json["rows"][0]
    assert row["intensity_kg_per_kwh"] == pytest.approx(0.2)


def test_hours_of_a_zone_of_ones_own_price_the_runs_of_their_time(
    command: Command, tmp_path: Path
) -> None:
    inside, outside = Recorded(name="inside"), Recorded(name="outside", number=2)
    write_ledger(tmp_path / "ledger.db", inside, outside)
    file = hourly_file(tmp_path / "own.csv", inside, [0.1, 0.3])
    of_june = ("--zone", "our-solar-roof", "--version", "2026-06-01")
    command("factors", "import", "intensity", file, *of_june)

    def rows(*more: str) -> dict[str, dict[str, Any]]:
        found = command("table", "--zone", "our-solar-roof", *more, "--format", "json").json["rows"]
        return {row["label"]: row for row in found}

    found = rows()
    assert found["inside"]["intensity_kg_per_kwh"] == pytest.approx(0.2)
    assert found["outside"]["energy_kwh"] == found["inside"]["energy_kwh"]
    assert (found["outside"]["tco2e"], found["outside"]["cost"]) == (None, None)
    why = "neither CO₂e nor cost: no hours of our-solar-roof were imported for its time"
    assert found["outside"]["notes"] == [why]
    assert rows("--intensity", "0.4")["outside"]["intensity_kg_per_kwh"] == 0.4
    early = rows("--factors-as-of", "2026-05-31")
    assert [row["notes"] for row in early.values()] == [[f"{why} by 2026-05-31"]] * 2
    assert command("amend", "outside", "--zone", "our-solar-roof").code == 0, "hours may follow"
    recorded = command("table", "outside", "--format", "json").json["rows"]
    assert [row["notes"] for row in recorded] == [[why]]
    refused = command("table", "--zone", "our-lunar-roof")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "zone 'our-lunar-roof' is unknown" in refused.err


def test_missing_hours_are_named_and_filled_only_when_asked(
    command: Command, tmp_path: Path
) -> None:
    run = Recorded(seconds=4 * 3600.0)
    write_ledger(tmp_path / "ledger.db", run)
    file = hourly_file(tmp_path / "fr.csv", run, [0.1, 0.5, 0.3, 0.3], skip=1)
    said = command("factors", "import", "intensity", file).out
    assert "1 h missing from" in said
    assert "--bridge" in said
    row = command("table", "--zone", "FR", "--format", "json").json["rows"][0]
    assert row["intensity_kg_per_kwh"] == pytest.approx((0.1 + 0.7 / 3 + 0.3 + 0.3) / 4)
    assert "1 of its 4 hours" in row["notes"][0]
    assert "the mean of the other 3 stands in" in row["notes"][0]
    command("factors", "import", "intensity", file, "--bridge")
    row = command("table", "--zone", "FR", "--format", "json").json["rows"][0]
    assert row["intensity_kg_per_kwh"] == pytest.approx((0.1 + 0.2 + 0.3 + 0.3) / 4)


def test_a_bad_file_leaves_nothing_behind(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "bad.csv"
    file.write_text("time,zone,kg_per_kwh\n2026-01-01T00:00Z,FR,0.1\n2026-01-01T01:00Z,FR,385\n")
    done = command("factors", "import", "intensity", str(file))
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "bad.csv, row 3, column 'kg_per_kwh': '385'" in done.err
    assert command("factors", "list", "--imported", "--format", "json").json["factors"] == []


def test_what_is_no_file_is_one_line_and_standard_input_is_read(tmp_path: Path) -> None:
    fifo = tmp_path / "grid.csv"
    os.mkfifo(fifo)
    ledger = tmp_path / "l.db"

    def imported(file: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", "carbontrack", "factors", "import", "intensity", file]
        table = "time,zone,kg_per_kwh\n2026-01-01T00:00Z,FR,0.1\n"
        return subprocess.run(
            [*program, "--db", str(ledger)], input=table, capture_output=True, text=True
        )

    refused = imported(str(fifo))
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "grid.csv: not a regular file" in refused.stderr
    assert not ledger.exists()
    assert imported("/dev/stdin").returncode == 0


def test_a_price_catalogue(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "aws.csv"
    file.write_text(PRICES)
    assert command("factors", "import", "prices", str(file), "--format", "json").json == {
        "book": "aws",
        "prices": 2,
        "replaced": [],
    }
    found = command("factors", "search", "p4de", "--format", "json").json["factors"]
    by_name = {entry["name"]: entry["value"] for entry in found}
    assert by_name == {
        "aws:p4de.24xlarge@us-east-1": pytest.approx(5.12),
        "aws:p4de.24xlarge@us-east-1/spot": pytest.approx(1.25),
    }


def test_accelerators_that_are_priced_apart_from_their_host(
    command: Command, tmp_path: Path
) -> None:
    """Google's rows have no instance: each kind of GPU is an item of its own."""
    header = PRICES.splitlines()[0]
    rows = [f",{gpu},2,,,{price},,us-central1," for gpu, price in (("A100", 4), ("H100", 8))]
    (tmp_path / "gcp.csv").write_text("\n".join([header, *rows]))
    assert "2 prices imported" in command("factors", "import", "prices", "gcp.csv").out
    found = command("factors", "list", "price", "--imported", "--format", "json").json["factors"]
    assert {entry["name"]: entry["value"] for entry in found} == {
        "gcp:A100@us-central1": 2.0,
        "gcp:H100@us-central1": 4.0,
    }
    assert all("without its host" in entry["source"] for entry in found)


def test_an_import_says_what_it_replaces_and_whose_zone_it_is(
    command: Command, tmp_path: Path
) -> None:
    file = hourly_file(tmp_path / "own.csv", Recorded(), [0.1])
    again = ("factors", "import", "intensity", file, "--zone", "our-roof", "--version", "v1")
    said = command(*again).out
    assert "1 interval of our-roof" in said
    assert "our-roof is a zone of your own" in said
    assert "replaced" not in command(*again).out, "the same values again"
    hourly_file(tmp_path / "own.csv", Recorded(), [0.2])
    assert "Other values of version v1 of our-roof were replaced." in command(*again).out
    (tmp_path / "aws.csv").write_text(PRICES)
    command("factors", "import", "prices", "aws.csv", "--version", "v1")
    (tmp_path / "aws.csv").write_text(PRICES.replace("40.96", "80"))
    said = command("factors", "import", "prices", "aws.csv", "--version", "v1").out
    assert "Other prices of version v1 of aws were replaced." in said


def test_a_run_is_priced_by_an_imported_price(command: Command, tmp_path: Path) -> None:
    write_ledger(tmp_path / "ledger.db", Recorded())
    (tmp_path / "aws.csv").write_text(PRICES)
    command("factors", "import", "prices", "aws.csv", "--version", "2026-01-31")
    options = ("--price", "aws:p4de.24xlarge@us-east-1", "--format", "json")
    row = command("table", *options).json["rows"][0]
    assert (row["cost"], row["currency"]) == (pytest.approx(16 * 5.12), "USD")
    assert "tariff" not in row["assumed"]
    (explained,) = command("explain", *options).json["explained"]
    rent = {step["name"]: step for step in explained["steps"]}["rent"]
    assert (rent["value"], rent["unit"]) == (5.12, "USD/GPU-hour")
    name = "aws:p4de.24xlarge@us-east-1 of 2026-01-31"
    assert rent["how"] == f"{name}, aws.csv: A100-80GB, version 2026-01-31"
    (factor,) = [f for f in row["factors"] if f["name"] == "price_per_gpu_hour"]
    assert (factor["source"], factor["version"]) == (f"{name}, aws.csv: A100-80GB", "2026-01-31")
    assert f"rent 5.12 USD/GPU-hour: {name}" in " ".join(command("table", *options[:2]).out.split())
    (tmp_path / "carbontrack.toml").write_text("price = 'aws:p4de.24xlarge@us-east-1/spot'")
    assert command("table", "--format", "json").json["rows"][0]["cost"] == pytest.approx(16 * 1.25)
    assert command("table", "--tariff", "0.1", "--format", "json").json["rows"][0]["cost"] < 1
    done = command("table", "--price", "aws:p9")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "factors list price --imported" in done.err
    done = command("table", *options[:2], "--currency", "EUR")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "is in USD (flag), but the currency is EUR (flag)" in done.err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("InstanceType,Price\n", "no column AcceleratorName"),
        (
            PRICES.replace("40.96,12.29", "much,12.29"),
            "row 2, column 'Price': 'much' is not a number",
        ),
        (PRICES.replace("40.96,12.29", "-1,12.29"), "row 2, column 'Price': '-1' is negative"),
        (PRICES.replace("40.96,12.29", "99999,12.29"), "USD for a GPU-hour"),
        (PRICES.splitlines()[0], "no price of an accelerator"),
        (PRICES.replace("A100-80GB,8", "A100-80GB,0"), "row 2, column 'AcceleratorCount': '0'"),
        (PRICES + "p4d.24xlarge,A100,8,96\n", "row 5: no cell for column 'MemoryGiB'"),
        (PRICES.replace("40.96,12.29", "40,96,12.29"), "A decimal comma?"),
    ],
)
def test_a_bad_catalogue_is_refused_whole(
    command: Command, tmp_path: Path, text: str, says: str
) -> None:
    file = tmp_path / "aws.csv"
    file.write_text(text)
    done = command("factors", "import", "prices", str(file))
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert says in done.err
    assert "aws.csv, " in done.err
    assert done.err.endswith("Nothing was imported.\n")
    assert command("factors", "list", "--imported", "--format", "json").json["factors"] == []
