"""Reading a price catalogue in SkyPilot's layout. Pure: text in, prices of a GPU-hour out."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass

from carbontrack.errors import CarbontrackError

_NEEDED = ("InstanceType", "AcceleratorName", "AcceleratorCount", "Price", "SpotPrice", "Region")
_MAX_PER_GPU_HOUR = 1000.0


@dataclass(frozen=True, slots=True)
class Price:
    """The price of one unit of `item` in a book of prices."""

    book: str
    item: str
    version: str
    unit: str  # gpu_hour or kwh
    price: float
    currency: str
    as_of: str
    source: str


def parse(text: str, name: str, *, book: str, version: str) -> list[Price]:
    """Prices per GPU-hour in USD: what an instance costs ÷ its accelerators, on demand and spot.

    Items are INSTANCE@REGION and INSTANCE@REGION/spot. Instances without accelerators are left out.
    Raises CarbontrackError that names file, row and column.
    """
    reader = csv.DictReader(text.removeprefix("\ufeff").splitlines())
    missing = [column for column in _NEEDED if column not in (reader.fieldnames or ())]
    if missing:
        raise CarbontrackError(
            f"{name}: no column {', '.join(missing)}.",
            hint="A catalogue in SkyPilot's layout is needed.",
        )
    found: dict[str, Price] = {}
    for number, row in enumerate(reader, start=2):
        if not row["AcceleratorName"]:
            continue
        count = _number(row, "AcceleratorCount", name, number)
        for column, suffix in (("Price", ""), ("SpotPrice", "/spot")):
            if not row[column]:
                continue
            each = _number(row, column, name, number) / count if count else math.inf
            if each > _MAX_PER_GPU_HOUR:
                raise CarbontrackError(
                    f"{name}, row {number}, column {column}: {each:g} USD for a GPU-hour.",
                    hint="Nothing was imported.",
                )
            item = f"{row['InstanceType']}@{row['Region']}{suffix}"
            price = Price(
                book,
                item,
                version,
                "gpu_hour",
                each,
                "USD",
                version,
                f"{name}: {row['AcceleratorName']}",
            )
            # Zones of one region are listed one by one: the cheapest of them counts.
            if item not in found or each < found[item].price:
                found[item] = price
    if not found:
        raise CarbontrackError(f"{name}: no price of an accelerator in it.")
    return list(found.values())


def _number(row: Mapping[str, str], column: str, name: str, number: int) -> float:
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise CarbontrackError(
            f"{name}, row {number}, column {column}: {row[column]!r} is no price or count.",
            hint="Nothing was imported.",
        )
    return value
