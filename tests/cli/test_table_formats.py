"""The formats of `carbontrack table`, and the numbers and units in each."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.cli.conftest import SMALL
from tests.fixtures.command import Command
from tests.fixtures.runs import Recorded, write_ledger


def test_like_llama2_has_exactly_table_2s_columns(command: Command, ledger: Path) -> None:
    head = command("table", "small", "--like", "llama2", "--format", "markdown").out.splitlines()[0]
    assert head == "| run | Time (GPU hours) | Power Consumption (W) | Carbon Emitted (tCO2eq) |"
    both = ("--like", "llama2", "--method", "report,measured", "--format", "markdown")
    rows = command("table", "small", *both).out.splitlines()[2:4]
    assert [row.split("|")[1].strip() for row in rows] == ["small (report)", "small (measured)"]


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
    done = command("table", "small", "--out", name)
    beside = " and t.bib" if name == "t.TEX" else ""
    assert (done.code, done.out, done.err) == (0, "", f"carbontrack: wrote {name}{beside}\n")
    assert Path(name).read_text().startswith(begins)
    assert command("table", "small", "--out", name, "-q").err == ""
    assert command("table", "small", "--out", name, "--format", "json").code == 0
    assert Path(name).read_text().startswith("{"), "what is said goes before the name"


def test_a_bibliography_of_somebody_else_is_not_replaced(command: Command, ledger: Path) -> None:
    out, beside = Path("paper.tex"), Path("paper.bib")
    for theirs in ("@book{a,\n}\n", "% Encoding: UTF-8\n\n@book{a,\n}\n", "% Sources\n", ""):
        beside.write_text(theirs)
        refused = command("table", "small", "--out", str(out))
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert "paper.bib is not by carbontrack, and would be overwritten." in refused.err
        assert (beside.read_text(), out.exists()) == (theirs, False)
    beside.unlink()
    for runs in (("small",), ("small", "--zone", "FRA")):
        assert command("table", *runs, "--out", str(out)).code == 0, "ours is made again"
    assert "owid-ember" in beside.read_text()


def test_a_model_card_has_the_sum_of_its_runs(command: Command, ledger: Path) -> None:
    of = ("table", "small", "large", "--zone", "FRA", "--format")
    card = yaml.safe_load(command(*of, "card").out)["co2_eq_emissions"]
    rows = command(*of, "json").json["rows"]
    assert card["emissions"] == pytest.approx(sum(row["tco2e"] for row in rows) * 1e6, rel=1e-5)
    assert card["geographical_location"] == "France"
    assert card["source"] == "carbontrack (counter)"
    assert "NVIDIA A100-SXM4-80GB" in card["hardware_used"]
    assert "geographical_location" not in command("table", "small", "--format", "card").out
    unknown = command("table", "small", "--format", "card", "--by", "project", "--status", "failed")
    assert (unknown.code, "nothing to put into a model card" in unknown.err) == (2, True)


def test_a_model_card_has_no_sum_that_the_table_has_not(command: Command, tmp_path: Path) -> None:
    """What two runs recorded of the same devices counts once; unlike intensities do not add up."""
    one = Recorded(name="one", facility={"zone": "FRA"})
    beside = _Beside(name="beside", number=2, facility={"zone": "FRA"})
    other = Recorded(name="other", number=3, facility={"zone": "US-CAMX"})
    write_ledger(tmp_path / "ledger.db", one, beside, other)
    both = ("table", "one", "beside", "--format")
    total, rows = (command(*both, "json").json[key] for key in ("total", "rows"))
    assert total["tco2e"] == pytest.approx(sum(row["tco2e"] for row in rows) / 2)
    card = yaml.safe_load(command(*both, "card").out)["co2_eq_emissions"]
    assert card["emissions"] == pytest.approx(total["tco2e"] * 1e6, rel=1e-5)
    refused = command("table", "one", "other", "--format", "card")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith(
        "carbontrack: A model card has one figure, and CO₂e is not added up: the intensities are "
    )


def test_a_model_card_of_hours_has_a_number_and_no_count_of_devices(command: Command) -> None:
    """YAML 1.1, which the Hub reads, takes 1e+06 for text."""
    factors = ("--power", "500", "--pue", "1", "--intensity", "0.4", "--format", "card")
    for hours, grams in (("5000", 1_000_000), ("0.000001", 0.0002)):
        done = command("estimate", "--gpu-hours", hours, "--gpu", "A100", *factors)
        card = yaml.safe_load(done.out)["co2_eq_emissions"]
        assert card["emissions"] == pytest.approx(grams)
        assert card["hardware_used"] == "A100"


class _Beside(Recorded):
    """A run of the same devices at the time of the first."""

    @property
    def start_ms(self) -> int:
        return Recorded().start_ms


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


def test_a_pipe_is_as_wide_as_columns_says(
    command: Command, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "72")
    assert max(map(len, command("table").out.splitlines())) <= 72
    monkeypatch.setenv("COLUMNS", "200")
    assert "left out" not in command("table").out


def test_the_band_of_the_sensors_is_shown_where_it_is_asked_for(
    command: Command, ledger: Path
) -> None:
    """Of NVML's readings, and of what follows from them; a simulated device has none."""
    lines = command("table", "small", "sim", "--band", "--unit", "kWh").out.splitlines()
    (small,) = (line for line in lines if line.startswith(" small"))
    (sim,) = (line for line in lines if line.startswith(" sim"))
    assert "5.76 ± 0.29" in small
    assert "0.76 ± 0.04" in small
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
