"""Hourly grid intensity: reading files, refusing bad ones whole, and pricing a run hour by hour."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack import config
from carbontrack.account.estimate import estimate_run
from carbontrack.errors import CarbontrackError
from carbontrack.factors.intensity_csv import IntensityFile, parse
from carbontrack.factors.resolve import resolve
from carbontrack.factors.series import IntensitySeries, Interval
from carbontrack.units import MS_PER_HOUR
from tests.fixtures.runs import START_MS, Recorded

_COLUMN = "Carbon intensity gCO₂eq/kWh"
ELECTRICITY_MAPS = f"""\
Datetime (UTC),Country,Zone name,Zone id,{_COLUMN} (direct),{_COLUMN} (Life cycle)
2026-01-01 00:00:00,France,France,FR,20.5,40.5
2026-01-01 01:00:00,France,France,FR,21.5,41.5
2026-01-01 00:00:00,Sweden,Sweden,SE,2.5,25
2026-01-01 01:00:00,Sweden,Sweden,SE,2.5,26
"""
WATTTIME = """\
timestamp,MOER
2026-01-01 00:00:00+00:00,1000
2026-01-01 00:05:00+00:00,900
"""
GREAT_BRITAIN = """\
datetime,forecast,actual,index
2026-01-01T00:00,120,118,low
2026-01-01T00:30,121,,low
2026-01-01T01:00,122,125,low
2026-01-01T01:30,122,126,low
2026-01-01T02:00,122,127,low
"""


def read(text: str, **options: object) -> IntensityFile:
    return parse(text, "grid.csv", version="v1", **options)  # type: ignore[arg-type]


def test_electricity_maps() -> None:
    found = read(ELECTRICITY_MAPS)
    assert (found.layout, len(found.intervals), found.missing) == ("Electricity Maps", 4, ())
    france = [one for one in found.intervals if one.zone == "FRA"]
    assert [one.intensity_kg_per_kwh for one in france] == pytest.approx([0.0405, 0.0415])
    assert (france[0].length_ms, france[0].basis) == (MS_PER_HOUR, "life-cycle average")
    assert {one.zone for one in found.intervals} == {"FRA", "SWE"}


def test_watttime_is_marginal_and_in_pounds_per_mwh() -> None:
    found = read(WATTTIME, zone="CAISO_NORTH")
    assert found.intervals[0].intensity_kg_per_kwh == pytest.approx(0.45359237)
    assert found.intervals[0].basis == "direct marginal"
    assert (found.intervals[0].zone, found.intervals[0].length_ms) == ("CAISO_NORTH", 300_000)
    with pytest.raises(CarbontrackError, match="--zone"):
        read(WATTTIME)


def test_missing_hours_are_reported_and_bridged_only_when_asked() -> None:
    found = read(GREAT_BRITAIN)
    assert [one.zone for one in found.intervals] == ["GBR"] * 4
    start_ms = round(datetime(2026, 1, 1, 0, 30, tzinfo=UTC).timestamp() * 1000)
    assert found.missing == (("GBR", start_ms, start_ms + 1_800_000),)
    bridged = read(GREAT_BRITAIN, bridge=True)
    assert len(bridged.intervals) == 5
    assert bridged.intervals[1].intensity_kg_per_kwh == pytest.approx((0.118 + 0.125) / 2)
    assert "gaps bridged: 1" in bridged.intervals[1].source
    assert (bridged.missing, bridged.bridged) == ((), found.missing)


def test_what_is_missing_at_the_ends_of_a_file_is_reported_and_never_bridged() -> None:
    text = GREAT_BRITAIN.replace("118", "").replace("127", "")
    found = read(text, bridge=True)
    start_ms = round(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)
    half_ms = MS_PER_HOUR // 2
    assert [one.intensity_kg_per_kwh for one in found.intervals] == [0.125, 0.126]
    assert found.missing == (
        ("GBR", start_ms, start_ms + 2 * half_ms),
        ("GBR", start_ms + 4 * half_ms, start_ms + 5 * half_ms),
    )


def test_watttime_v3() -> None:
    found = read("point_time,value\n2026-01-01T00:00:00+00:00,1000\n", zone="PJM_DC")
    assert found.intervals[0].intensity_kg_per_kwh == pytest.approx(0.45359237)
    assert (found.layout, found.intervals[0].basis) == ("WattTime v3", "direct marginal")


def test_a_file_may_change_its_step_and_a_hole_is_still_a_hole() -> None:
    """Hours, then quarters from 04:00 on, of which 04:45 to 05:15 are not there."""
    quarters = [(4, 0), (4, 15), (4, 30), (5, 15), (5, 30), (5, 45), (6, 0)]
    times = [(hour, 0) for hour in range(4)] + quarters
    rows = [f"2026-01-01T{hour:02d}:{minute:02d}Z,FR,0.1" for hour, minute in times]
    found = read("\n".join(["time,zone,kg_per_kwh", *rows]))
    assert [one.length_ms // 60_000 for one in found.intervals] == [60] * 4 + [15] * 7
    ((_, start_ms, end_ms),) = found.missing
    assert (end_ms - start_ms) // 60_000 == 30


def test_the_basis_of_a_plain_file_is_taken() -> None:
    text = "time,zone,kg_per_kwh,basis\n2026-01-01T00:00Z,FR,0.1,life-cycle average\n"
    assert read(text).intervals[0].basis == "life-cycle average"
    assert read(text, basis="direct average").intervals[0].basis == "direct average"
    mixed = text + "2026-01-01T01:00Z,FR,0.1,direct marginal\n"
    with pytest.raises(CarbontrackError, match="rows 2 and 3: 'life-cycle average' and 'direct"):
        read(mixed)


def test_an_hour_of_a_clock_change_is_told_apart_by_its_offset() -> None:
    autumn = "time,zone,kg_per_kwh\n2025-10-26T02:00+02:00,FR,0.1\n2025-10-26T02:00+01:00,FR,0.2\n"
    found = read(autumn)
    assert [one.intensity_kg_per_kwh for one in found.intervals] == [0.1, 0.2]
    assert found.missing == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no known columns of time and intensity in nothing"),
        ("time,zone\n", "no known columns of time and intensity in time, zone"),
        ("time,zone,kg_per_kwh\n", "no value"),
        ("time,zone,kg_per_kwh\n2026-01-01T00:00Z,FR,385\n", "row 2, column 'kg_per_kwh': '385'"),
        ("time,zone,kg_per_kwh\n2026-01-01T00:00Z,FR,385\n", "Is it in g/kWh?"),
        ("time,zone,kg_per_kwh\n2026-01-01T00:00Z,FR,0.1\n2026-01-01T01:00Z,FR,-1\n", "row 3"),
        ("time,zone,kg_per_kwh\n2026-01-01T00:00Z,FR,much\n", "'much' is not a number"),
        ("time,zone,kg_per_kwh\n2026-01-01T00:00Z,FR,nan\n", "not finite"),
        ("time,zone,g_per_kwh\n2026-01-01T00:00Z,FR,1_0\n", "'1_0' is not a number"),
        ("time,zone,g_per_kwh\n2026-01-01T00:00Z,FR,٣٥٠\n", "'٣٥٠' is not a number"),
        ("time,zone,kg_per_kwh\nyesterday,FR,0.1\n", "'yesterday' is not a time"),
        ("time,zone,kg_per_kwh\n2026-01-01T00:00Z,,0.1\n", "row 2: no zone"),
        ("time,zone,kg_per_kwh\n2025-10-26T02:00,FR,0.1\n", "clock change"),
        ("time,zone,kg_per_kwh\n2026-01-01T00:00Z,FR,0,1\n", "A decimal comma?"),
        ("time,zone,kg_per_kwh\n2026-01-01T00:00Z,FR,0,1\n", "row 2: '1' comes after"),
        ('time,zone,kg_per_kwh\n2026-01-01T00:00Z,FR,"0,1"\n', "A decimal comma?"),
        ("time,zone,kg_per_kwh\n2026-01-01T00:00Z,FR\n", "row 2: no cell for column 'kg_per_kwh'"),
        ('time,zone,kg_per_kwh\n2026-01-01T00:00Z,"FR,0.1\n', "row 2: unexpected end of data"),
        ("time;zone;kg_per_kwh\n2026-01-01T00:00Z;FR;0,1\n", "row 1: cells apart by semicolons"),
        ("time,zone,zone,kg_per_kwh\n", "row 1: column 'zone' is there twice"),
        ("time,zone,g_per_kwh\n2026-01-01T00:00Z,FR,0.385\n", "Is it in kg/kWh?"),
        ("timestamp,ba,MOER\n2026-01-01T00:00Z,PJM,0.4\n", "Is it in kg/kWh?"),
        (
            "time,zone,kg_per_kwh\n2026-01-01T00:00Z,FR,0.1\n2026-01-01T00:00Z,FR,0.2\n",
            "2026-01-01T00:00Z in rows 2, 3 (0.1, 0.2 kg/kWh)",
        ),
        (
            "time,zone,kg_per_kwh\n2026-01-01T00:00Z,FR,0.1\n2026-01-01T01:00Z,FR,0.2\n"
            "2026-01-01T02:00Z,FR,0.2\n2026-01-01T02:30Z,FR,0.2\n",
            "rows 4 and 5: overlapping times, 30 min apart instead of 60",
        ),
    ],
)
def test_a_bad_file_is_refused_with_file_row_and_column(text: str, says: str) -> None:
    with pytest.raises(CarbontrackError) as error:
        read(text)
    assert says in str(error.value)
    assert "grid.csv, " in str(error.value)
    assert str(error.value).endswith("Nothing was imported.")


def series(*values: float) -> IntensitySeries:
    """Hour after hour from the start of run 1."""
    begin_ms = START_MS + 24 * MS_PER_HOUR
    return IntensitySeries(
        tuple(
            Interval(
                "FRA",
                begin_ms + i * MS_PER_HOUR,
                MS_PER_HOUR,
                value,
                "life-cycle average",
                "s",
                "v",
            )
            for i, value in enumerate(values)
        )
    )


def test_a_run_is_priced_by_its_own_hours() -> None:
    """All 8 GPUs idle in the second hour: its dirty power weighs little."""
    one = Recorded()
    usages = [
        replace(u, energy_j=(u.energy_j or 0) * 0.1) if u.start_ms > one.start_ms else u
        for u in one.usages
    ]
    settings = config.resolve([config.flags(zone="FRA", pue=1.0)])
    used = resolve(settings, method="measured", series=series(0.1, 0.9))
    row = estimate_run(one.run, one.sensors, usages, one.step_totals, used)
    first, second = 8 * 0.36, 8 * 0.036
    assert row.tco2e == pytest.approx((first * 0.1 + second * 0.9) / 1000)
    assert row.intensity_kg_per_kwh == pytest.approx(
        (first * 0.1 + second * 0.9) / (first + second)
    )
    assert "hour by hour over 2 h" in (row.factors.intensity.source if row.factors else "")


@pytest.mark.parametrize(
    ("basis", "stand_in", "called"),
    [
        ("life-cycle average", 0.04144, "the mean of 2025"),
        ("direct marginal", 0.2, "the mean of the other 2"),
    ],
)
def test_an_hour_without_intensity_leaves_the_others_as_they_are(
    basis: str, stand_in: float, called: str
) -> None:
    """The year stands in only for a series of its own basis."""
    one = Recorded(seconds=3 * 3600.0)
    settings = config.resolve([config.flags(zone="FRA", pue=1.0)])
    first, _, third = (replace(i, basis=basis) for i in series(0.1, 9.9, 0.3).intervals)
    used = resolve(settings, method="measured", series=IntensitySeries((first, third)))
    row = estimate_run(one.run, one.sensors, one.usages, one.step_totals, used)
    assert row.intensity_kg_per_kwh == pytest.approx((0.1 + stand_in + 0.3) / 3)
    assert row.factors is not None
    assert row.factors.intensity.basis == basis
    assert f"2 h, 1 h by {called}" in row.factors.intensity.source
    assert row.notes[0].startswith("1 of its 3 hours without an intensity in FRA: " + called)


def test_one_hour_may_stand_in_for_another() -> None:
    one = Recorded(seconds=2 * 3600.0)
    settings = config.resolve([config.flags(zone="FRA")])
    first = replace(series(0.1).intervals[0], basis="direct marginal")
    used = resolve(settings, method="measured", series=IntensitySeries((first,)))
    row = estimate_run(one.run, one.sensors, one.usages, one.step_totals, used)
    assert row.notes[0] == (
        "1 of its 2 hours without an intensity in FRA: the other one stands in (0.1 kg/kWh)"
    )


def test_no_hour_of_a_run_known_is_the_year_and_said() -> None:
    one = Recorded()
    settings = config.resolve([config.flags(zone="FRA", pue=1.0)])
    late = [replace(i, start_ms=i.start_ms + MS_PER_HOUR // 2) for i in series(0.1).intervals]
    used = resolve(settings, method="measured", series=IntensitySeries(tuple(late)))
    row = estimate_run(one.run, one.sensors, one.usages, one.step_totals, used)
    assert row.intensity_kg_per_kwh == pytest.approx(0.04144)
    assert row.notes[0].startswith("all of its hours without an intensity in FRA: ")
    assert "the mean of 2025 stands in for all" in row.notes[0]
    settings = config.resolve([config.flags(zone="our-roof", pue=1.0)])
    used = resolve(settings, method="measured", series=IntensitySeries(tuple(late)))
    row = estimate_run(one.run, one.sensors, one.usages, one.step_totals, used)
    assert row.intensity_kg_per_kwh == pytest.approx(0.1)
    assert "the mean of what was imported for its time stands in for all" in row.notes[0]


def test_the_report_method_keeps_its_constant() -> None:
    settings = config.resolve([config.flags(zone="FRA")])
    assert resolve(settings, method="report", series=series(0.1, 0.9)).series is None


@given(values=st.lists(st.floats(0, 2), min_size=2, max_size=2), flat=st.floats(0, 2))
def test_hourly_estimates_add_up_and_a_flat_series_is_the_constant(
    values: list[float], flat: float
) -> None:
    one = Recorded(count=2, steps=0)
    settings = config.resolve([config.flags(zone="FRA", pue=1.3)])

    def tco2e(*hourly: float) -> float:
        used = resolve(settings, method="measured", series=series(*hourly))
        return estimate_run(one.run, one.sensors, one.usages, one.step_totals, used).tco2e or 0.0

    constant = resolve(config.resolve([config.flags(intensity=flat, pue=1.3)]), method="measured")
    at_once = estimate_run(one.run, one.sensors, one.usages, one.step_totals, constant).tco2e
    assert tco2e(flat, flat) == pytest.approx(at_once)
    split = tco2e(values[0], 0.0) + tco2e(0.0, values[1])
    assert tco2e(*values) == pytest.approx(split)
