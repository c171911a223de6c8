"""Every packaged factor as one kind of row, to be listed, searched and shown."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from carbontrack.factors import catalog, data
from carbontrack.vocabulary import FactorKind, PriceUnit


@dataclass(frozen=True, slots=True)
class Entry:
    """One factor. `name` is what an option takes: a zone, a provider, a GPU, a price."""

    kind: str
    name: str
    title: str
    value: float | None
    unit: str
    year: str
    basis: str
    source: str
    detail: str
    version: str
    licence: str
    known_from: str  # YYYY-MM-DD, for --factors-as-of

    def matches(self, text: str) -> bool:
        """Whether any of its words contains the text, without case."""
        words = f"{self.kind} {self.name} {self.title} {self.basis} {self.source} {self.detail}"
        return text.casefold() in words.casefold()


def packaged() -> Iterator[Entry]:
    """All that ships, each factor in its newest version: zones, regions, PUE, hardware, prices."""
    for row in catalog.all_intensities():
        title = f"{row['name']} ({row['alias']})" if row["alias"] else row["name"]
        yield _intensity(row, row["zone"], title)
    for row in data.rows("cloud_regions"):
        entry = next(years_of(row["zone"]))
        yield replace(entry, name=row["region"], title=f"{row['name']}: its grid {row['zone']}")
    for versions in _versions():
        yield versions[0]


def versions_of(names: Collection[str]) -> Iterator[Entry]:
    """Every version of the providers, devices and prices of these names, newest first."""
    for versions in _versions():
        if versions[0].name.casefold() in names:
            yield from versions


def years_of(zone: str) -> Iterator[Entry]:
    """Every year of a zone in every version, newest first; nothing for an unknown zone."""
    for row in catalog.versions(zone):
        yield _intensity(row, f"{row['zone']}@{row['year']}", row["name"])


def _versions() -> Iterator[list[Entry]]:
    """The versions of each provider's PUE, device and price, newest first."""
    for table, key, entry in (
        ("pue", "provider", _pue),
        ("hardware", "name", _device),
        ("prices", "item", _price),
    ):
        for name in dict.fromkeys(row[key] for row in data.rows(table)):
            rows = [row for row in data.rows(table) if row[key] == name]
            yield [entry(row) for row in catalog.newest_first(rows)]


def _intensity(row: Mapping[str, str], name: str, title: str) -> Entry:
    value = float(row["kg_per_kwh"])
    return _entry(
        FactorKind.INTENSITY, name, title, value, "kg/kWh", row["year"], row["basis"], row
    )


def _pue(row: Mapping[str, str]) -> Entry:
    return _entry(
        FactorKind.PUE, row["provider"], row["name"], float(row["pue"]), "", row["year"], "", row
    )


def _device(row: Mapping[str, str]) -> Entry:
    value_w = float(row["rated_w"]) if row["rated_w"] else None
    title = ", ".join(part for part in (_hardware(row), row["note"]) if part)
    return _entry(FactorKind.HARDWARE, row["name"], title, value_w, "W", "", "rated power", row)


def price_unit(price: Mapping[str, Any]) -> str:
    """The unit of a price as people read it: USD/GPU-hour, USD/kWh."""
    of = "GPU-hour" if price["unit"] == PriceUnit.GPU_HOUR else price["unit"]
    return f"{price['currency']}/{of}"


def _price(row: Mapping[str, str]) -> Entry:
    unit = price_unit(row)
    price = float(row["price"])
    return _entry(FactorKind.PRICE, row["item"], row["name"], price, unit, row["as_of"], "", row)


def _entry(
    kind: str,
    name: str,
    title: str,
    value: float | None,
    unit: str,
    year: str,
    basis: str,
    row: Mapping[str, str],
) -> Entry:
    source = data.source(row["source"])
    return Entry(
        kind=kind,
        name=name,
        title=title,
        value=value,
        unit=unit,
        year=year,
        basis=basis,
        source=source["title"],
        detail=source["detail"],
        version=source["version"],
        licence=source["licence"],
        known_from=catalog.known_from(row),
    )


def _hardware(row: Mapping[str, str]) -> str:
    parts = []
    if row["aliases"]:
        parts.append(row["aliases"].replace(";", ", "))
    if row["bf16_tflops"]:
        parts.append(f"{row['bf16_tflops']} TFLOP/s bf16")
    if row["embodied_kg"]:
        made = data.source(row["embodied_source"])["title"]
        what = "; ".join(part for part in (row["embodied_boundary"], row["embodied_note"]) if part)
        parts.append(f"embodied {row['embodied_kg']} kg, {what} ({made})")
    return "; ".join(parts)
