"""The packaged factor tables, looked up by zone, provider, or the name that NVML reports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from carbontrack.errors import CarbontrackError
from carbontrack.factors import data


@dataclass(frozen=True, slots=True)
class Factor:
    """One number with its provenance. `assumed`: a default, not a choice."""

    name: str
    value: float
    unit: str
    source: str
    version: str = ""
    year: int | None = None
    basis: str = ""
    assumed: bool = False
    note: str = ""  # what to know before it is used
    cite: str = ""  # its source in sources.csv, and the key of a citation; empty of others


@dataclass(frozen=True, slots=True)
class Hardware:
    """An accelerator. What its vendor does not publish is None."""

    name: str
    memory_gb: float | None
    rated_w: float | None
    bf16_tflops: float | None
    embodied_kg: float | None
    source: str
    version: str
    embodied_source: str
    embodied_version: str
    embodied_boundary: str
    embodied_note: str  # whether the figure is borrowed from another card, or a lower bound
    note: str
    cite: str = ""
    embodied_cite: str = ""

    @property
    def rated_power_w(self) -> float | None:
        return self.rated_w

    @property
    def memory_bytes(self) -> float | None:
        """By GiB, which is what a vendor's "80 GB" of HBM come to."""
        return None if self.memory_gb is None else self.memory_gb * 2**30

    @property
    def peak_bf16_flops(self) -> float | None:
        """Dense matrix products a second, without sparsity."""
        return None if self.bf16_tflops is None else self.bf16_tflops * 1e12


def assumption(name: str) -> Factor:
    """What is assumed where no other table has a default: the report's intensity in kgCO2e/kWh,
    the lifetime of hardware in years, and the share of it that it works.
    """
    row = next(row for row in data.rows("assumed") if row["name"] == name)
    source = data.source(row["source"])
    return Factor(
        name,
        float(row["value"]),
        row["unit"],
        source["title"],
        source["version"],
        basis=row["basis"],
        assumed=True,
        cite=row["source"],
    )


def intensity(zone: str, *, assumed: bool = False, as_of: str | None = None) -> Factor:
    """Grid intensity of a zone in its newest year, or of `ZONE@YEAR`, in kgCO2e/kWh.

    A zone is a code (FRA, US-CAMX, gcp:us-central1), a two-letter country code or a country's
    name, or a cloud region (aws:us-east-1), which takes the value of the grid it is in. With
    `as_of` (YYYY-MM-DD) what was known on that day. Raises CarbontrackError with the nearest names
    for an unknown zone, with the known years for an unknown year.
    """
    code, _, year = zone.partition("@")
    region = _cloud_region(code)
    rows = _zones().get(_fold(region["zone"] if region else code))
    if rows is None:
        raise CarbontrackError(f"zone {code!r} is unknown.", hint=_nearest_zones(code))
    if year and not any(row["year"] == year for row in rows):
        years = sorted({row["year"] for row in rows})
        raise CarbontrackError(
            f"zone {code} has no value of {year}.", hint="Years: " + ", ".join(years)
        )
    row = newest([row for row in rows if year in ("", row["year"])], as_of, f"zone {code}")
    factor = intensity_factor(row, assumed=assumed)
    if region is None:
        return factor
    return replace(factor, source=f"{region['name']}, by its grid {row['zone']}: {factor.source}")


def zone_code(zone: str) -> str | None:
    """The code of a zone by any of its names, of a cloud region that of its grid; None if unknown.

    Known is what the packaged tables have.
    """
    code = zone.partition("@")[0]
    region = _cloud_region(code)
    rows = _zones().get(_fold(region["zone"] if region else code))
    return rows[0]["zone"] if rows else None


def versions(zone: str) -> list[Mapping[str, str]]:
    """All rows of a zone, newest first; none for an unknown one."""
    code = zone_code(zone)
    return newest_first(_zones()[_fold(code)]) if code else []


def newest_first(rows: Iterable[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """The versions of one factor, that of the newest year and source first."""
    return sorted(rows, key=_age, reverse=True)


def newest(rows: Sequence[Mapping[str, str]], as_of: str | None, what: str) -> Mapping[str, str]:
    """The row of the newest year, in its newest version, of those whose source was out by `as_of`.

    Raises CarbontrackError where there was none yet.
    """
    known = [row for row in rows if as_of is None or known_from(row) <= as_of]
    if known:
        return max(known, key=_age)
    first = min(known_from(row) for row in rows)
    raise CarbontrackError(
        f"{what} has no value that was known on {as_of} (factors_as_of).",
        hint=f"The first is of {first}.",
    )


def _age(row: Mapping[str, str]) -> tuple[str, str]:
    return row.get("year") or row.get("as_of", ""), known_from(row)


def known_from(row: Mapping[str, str]) -> str:
    """The day (YYYY-MM-DD) from which the tables hold a row, for `--factors-as-of`."""
    return data.source(row["source"])["date"]


def intensity_factor(row: Mapping[str, str], *, assumed: bool = False) -> Factor:
    """A row of intensity.csv as a factor."""
    factor = _of_row(row, "intensity", row["kg_per_kwh"], "kg/kWh", assumed=assumed)
    return replace(factor, basis=row["basis"])


def pue(provider: str, *, assumed: bool = False, as_of: str | None = None) -> Factor:
    """A provider's PUE. Raises CarbontrackError for an unknown provider."""
    name = provider.strip().lower()
    rows = [row for row in data.rows("pue") if row["provider"] == name]
    if not rows:
        known = dict.fromkeys(row["provider"] for row in data.rows("pue"))
        raise CarbontrackError(
            f"provider {provider!r} is unknown.",
            hint="Known: " + ", ".join(known),
        )
    row = newest(rows, as_of, f"the PUE of {name}")
    return _of_row(row, "pue", row["pue"], "", assumed=assumed)


def tariff(*, as_of: str | None = None) -> Factor:
    """The price of electricity that is assumed by default."""
    rows = [row for row in data.rows("prices") if row["item"] == "us-industrial"]
    row = newest(rows, as_of, "the assumed tariff")
    return _of_row(row, "tariff", row["price"], f"{row['currency']}/kWh", assumed=True)


def _of_row(row: Mapping[str, str], name: str, value: str, unit: str, *, assumed: bool) -> Factor:
    """A row of a table with the columns name, source, and year or as_of."""
    source = data.source(row["source"])
    return Factor(
        name,
        float(value),
        unit,
        source=f"{row['name']}, {source['title']}",
        version=source["version"],
        year=int((row.get("year") or row["as_of"])[:4]),
        assumed=assumed,
        cite=row["source"],
    )


def hardware(name: str, *, as_of: str | None = None) -> Hardware | None:
    """An accelerator by its NVML name or an alias; None if it is not in the table.

    A simulated one has the numbers of what it simulates. With `as_of` (YYYY-MM-DD) what the table
    held on that day; its first edition stands for the days before it, for a data sheet's figures
    are as old as the part.
    """
    day = max(as_of, _first_edition()) if as_of else None
    rows = _hardware().get(_fold(name).removeprefix("simulated "), ())
    known = [row for row in rows if day is None or known_from(row) <= day]
    return _accelerator(newest_first(known)[0]) if known else None


def known_hardware(name: str) -> Hardware:
    """An accelerator by its NVML name or an alias, such as A100.

    Raises CarbontrackError, with the nearest names, if the table does not have it.
    """
    found = hardware(name)
    if found is None:
        rows = {alias: versions[0]["name"] for alias, versions in _hardware().items()}
        from difflib import get_close_matches

        close = get_close_matches(_fold(name), list(rows), n=3, cutoff=0.6)
        nearest = ", ".join(dict.fromkeys(rows[alias] for alias in close))
        raise CarbontrackError(
            f"no accelerator is named {name!r}.",
            hint=f"{f'Did you mean {nearest}? ' if nearest else ''}"
            "`carbontrack factors list` has them all.",
        )
    return found


def rated_w(name: str, *, as_of: str | None = None) -> Factor | None:
    """The rated power in W of a device by name; None if the table does not have it."""
    item = hardware(name, as_of=as_of)
    if item is None or item.rated_w is None:
        return None
    source = f"{item.name}, {item.source}"
    version, note = item.version, item.note
    return Factor("rated_w", item.rated_w, "W", source, version, note=note, cite=item.cite)


def embodied_kg(name: str, *, as_of: str | None = None) -> Factor | None:
    """The kgCO2e of making a device, with the boundary of the figure; None if not known."""
    item = hardware(name, as_of=as_of)
    if item is None or item.embodied_kg is None:
        return None
    return Factor(
        name="embodied_kg",
        value=item.embodied_kg,
        unit="kgCO2e/GPU",
        source=f"{item.name}, {item.embodied_source}",
        version=item.embodied_version,
        basis=item.embodied_boundary,
        note=item.embodied_note,
        cite=item.embodied_cite,
    )


def all_intensities() -> Iterator[Mapping[str, str]]:
    """Every zone's newest row of intensity.csv."""
    for rows in {rows[0]["zone"]: rows for rows in _zones().values()}.values():
        yield newest(rows, None, rows[0]["zone"])


# What people type, where the two-letter code and the name are others.
_EVERYDAY: Mapping[str, str] = {"uk": "GBR", "great britain": "GBR", "england": "GBR"}


@lru_cache
def _zones() -> Mapping[str, Sequence[Mapping[str, str]]]:
    """Rows under every name of a zone: codes win over aliases, aliases over names."""
    by_code: dict[str, list[Mapping[str, str]]] = {}
    for row in data.rows("intensity"):
        by_code.setdefault(row["zone"], []).append(row)
    index = {_fold(code): rows for code, rows in by_code.items()}
    index |= {name: by_code[code] for name, code in _EVERYDAY.items()}
    for column in ("alias", "name"):
        for code, rows in by_code.items():
            name = _fold(rows[0][column])
            if name and not code.startswith("gcp:"):  # a cloud region is not its city
                index.setdefault(name, rows)
    for code, rows in by_code.items():
        index.setdefault(_fold(code.removeprefix("gcp:").removeprefix("US-")), rows)
    return index


def _cloud_region(code: str) -> Mapping[str, str] | None:
    """A region of a cloud without figures of its own, with or without its provider's name."""
    name = _fold(code)
    return None if name in _zones() else _cloud_regions().get(name)


@lru_cache
def _cloud_regions() -> Mapping[str, Mapping[str, str]]:
    index = {_fold(row["region"]): row for row in data.rows("cloud_regions")}
    for row in data.rows("cloud_regions"):
        index.setdefault(_fold(row["region"].partition(":")[2]), row)
    return index


_CODE_LETTERS = 3
_ALIKE = 0.75  # Deutschland is like Netherlands by less


def _nearest_zones(code: str) -> str:
    names = {name: rows[0]["zone"] for name, rows in _zones().items()}
    names |= {name: row["region"] for name, row in _cloud_regions().items() if ":" in name}
    # A code with another letter is another country, not a slip of the pen.
    names = {name: zone for name, zone in names.items() if len(name) > _CODE_LETTERS}
    wanted = _fold(code)
    close = []
    if len(wanted) > _CODE_LETTERS:
        from difflib import get_close_matches

        close = get_close_matches(wanted, list(names), n=3, cutoff=_ALIKE)
    found = ", ".join(dict.fromkeys(names[name] for name in close))
    return f"{f'Did you mean {found}? ' if found else ''}Search: carbontrack factors search {code}"


def _first_edition() -> str:
    return data.source("datasheet")["date"]


@lru_cache
def _hardware() -> Mapping[str, Sequence[Mapping[str, str]]]:
    """The versions of each accelerator under every name of it."""
    index: dict[str, list[Mapping[str, str]]] = {}
    for row in data.rows("hardware"):
        for name in dict.fromkeys(map(_fold, (row["name"], *_aliases(row)))):
            found = index.setdefault(name, [])
            if not found or found[0]["name"] == row["name"]:
                found.append(row)
    return index


def _aliases(row: Mapping[str, str]) -> list[str]:
    return row["aliases"].split(";") if row["aliases"] else []


def _accelerator(row: Mapping[str, str]) -> Hardware:
    source = data.source(row["source"])
    made = data.source(row["embodied_source"]) if row["embodied_source"] else {}
    return Hardware(
        name=row["name"],
        memory_gb=_number(row["memory_gb"]),
        rated_w=_number(row["rated_w"]),
        bf16_tflops=_number(row["bf16_tflops"]),
        embodied_kg=_number(row["embodied_kg"]),
        source=source["title"],
        version=source["version"],
        embodied_source=made.get("title", ""),
        embodied_version=made.get("version", ""),
        embodied_boundary=row["embodied_boundary"],
        embodied_note=row["embodied_note"],
        note=row["note"],
        cite=row["source"],
        embodied_cite=row["embodied_source"],
    )


def _fold(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").split())


def _number(text: str) -> float | None:
    return float(text) if text else None
