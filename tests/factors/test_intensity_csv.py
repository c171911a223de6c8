"""Layouts of intensity files as they are met: other columns, JSON, UTF-16, times that repeat."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from carbontrack.errors import CarbontrackError
from carbontrack.factors import layouts
from carbontrack.factors.file_text import decode
from carbontrack.factors.intensity_csv import IntensityFile, parse
from tests.fixtures.command import Command

MAPS = (
    "Datetime (UTC),Zone id,Carbon intensity {gas}/kWh (direct),"
    "Carbon intensity {gas}/kWh (Life cycle),Data estimated\n"
    "2022-01-01 00:00:00,GB,52.22,90.0,false\n"
    "2022-01-01 01:00:00,GB,53.13,91.59,true\n"
)
REPEATED = (
    "datetime,forecast,actual\n"
    "2020-05-26 05:00:00+00:00,144,164.0\n"
    "2020-05-26 05:30:00+00:00,160,171.0\n"
    "2020-05-26 05:30:00+00:00,160,177.0\n"
    "2020-05-26 05:30:00+00:00,160,180.0\n"
    "2020-05-26 06:00:00+00:00,163,190.0\n"
    "2020-05-26 06:00:00+00:00,163,190.0\n"
)
GB_API = {
    "data": [
        {
            "from": f"2022-01-01T0{hour}:00Z",
            "to": f"2022-01-01T0{hour + 1}:00Z",
            "intensity": {"forecast": 195, "actual": actual, "index": "moderate"},
        }
        for hour, actual in enumerate((193, 188, None, 170))
    ]
}
WATTTIME_API = {
    "data": [
        {"point_time": "2023-11-01T00:00:00+00:00", "value": 939.0},
        {"point_time": "2023-11-01T00:05:00+00:00", "value": 940.0},
    ],
    "meta": {"region": "CAISO_NORTH", "units": "lbs_co2_per_mwh"},
}
MAPS_API = {
    "zone": "FR",
    "history": [
        {
            "zone": "FR",
            "carbonIntensity": 40 + hour,
            "datetime": f"2026-01-01T0{hour}:00:00.000Z",
            "emissionFactorType": "lifecycle",
            "isEstimated": hour == 1,
        }
        for hour in range(3)
    ],
}


def read(text: str, **options: object) -> IntensityFile:
    return parse(text, "grid", version="v1", **options)  # type: ignore[arg-type]


def values(found: IntensityFile) -> list[float]:
    return [one.intensity_kg_per_kwh for one in found.intervals]


@pytest.mark.parametrize("gas", ["gCO₂eq", "gCO2eq", "GCO2EQ"])
def test_the_subscript_of_co2_is_written_either_way(gas: str) -> None:
    found = read(MAPS.format(gas=gas))
    assert values(found) == pytest.approx([0.090, 0.09159])
    assert found.intervals[0].basis == "life-cycle average"


def test_rows_that_say_they_are_estimated_are_counted() -> None:
    assert read(MAPS.format(gas="gCO₂eq")).estimated == 1
    assert read(json.dumps(MAPS_API)).estimated == 1


def test_a_file_with_direct_emissions_only_says_so() -> None:
    columns = "Datetime (UTC),Zone id,Carbon intensity gCO₂eq/kWh (direct)"
    text = f"{columns}\n2022-01-01 00:00:00,GB,52.22\n"
    (interval,) = read(text).intervals
    assert (interval.intensity_kg_per_kwh, interval.basis) == (
        pytest.approx(0.05222),
        "direct average",
    )


def test_flattened_columns_of_the_gb_api() -> None:
    text = (
        "from,to,intensity.forecast,intensity.actual\n2022-01-01T00:00Z,2022-01-01T00:30Z,195,193\n"
    )
    (interval,) = read(text).intervals
    assert (interval.zone, interval.intensity_kg_per_kwh) == ("GBR", pytest.approx(0.193))


def test_the_answers_of_the_apis_are_read() -> None:
    gb = read(json.dumps(GB_API))
    assert values(gb) == pytest.approx([0.193, 0.188, 0.170])
    assert len(gb.missing) == 1, "an hour without an actual value is missing"
    watttime = read(json.dumps(WATTTIME_API))
    assert values(watttime) == pytest.approx([0.42592324, 0.42637683])
    assert {one.zone for one in watttime.intervals} == {"CAISO_NORTH"}
    maps = read(json.dumps(MAPS_API))
    assert values(maps) == pytest.approx([0.040, 0.041, 0.042])
    assert {(one.zone, one.basis) for one in maps.intervals} == {("FRA", "life-cycle average")}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not valid JSON"),
        ('{"data": []}', "no list of records"),
        ("[1, 2]", "no list of records"),
        ("[" * 100_000, "not valid JSON"),
        (
            json.dumps(WATTTIME_API).replace("lbs_co2_per_mwh", "percent"),
            "'percent' is not lbs_co2_per_mwh",
        ),
    ],
)
def test_json_that_holds_no_intensities_is_refused(text: str, says: str) -> None:
    with pytest.raises(CarbontrackError, match=says):
        read(text)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_the_encoding_is_that_of_the_first_bytes(encoding: str) -> None:
    text = MAPS.format(gas="gCO₂eq")
    content = text.encode(encoding)
    assert values(read(decode(content, "grid.csv"))) == pytest.approx([0.090, 0.09159])


def test_bytes_that_are_no_text_name_their_row() -> None:
    with pytest.raises(CarbontrackError, match=r"grid\.csv, row 2: not valid UTF-8 text"):
        decode(b"time,zone\n\xff\xe9", "grid.csv")


def test_times_with_several_values_are_listed_and_left_to_the_user() -> None:
    with pytest.raises(CarbontrackError) as refused:
        read(REPEATED)
    assert "2020-05-26T05:30Z in rows 3, 4, 5 (0.171, 0.177, 0.18 kg/kWh)" in str(refused.value)
    assert "--duplicates mean, first or last" in str(refused.value)
    assert "06:00Z" not in str(refused.value), "rows that agree are no question"


@pytest.mark.parametrize(("rule", "value"), [("mean", 0.176), ("first", 0.171), ("last", 0.180)])
def test_a_rule_decides_between_several_values(rule: str, value: float) -> None:
    found = read(REPEATED, duplicates=rule)
    assert values(found) == pytest.approx([0.164, value, 0.190])
    assert found.repeated == 3


def test_columns_that_the_user_names() -> None:
    text = "timestamp,when,avg\n1650499200,x,54\n1650502800,x,56\n"
    named = layouts.named("timestamp", "AVG", "g/kWh")
    found = read(text, layout=named, zone="our-grid")
    assert values(found) == pytest.approx([0.054, 0.056])
    begin = datetime(2022, 4, 21, tzinfo=UTC).timestamp() * 1000
    assert found.intervals[0].start_ms == begin
    with pytest.raises(CarbontrackError, match="no column 'avgg'"):
        read(text, layout=layouts.named("timestamp", "avgg", "g/kWh"), zone="our-grid")
    with pytest.raises(CarbontrackError, match="--unit 'kg' is unknown"):
        layouts.named("timestamp", "avg", "kg")


def test_the_command_says_what_it_decided(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "gb.csv"
    file.write_text(REPEATED)
    asked = command("factors", "import", "intensity", str(file))
    assert (asked.code, asked.err.count("\n")) == (2, 1)
    done = command("factors", "import", "intensity", str(file), "--duplicates", "mean")
    assert "3 rows with the time of another." in done.out
    for options in (["--duplicates", "median"], ["--unit", "g/kWh"], ["--value-column", "actual"]):
        wrong = command("factors", "import", "intensity", str(file), *options)
        assert (wrong.code, wrong.err.count("\n")) == (2, 1), options
    file.write_bytes(MAPS.format(gas="gCO2eq").encode("utf-16"))
    said = command("factors", "import", "intensity", str(file), "--version", "maps").out
    assert "1 estimated row, by what the file says of them." in said


@pytest.mark.parametrize(
    ("head", "name"),
    [(b"\x1f\x8b\x08", "gzip"), (b"PK\x03\x04", "spreadsheet"), (b"PAR1", "Parquet")],
)
def test_what_is_no_text_is_named_as_what_it_is(
    command: Command, tmp_path: Path, head: bytes, name: str
) -> None:
    file = tmp_path / "gb.csv"
    file.write_bytes(head + bytes(range(256)))
    for words in (["factors", "import", "intensity", str(file)], ["import", str(file)]):
        wrong = command(*words)
        assert (wrong.code, wrong.err.count("\n")) == (2, 1)
        assert name in wrong.err


def test_uk_is_great_britain_and_a_short_code_offers_no_other_country(command: Command) -> None:
    shown = command("factors", "show", "UK", "--format", "json").json["factors"]
    assert {entry["name"].partition("@")[0] for entry in shown} == {"GBR"}
    for zone in ("UX", "USS", "UKK", "Deutschland", "Nowhere"):
        wrong = command("estimate", "--gpu-hours", "1", "--power", "400", "--zone", zone)
        assert wrong.code == 2
        assert "Did you mean" not in wrong.err
    slip = command("estimate", "--gpu-hours", "1", "--power", "400", "--zone", "Germny")
    assert "Did you mean DEU?" in slip.err
