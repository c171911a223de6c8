"""Every packaged factor as one kind of row, to be listed, searched and shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from carbontrack.factors import catalog, data

KINDS = ("intensity", "pue", "hardware", "price")


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

    def matches(self, text: str) -> bool:
        """Whether any of its words contains the text, without case."""
        words = f"{self.kind} {self.name} {self.title} {self.basis} {self.source} {self.detail}"
        return text.casefold() in words.casefold()


def packaged() -> Iterator[Entry]:
    """All that ships: the newest year of each zone, cloud regions, PUE, hardware and prices."""
    for row in catalog.all_intensities():
        title = f"{row['name']} ({row['alias']})" if row["alias"] else row["name"]
        value = float(row["kg_per_kwh"])
        yield _entry(
            "intensity",
            row["zone"],
            title,
            value,
            "kg/kWh",
            row["year"],
            row["basis"],
            row["source"],
        )
    for row in data.rows("cloud_regions"):
        entry = next(years_of(row["zone"]))
        yield replace(entry, name=row["region"], title=f"{row['name']}: its grid {row['zone']}")
    for row in data.rows("pue"):
        yield _entry(
            "pue",
            row["provider"],
            row["name"],
            float(row["pue"]),
            "",
            row["year"],
            "",
            row["source"],
        )
    for row in data.rows("hardware"):
        value_w = float(row["rated_w"]) if row["rated_w"] else None
        title = ", ".join(part for part in (_hardware(row), row["note"]) if part)
        yield _entry("hardware", row["name"], title, value_w, "W", "", "rated power", row["source"])
    for row in data.rows("prices"):
        unit = f"{row['currency']}/{row['unit']}".replace("gpu_hour", "GPU-hour")
        price = float(row["price"])
        yield _entry(
            "price", row["item"], row["name"], price, unit, row["as_of"], "", row["source"]
        )


def years_of(zone: str) -> Iterator[Entry]:
    """Every year of a zone in every version, newest first; nothing for an unknown zone."""
    for row in catalog.versions(zone):
        yield _entry(
            "intensity",
            f"{row['zone']}@{row['year']}",
            row["name"],
            float(row["kg_per_kwh"]),
            "kg/kWh",
            row["year"],
            row["basis"],
            row["source"],
        )


def _entry(
    kind: str,
    name: str,
    title: str,
    value: float | None,
    unit: str,
    year: str,
    basis: str,
    source_id: str,
) -> Entry:
    source = data.source(source_id)
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
    )


def _hardware(row: Mapping[str, str]) -> str:
    parts = []
    if row["aliases"]:
        parts.append(row["aliases"].replace(";", ", "))
    if row["bf16_tflops"]:
        parts.append(f"{row['bf16_tflops']} TFLOP/s bf16")
    if row["embodied_kg"]:
        made = data.source(row["embodied_source"])["title"]
        parts.append(f"embodied {row['embodied_kg']} kg, {row['embodied_boundary']} ({made})")
    return "; ".join(parts)
