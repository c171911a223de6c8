"""The packaged factor tables, looked up by zone, provider, or the name that NVML reports."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from carbontrack import data
from carbontrack.errors import CarbontrackError


@dataclass(frozen=True, slots=True)
class Factor:
    """One number with its provenance. `assumed`: nobody chose it."""

    name: str
    value: float
    unit: str
    source: str
    version: str = ""
    year: int | None = None
    basis: str = ""
    assumed: bool = False


@dataclass(frozen=True, slots=True)
class Hardware:
    """An accelerator. What its vendor does not publish is None."""

    name: str
    memory_gb: float | None
    rated_w: float | None
    bf16_tflops: float | None
    embodied_kg: float | None
    source: str
    embodied_source: str
    note: str


def _assumed(name: str, value: float, unit: str, source_id: str, basis: str = "") -> Factor:
    source = data.source(source_id)
    return Factor(name, value, unit, source["title"], source["version"], basis=basis, assumed=True)


ASSUMED: Mapping[str, Factor] = {
    "report_intensity": _assumed("intensity", 0.385, "kg/kWh", "llama1", "average of the US"),
    "lifetime_years": _assumed("lifetime_years", 6.0, "years", "bloom2022"),
    "utilisation": _assumed("utilisation", 0.85, "", "bloom2022"),
}


def intensity(zone: str, *, assumed: bool = False) -> Factor:
    """Grid intensity of a zone in its newest year, or of `ZONE@YEAR`, in kgCO2e/kWh.

    A zone is a code (FRA, US-CAMX, gcp:us-central1), a two-letter country code or a country's
    name. Raises CarbontrackError with the nearest names for an unknown zone, with the known years
    for an unknown year.
    """
    code, _, year = zone.partition("@")
    by_year = _zones().get(_fold(code))
    if by_year is None:
        raise CarbontrackError(f"zone {code!r} is not known.", hint=_nearest_zones(code))
    row = by_year[max(by_year)] if not year else by_year.get(year)
    if row is None:
        raise CarbontrackError(
            f"zone {code} has no value of {year}.", hint="Years: " + ", ".join(sorted(by_year))
        )
    return intensity_factor(row, assumed=assumed)


def zone_code(zone: str) -> str | None:
    """The code of a zone by any of its names; None if the packaged table does not know it."""
    by_year = _zones().get(_fold(zone.partition("@")[0]))
    return next(iter(by_year.values()))["zone"] if by_year else None


def intensity_factor(row: Mapping[str, str], *, assumed: bool = False) -> Factor:
    """A row of intensity.csv as a factor."""
    source = data.source(row["source"])
    return Factor(
        name="intensity",
        value=float(row["kg_per_kwh"]),
        unit="kg/kWh",
        source=f"{row['name']}, {source['title']}",
        version=source["version"],
        year=int(row["year"]),
        basis=row["basis"],
        assumed=assumed,
    )


def pue(provider: str, *, assumed: bool = False) -> Factor:
    """A provider's PUE. Raises CarbontrackError for an unknown provider."""
    known = {row["provider"]: row for row in data.rows("pue")}
    row = known.get(provider.strip().lower())
    if row is None:
        raise CarbontrackError(
            f"provider {provider!r} is not known.",
            hint="Known: " + ", ".join(known),
        )
    source = data.source(row["source"])
    return Factor(
        name="pue",
        value=float(row["pue"]),
        unit="",
        source=f"{row['name']}, {source['title']}",
        version=source["version"],
        year=int(row["year"]),
        assumed=assumed,
    )


def tariff() -> Factor:
    """The price of electricity that is assumed when nobody chose one."""
    row = next(row for row in data.rows("prices") if row["item"] == "us-industrial")
    source = data.source(row["source"])
    return Factor(
        name="tariff",
        value=float(row["price"]),
        unit=f"{row['currency']}/kWh",
        source=f"{row['name']}, {source['title']}",
        version=source["version"],
        year=int(row["year"]),
        assumed=True,
    )


def hardware(name: str) -> Hardware | None:
    """An accelerator by its NVML name or an alias; None if it is not in the table.

    A simulated one has the numbers of what it simulates.
    """
    return _hardware().get(_fold(name).removeprefix("simulated "))


def rated_w(name: str | None) -> float:
    """The rated power of a GPU by name. Raises CarbontrackError if the table does not have it."""
    item = hardware(name) if name else None
    if item is not None and item.rated_w is not None:
        return item.rated_w
    what = (
        f"no rated power is known for {name!r}." if name else "neither --power nor --gpu is given."
    )
    raise CarbontrackError(
        what, hint="Give --power in W, or a --gpu of `carbontrack factors list`."
    )


def all_intensities() -> Iterator[Mapping[str, str]]:
    """Every zone's newest row of intensity.csv."""
    for by_year in {id(years): years for years in _zones().values()}.values():
        yield by_year[max(by_year)]


@lru_cache
def _zones() -> Mapping[str, dict[str, Mapping[str, str]]]:
    """Rows by year under every name of a zone: codes win over aliases, aliases over names."""
    by_code: dict[str, dict[str, Mapping[str, str]]] = {}
    for row in data.rows("intensity"):
        by_code.setdefault(row["zone"], {})[row["year"]] = row
    index = {_fold(code): years for code, years in by_code.items()}
    for column in ("alias", "name"):
        for code, years in by_code.items():
            name = _fold(next(iter(years.values()))[column])
            if name and not code.startswith("gcp:"):  # a cloud region is not its city
                index.setdefault(name, years)
    for code, years in by_code.items():
        index.setdefault(_fold(code.removeprefix("gcp:").removeprefix("US-")), years)
    return index


def _nearest_zones(code: str) -> str:
    close = difflib.get_close_matches(_fold(code), list(_zones()), n=3, cutoff=0.6)
    names = dict.fromkeys(next(iter(_zones()[name].values()))["zone"] for name in close)
    found = f"Did you mean {', '.join(names)}? " if names else ""
    return f"{found}Search: carbontrack factors search {code}"


@lru_cache
def _hardware() -> Mapping[str, Hardware]:
    index: dict[str, Hardware] = {}
    for row in data.rows("hardware"):
        made = row["embodied_source"]
        item = Hardware(
            name=row["name"],
            memory_gb=_number(row["memory_gb"]),
            rated_w=_number(row["rated_w"]),
            bf16_tflops=_number(row["bf16_tflops"]),
            embodied_kg=_number(row["embodied_kg"]),
            source=data.source(row["source"])["title"],
            embodied_source=data.source(made)["title"] if made else "",
            note=row["note"],
        )
        for name in (row["name"], *row["aliases"].split(";")):
            index.setdefault(_fold(name), item)
    return index


def _fold(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").split())


def _number(text: str) -> float | None:
    return float(text) if text else None
