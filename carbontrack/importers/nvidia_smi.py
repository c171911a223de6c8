"""`nvidia-smi --query-gpu=… --format=csv`, with or without units, header and devices."""

from __future__ import annotations

import re

from carbontrack.importers.clock import Clock
from carbontrack.importers.model import FileOptions, FoundRun, Refused, Rejected, Tally
from carbontrack.importers.power_columns import columns_of, has_power, has_times, header_of
from carbontrack.importers.power_table import PowerTable
from carbontrack.importers.source import Source
from carbontrack.vocabulary import ImportKind

KIND = ImportKind.NVIDIA_SMI
_USE = "Use nvidia-smi --query-gpu=timestamp,uuid,power.draw --format=csv -l 1."
_FOR_PEOPLE = "| NVIDIA-SMI"
# Names that only nvidia-smi has: a table with one is its own even without any power.
_ITS_OWN = re.compile(r"utilization\.\w|memory\.\w|temperature\.gpu|pci\.bus|power\.draw|clocks\.")
_UUID = re.compile(r"GPU-[0-9a-fA-F-]{8,}")
_BUS_ID = re.compile(r"[0-9a-fA-F]{8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.\d")
_WATTS = re.compile(r"\d+(?:\.\d+)? W")


def matches(head: str) -> bool:
    """Whether a file that begins like this is one of these."""
    _, _, names = header_of(head)
    if has_times(names):
        return any(_ITS_OWN.match(name) for name in names)
    return _FOR_PEOPLE in head or _by_values(names) is not None or _looks_nameless(names)


def read(source: Source, options: FileOptions, tally: Tally) -> list[FoundRun]:
    """The log as one run. Raises Refused for one without power, or whose power cannot be."""
    if _FOR_PEOPLE in source.head:
        raise Refused(f"{source.name} is the table that nvidia-smi prints for people.", _USE)
    header_rows, delimiter, names = header_of(source.head)
    if has_times(names):
        if not has_power(names):
            has = ", ".join(names)
            raise Refused(f"{source.name} has no power column: it has {has}.", _USE)
    elif (by_values := _by_values(names)) is not None:
        header_rows, names = header_rows - 1, by_values
    else:
        raise Refused(f"{source.name} has no header that names its columns.", _USE)
    columns = columns_of(source.name, source.head, delimiter, names, options.device_column)
    return [PowerTable(source, options, columns, tally).run(KIND, header_rows=header_rows)]


def _by_values(cells: tuple[str, ...]) -> tuple[str, ...] | None:
    """The names of a table without a header, where its first row says what they are: one is in W,
    and one a time.
    """
    names = [f"column {number}" for number in range(1, len(cells) + 1)]
    for at, cell in enumerate(cells):
        if _UUID.fullmatch(cell):
            names[at] = "uuid"
        elif _BUS_ID.fullmatch(cell):
            names[at] = "pci.bus_id"
        elif _WATTS.fullmatch(cell):
            names[at] = "power.draw [W]"
        elif "timestamp" not in names and _is_time(cell):
            names[at] = "timestamp"
    return tuple(names) if "timestamp" in names and names.count("power.draw [W]") == 1 else None


def _looks_nameless(cells: tuple[str, ...]) -> bool:
    """A first row of values, as `--format=csv,noheader` writes."""
    return len(cells) > 1 and _is_time(cells[0])


def _is_time(text: str) -> bool:
    try:
        Clock("", "UTC").read(text)
    except (Rejected, Refused):
        return False
    return True
