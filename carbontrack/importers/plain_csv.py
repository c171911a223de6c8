"""Tables of power of any other make: by the names of their columns, or as the user names them."""

from __future__ import annotations

from carbontrack.errors import CarbontrackError
from carbontrack.importers.model import Asked, FoundRun, Refused, Tally
from carbontrack.importers.power_columns import (
    columns_of,
    factor_of,
    has_power,
    has_times,
    header_of,
)
from carbontrack.importers.power_table import Columns, PowerTable
from carbontrack.importers.source import Source
from carbontrack.vocabulary import ImportKind

KIND = ImportKind.CSV


def matches(head: str) -> bool:
    """Whether the first line names a time and a power."""
    _, _, names = header_of(head)
    return has_times(names) and has_power(names)


def read(source: Source, asked: Asked, tally: Tally) -> list[FoundRun]:
    """The table as one run. Raises Refused for one without power, or whose power cannot be."""
    row, delimiter, names = header_of(source.head)
    if asked.power_column is None:
        columns = columns_of(source.name, source.head, delimiter, names)
    else:
        columns = _named(source, asked, delimiter, names)
    return [PowerTable(source, asked, columns, tally).run(KIND, header_rows=row)]


def _named(source: Source, asked: Asked, delimiter: str, names: tuple[str, ...]) -> Columns:
    if asked.time_column is None or asked.power_column is None or asked.unit is None:
        raise CarbontrackError(
            "the columns of a table are named by three options together.",
            hint="Give --time-column, --power-column and --unit.",
        )
    factor = factor_of(asked.unit)
    if factor is None:
        raise CarbontrackError(f"--unit {asked.unit!r} is not known.", hint="Known: W, mW, kW.")

    def at(name: str) -> int:
        if name not in names:
            raise Refused(f"{source.name} has no column {name!r}: it has {', '.join(names)}.")
        return names.index(name)

    device = None if asked.device_column is None else at(asked.device_column)
    return Columns(
        delimiter, names, at(asked.time_column), (at(asked.power_column),), device, factor=factor
    )
