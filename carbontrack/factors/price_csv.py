"""Reading a price catalogue in SkyPilot's layout. Pure: text in, prices of a GPU-hour out."""

from __future__ import annotations

from dataclasses import dataclass

from carbontrack.factors import strict_csv
from carbontrack.factors.strict_csv import Row, refused
from carbontrack.vocabulary import PriceUnit

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

    Items are INSTANCE@REGION and INSTANCE@REGION/spot. Google lists accelerators without an
    instance, priced apart from their host: those are ACCELERATOR@REGION, and their source says so.
    Instances without accelerators are left out. Raises CarbontrackError that names file, row and
    column.
    """
    columns, rows = strict_csv.read(text, name)
    missing = [column for column in _NEEDED if column not in columns]
    if missing:
        hint = "A catalogue in SkyPilot's layout is needed."
        raise refused(name, f"row 1: no column {', '.join(missing)}.", hint)
    found: dict[str, Price] = {}
    for row in rows:
        if not row["AcceleratorName"]:
            continue
        count = row.number_of("AcceleratorCount")
        if count == 0:
            raise row.refused("AcceleratorCount", f"of {row['AcceleratorName']}.")
        for column, suffix in (("Price", ""), ("SpotPrice", "/spot")):
            if not row[column]:
                continue
            each = row.number_of(column) / count
            if each > _MAX_PER_GPU_HOUR:
                raise row.refused(column, f"makes {each:g} USD for a GPU-hour.")
            item = f"{row['InstanceType'] or row['AcceleratorName']}@{row['Region']}{suffix}"
            source = f"{name}: {_source(row)}"
            price = Price(book, item, version, PriceUnit.GPU_HOUR, each, "USD", version, source)
            # Zones of one region are listed one by one: the cheapest of them counts.
            if item not in found or each < found[item].price:
                found[item] = price
    if not found:
        raise refused(name, "all rows: no price of an accelerator.")
    return list(found.values())


def _source(row: Row) -> str:
    apart = "" if row["InstanceType"] else ", without its host"
    return row["AcceleratorName"] + apart
