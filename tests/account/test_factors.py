"""Factors: what is taken, from where, and that nothing is guessed silently."""

from __future__ import annotations

from typing import Any

import pytest

from carbontrack import config, data
from carbontrack.account import catalog
from carbontrack.account.entries import packaged, years_of
from carbontrack.account.factors import Factors, parse_methods, resolve
from carbontrack.errors import CarbontrackError


def factors(method: str = "measured", **given: Any) -> Factors:
    return resolve(config.resolve([config.flags(**given)]), method=method)


def test_defaults_are_the_worlds_average_and_the_industrys_and_assumed() -> None:
    used = factors()
    assert (used.pue.value, used.pue.assumed) == (1.56, True)
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
    ("given", "says"),
    [
        ({"zone": "FRB"}, "FRA"),
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
    assert factors(provider="GCP").pue.value == 1.12


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


def test_every_simulated_and_demo_gpu_is_known_by_its_nvml_name() -> None:
    for name in ("NVIDIA A100-SXM4-80GB", "NVIDIA H100 80GB HBM3", "NVIDIA H200"):
        item = catalog.hardware(name)
        assert item is not None
        assert item.rated_w
        assert item.bf16_tflops
        assert item.embodied_kg


def test_every_factor_has_a_source_with_title_licence_and_version() -> None:
    for name in ("intensity", "pue", "prices", "hardware"):
        for row in data.rows(name):
            source = data.source(row["source"])
            assert source["title"], row
            assert source["licence"], row
            assert source["version"], row


def test_no_copyleft_data_ships() -> None:
    for row in data.rows("sources"):
        assert not any(word in row["licence"] for word in ("AGPL", "ODbL", "GPL", "-SA", "-NC"))


def test_intensities_are_in_kg_and_each_zone_and_year_is_there_once() -> None:
    rows = data.rows("intensity")
    assert len({(row["zone"], row["year"]) for row in rows}) == len(rows) > 1000
    assert all(0 <= float(row["kg_per_kwh"]) < 1.5 for row in rows)
    assert {row["basis"] for row in rows} == {"life-cycle average", "direct average"}


def test_entries_are_found_by_their_names() -> None:
    entries = list(packaged())
    assert len([entry for entry in entries if entry.kind == "intensity"]) > 280
    assert [entry.name for entry in entries if entry.matches("jean zay")] == ["jean-zay"]
    assert [entry.year for entry in years_of("FR")] == ["2025", "2024", "2023", "2022", "2021"]
    assert list(years_of("nowhere")) == []
