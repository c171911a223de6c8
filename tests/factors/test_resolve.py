"""Factors: what is taken, from where, and that nothing is guessed silently."""

from __future__ import annotations

import hashlib
from datetime import date
from typing import Any

import pytest

from carbontrack import config
from carbontrack.errors import CarbontrackError
from carbontrack.factors import catalog, data
from carbontrack.factors.browse import packaged, versions_of, years_of
from carbontrack.factors.resolve import Factors, parse_methods, resolve


def factors(method: str = "measured", **given: Any) -> Factors:
    return resolve(config.resolve([config.flags(**given)]), method=method)


def test_defaults_are_the_worlds_average_and_the_industrys_and_assumed() -> None:
    used = factors()
    assert (used.pue.value, used.pue.assumed) == (1.54, True)
    assert (used.intensity.year, used.intensity.assumed) == (2025, True)
    assert used.intensity.value == pytest.approx(0.458, abs=0.001)
    assert used.tariff is not None
    assert (used.tariff.unit, used.tariff.assumed) == ("USD/kWh", True)


def test_the_report_assumes_llamas_factors() -> None:
    used = factors("report")
    assert (used.pue.value, used.intensity.value) == (1.1, 0.385)
    assert used.pue.assumed
    assert used.intensity.assumed


def test_what_is_given_is_not_assumed_and_says_by_whom() -> None:
    used = factors(pue=1.2, intensity=0.3, tariff=0.1, currency="EUR")
    assert [factor.assumed for factor in used] == [False] * 3
    assert used.pue.source == "given (flag)"
    assert used.tariff is not None
    assert used.tariff.unit == "EUR/kWh"


@pytest.mark.parametrize("zone", ["FRA", "fr", "France", "FRA@2024", "france@2024"])
def test_a_zone_by_any_of_its_names(zone: str) -> None:
    factor = factors(zone=zone).intensity
    assert factor.source.startswith("France, Our World in Data")
    assert factor.year == (2024 if "@" in zone else 2025)
    assert factor.basis == "life-cycle average"


def test_subregions_and_cloud_regions() -> None:
    assert factors(zone="US-CAMX").intensity.basis == "direct average"
    assert factors(zone="camx").intensity == factors(zone="US-CAMX").intensity
    assert factors(zone="us-central1").intensity.source.startswith("Iowa")


@pytest.mark.parametrize(
    ("zone", "source", "basis"),
    [
        ("aws:us-east-1", "AWS, Northern Virginia, by its grid US-SRVC: SERC", "direct average"),
        ("US-EAST-1", "AWS, Northern Virginia, by its grid US-SRVC: SERC", "direct average"),
        ("azure:northeurope", "Azure, Ireland, by its grid IRL: Ireland", "life-cycle average"),
    ],
)
def test_a_cloud_region_without_figures_takes_its_grids_and_says_so(
    zone: str, source: str, basis: str
) -> None:
    factor = factors(zone=zone).intensity
    assert factor.source.startswith(source)
    assert factor.basis == basis
    assert factor.value == factors(zone=catalog.zone_code(zone)).intensity.value


def test_every_cloud_region_is_in_a_zone_that_ships() -> None:
    rows = data.rows("cloud_regions")
    assert len({row["region"] for row in rows}) == len(rows) > 60
    assert all(catalog.zone_code(row["zone"]) == row["zone"] for row in rows)


def test_an_older_version_of_a_factor_can_be_taken() -> None:
    """Two versions of one zone and year stand side by side: the newest by the day counts."""
    first = {"zone": "FRA", "year": "2024", "kg_per_kwh": "0.04", "source": "gcp-2024"}
    revised = {**first, "kg_per_kwh": "0.05", "source": "owid-ember"}
    older_year = {**first, "year": "2023", "kg_per_kwh": "0.03", "source": "gcp-2025"}
    rows = [revised, older_year, first]
    for as_of, value in ((None, "0.05"), ("2026-04-29", "0.05"), ("2026-04-28", "0.04")):
        assert catalog.newest(rows, as_of, "FRA")["kg_per_kwh"] == value
    with pytest.raises(CarbontrackError, match="no value that was known on 2020-01-01") as error:
        catalog.newest(rows, "2020-01-01", "FRA")
    assert "The first is of 2025-07-28" in str(error.value)


LAST_EDITION = "2026-11-27"  # the day before the revisions below came in


@pytest.mark.parametrize(
    ("given", "name", "value", "source", "before"),
    [
        ({}, "pue", 1.54, "Uptime Institute survey", 1.56),
        ({"provider": "gcp"}, "pue", 1.09, "Google Environmental Report 2025", 1.12),
        ({"provider": "aws"}, "pue", 1.15, "Amazon Sustainability Report 2024", 1.2),
        ({"provider": "azure"}, "pue", 1.17, "Microsoft, datacenter efficiency", 1.12),
        ({}, "tariff", 0.0862, "US EIA", 0.0806),
        ({"zone": "US-US"}, "intensity", 0.34967, "US EPA eGRID2023", 0.37529),
        ({"zone": "US-CAMX"}, "intensity", 0.19504, "US EPA eGRID2023", 0.22650),
        ({"zone": "US-RFCE"}, "intensity", 0.27178, "US EPA eGRID2023", 0.29948),
    ],
)
def test_a_revised_factor_counts_and_the_one_before_it_can_be_had_again(
    given: dict[str, str], name: str, value: float, source: str, before: float
) -> None:
    now = getattr(factors(**given), name)
    assert now.value == value
    assert source in now.source
    assert getattr(factors(**given, factors_as_of=LAST_EDITION), name).value == before


def test_an_estimate_of_the_last_edition_is_made_again_from_hardware_too() -> None:
    borrows, added = "NVIDIA A100-SXM4-40GB", "NVIDIA H20"
    devices = {borrows: None, added: 390.0}

    def used(**given: str) -> Factors:
        settings = config.resolve([config.flags(**given)])
        return resolve(settings, method="report", embodied=True, devices=devices)

    now, then = used(), used(factors_as_of=LAST_EDITION)
    assert {name: factor.value for name, factor in now.embodied_kg.items()} == {borrows: 150}
    assert then.embodied_kg == {}
    assert [factors.rated_w[borrows].value for factors in (now, then)] == [400, 400]
    assert now.rated_w[added].value == 400, "by its data sheet"
    assert then.rated_w[added].value == 390, "by its driver, as when it was not in the table"


def test_a_data_sheet_is_as_old_as_the_part() -> None:
    """The first edition of the table stands for the days before it."""
    factor = catalog.rated_w("NVIDIA A100-SXM4-80GB", as_of="2021-01-01")
    assert factor is not None
    assert factor.value == 400


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("NVIDIA A100-SXM4-80GB", "assumption"),
        ("NVIDIA A100-SXM4-40GB", "borrowed"),
        ("NVIDIA A100-PCIE-40GB", "borrowed"),
        ("NVIDIA A100 80GB PCIe", "borrowed"),
        ("NVIDIA H200", "borrowed from the H100, a lower bound"),
    ],
)
def test_an_embodied_figure_that_is_not_the_cards_own_says_so(name: str, says: str) -> None:
    factor = catalog.embodied_kg(name)
    assert factor is not None
    assert says in factor.note
    entry = next(e for e in versions_of({name.casefold()}))
    assert says in entry.title


def test_a_figure_that_is_shared_by_cards_is_the_one_of_its_source() -> None:
    """A figure has one owner in a source, or each card that takes it says that it borrows."""
    owners: dict[tuple[str, str], list[str]] = {}
    for row in data.rows("hardware"):
        if row["embodied_kg"] and "borrowed" not in row["embodied_note"]:
            owners.setdefault((row["embodied_source"], row["embodied_kg"]), []).append(row["name"])
    assert owners
    assert all(len(names) == 1 for names in owners.values()), owners


def test_the_factors_of_a_day() -> None:
    given = {"zone": "us-central1", "provider": "gcp"}
    assert factors(**given).intensity.year == 2025
    then = factors(**given, factors_as_of="2026-01-01").intensity
    assert (then.year, then.version) == (2024, "2025-07-28")
    with pytest.raises(CarbontrackError, match="PUE of gcp has no value that was known on 2024"):
        factors(**given, factors_as_of="2024-01-01")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"zone": "FRB"}, "factors search FRB"),
        ({"zone": "Germny"}, "DEU"),
        ({"zone": "FRA@1990"}, "2024"),
        ({"provider": "megacloud"}, "gcp"),
    ],
)
def test_the_unknown_is_refused_with_the_nearest(given: dict[str, str], says: str) -> None:
    with pytest.raises(CarbontrackError) as error:
        factors(**given)
    assert says in str(error.value)


def test_provider_gives_the_pue() -> None:
    assert factors(provider="GCP").pue.value == 1.09


def test_lifetime_is_assumed_only_when_something_is_written_off() -> None:
    assert factors().lifetime_years is None
    used = factors(gpu_price=30_000)
    assert used.lifetime_years is not None
    assert used.lifetime_years.assumed


def test_methods() -> None:
    assert parse_methods("measured, report") == ["measured", "report"]
    with pytest.raises(CarbontrackError, match="guess"):
        parse_methods("guess")


def test_a_power_limit_is_not_the_rated_power() -> None:
    """NVML reports a limit of 300 W for the A10G, whose TDP is 150 W."""
    item = catalog.hardware("NVIDIA A10G")
    assert item is not None
    assert item.rated_w == 150
    assert "150 W or 300 W" in item.note


@pytest.mark.parametrize(
    ("name", "memory_gb", "rated_w", "bf16_tflops"),
    [
        ("NVIDIA H20", 96, 400, 148),
        ("NVIDIA A800-SXM4-80GB", 80, 400, 312),
        ("NVIDIA GB300", 279, 1400, 2500),
        ("NVIDIA RTX 6000 Ada Generation", 48, 300, 364.2),
        ("NVIDIA GeForce RTX 3080", 10, 320, 59.5),
        ("AMD Instinct MI300A", 128, 550, 980.6),
        ("HL-225", 96, 600, 432),
        ("Tesla K80", 12, 150, None),
        ("AWS Trainium2", 96, None, 667),
        ("TPU7x", 192, None, 2307),
        ("NVIDIA A100-SXM-64GB", 64, None, None),
    ],
)
def test_devices_by_the_names_their_tools_report(
    name: str, memory_gb: float, rated_w: float | None, bf16_tflops: float | None
) -> None:
    item = catalog.hardware(name)
    assert item is not None
    assert (item.memory_gb, item.rated_w, item.bf16_tflops) == (memory_gb, rated_w, bf16_tflops)


@pytest.mark.parametrize("name", ["Apple M2 Ultra", "Ascend 910B", "NVIDIA A16", "NVIDIA GB10", ""])
def test_a_device_without_a_read_source_is_unknown(name: str) -> None:
    assert catalog.hardware(name) is None


def test_names_of_devices_are_of_one_device_each() -> None:
    names: dict[str, set[str]] = {}
    for row in data.rows("hardware"):
        for name in (row["name"], *filter(None, row["aliases"].split(";"))):
            names.setdefault(name.casefold(), set()).add(row["name"])
    assert all(len(owners) == 1 for owners in names.values())


def test_every_simulated_and_demo_gpu_is_known_by_its_nvml_name() -> None:
    for name in ("NVIDIA A100-SXM4-80GB", "NVIDIA H100 80GB HBM3", "NVIDIA H200"):
        item = catalog.hardware(name)
        assert item is not None
        assert item.rated_w
        assert item.bf16_tflops
        assert item.embodied_kg


def test_every_factor_has_a_source_with_title_licence_and_version() -> None:
    for name in ("intensity", "pue", "prices", "hardware", "assumed"):
        for row in data.rows(name):
            source = data.source(row["source"])
            assert date.fromisoformat(source["date"]), row
            assert source["title"], row
            assert source["author"], row
            assert source["work"], row
            assert (
                source["url"].startswith("https://")
                or "data sheet" in source["title"]
                or ("product carbon footprint" in source["title"])
            ), row
            assert source["licence"], row
            assert source["version"], row


def test_no_copyleft_data_ships() -> None:
    for row in data.rows("sources"):
        assert not any(word in row["licence"] for word in ("AGPL", "ODbL", "GPL", "-SA", "-NC"))


def test_intensities_are_in_kg_and_each_zone_and_year_is_there_once_in_a_version() -> None:
    rows = data.rows("intensity")
    assert len({(row["zone"], row["year"], row["source"]) for row in rows}) == len(rows) > 1000
    assert all(0 <= float(row["kg_per_kwh"]) < 1.5 for row in rows)
    assert {row["basis"] for row in rows} == {"life-cycle average", "direct average"}


def test_entries_are_found_by_their_names() -> None:
    entries = list(packaged())
    assert len([entry for entry in entries if entry.kind == "intensity"]) > 280
    assert [entry.name for entry in entries if entry.matches("jean zay")] == ["jean-zay"]
    assert [entry.value for entry in entries if entry.name == "gcp"] == [1.09], "the newest alone"
    assert [entry.value for entry in versions_of({"gcp"})] == [1.09, 1.12]
    assert [entry.year for entry in years_of("FR")] == ["2025", "2024", "2023", "2022", "2021"]
    assert list(years_of("nowhere")) == []


@pytest.mark.parametrize(
    ("zone", "co2", "ch4", "n2o"),
    [("US-CAMX", 497.4, 0.030, 0.004), ("US-US", 823.1, 0.066, 0.009)],
)
def test_egrids_rates_are_pounds_and_its_ch4_and_n2o_are_too(
    zone: str, co2: float, ch4: float, n2o: float
) -> None:
    """eGRID2022's output rates in lb/MWh: CH4 × 28 and N2O × 265, not ÷ 1000 (AR5 GWP100)."""
    kg_per_kwh = (co2 + 28 * ch4 + 265 * n2o) * 0.00045359237
    value = catalog.intensity(f"{zone}@2022").value
    assert value == pytest.approx(kg_per_kwh, abs=1e-4)
    assert value != pytest.approx((co2 + 0.028 * ch4 + 0.265 * n2o) * 0.00045359237, abs=1e-4)


def test_every_zone_of_egrid_has_both_editions() -> None:
    """The newer one in EPA's pounds of CO2e per MWh."""
    editions: dict[str, set[str]] = {}
    for entry in packaged():
        if entry.kind == "intensity" and entry.name.startswith("US-"):
            editions.setdefault(entry.name, set()).update(
                version.year for version in years_of(entry.name)
            )
    assert set(map(frozenset, editions.values())) == {frozenset({"2022", "2023"})}
    assert len(editions) == 28
    for zone, pounds in (("US-SRVC", 596.326), ("US-PRMS", 1548.53), ("US-RFCM", 975.978)):
        assert catalog.intensity(zone).value == pytest.approx(pounds * 0.00045359237, abs=5e-6)


def test_a_gpu_of_a_superchip_and_a_module_of_two_devices() -> None:
    """GB200's 1200 W are of one of its two GPUs; MI250X's 500 W of the module with two devices."""
    rated = {
        name: factor.value
        for name in ("NVIDIA B200", "NVIDIA GB200", "MI250X")
        if (factor := catalog.rated_w(name))
    }
    assert rated == {"NVIDIA B200": 1000, "NVIDIA GB200": 1200, "MI250X": 500}
    module = catalog.hardware("MI250X")
    assert module is not None
    assert "2 devices per module" in module.note


def test_an_edition_of_the_tables_never_changes() -> None:
    """A correction is a row with a source of its own, known from the day it comes in.

    The digest is of every number that the tables gave on that day, as the program of that day read
    them. It must not be adapted to an edited or a back-dated row.
    """
    zones = sorted({row["zone"] for row in data.rows("intensity")})
    providers = sorted({row["provider"] for row in data.rows("pue")})
    names = sorted({row["name"] for row in data.rows("hardware")})
    devices = [catalog.hardware(name, as_of=LAST_EDITION) for name in names]
    numbers = [
        *((zone, catalog.intensity(zone, as_of=LAST_EDITION).value) for zone in zones),
        *((name, catalog.pue(name, as_of=LAST_EDITION).value) for name in providers),
        *((d.name, d.rated_w, d.bf16_tflops, d.embodied_kg) for d in devices if d is not None),
        ("tariff", catalog.tariff(as_of=LAST_EDITION).value),
    ]
    assert len(numbers) > 300
    digest = hashlib.sha256(repr(numbers).encode()).hexdigest()
    assert digest == "e70da2e4e2a88340620de643bf41ab31f816a20b8240383c4d2d8601923b5508"
