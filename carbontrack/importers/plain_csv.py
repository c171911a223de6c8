"""Tables of power of any other make: by the names of their columns, or as the user names them."""

from __future__ import annotations

from carbontrack.errors import CarbontrackError
from carbontrack.importers.model import FileOptions, FoundRun, Tally
from carbontrack.importers.power_columns import (
    columns_of,
    factor_of,
    has_power,
    has_times,
    header_of,
    place_of,
)
from carbontrack.importers.power_table import Columns, PowerTable
from carbontrack.importers.source import Source
from carbontrack.vocabulary import ImportKind

KIND = ImportKind.CSV


def matches(head: str) -> bool:
    """Whether the first line names a time and a power."""
    _, _, names = header_of(head)
    return has_times(names) and has_power(names)


def read(source: Source, options: FileOptions, tally: Tally) -> list[FoundRun]:
    """The table as one run. Raises Refused for one without power, or whose power cannot be."""
    row, delimiter, names = header_of(source.head)
    if options.power_column is None:
        device = options.device_column
        columns = columns_of(source.name, source.head, delimiter, names, device)
    else:
        columns = _named(source, options, delimiter, names)
    return [PowerTable(source, options, columns, tally).run(KIND, header_rows=row)]


def _named(source: Source, options: FileOptions, delimiter: str, names: tuple[str, ...]) -> Columns:
    if options.time_column is None or options.power_column is None or options.unit is None:
        raise CarbontrackError(
            "the columns of a table are named by three options together.",
            hint="Give --time-column, --power-column and --unit.",
        )
    factor = factor_of(options.unit)
    if factor is None:
        raise CarbontrackError(f"--unit {options.unit!r} is not known.", hint="Known: W, mW, kW.")

    def at(name: str) -> int:
        return place_of(source.name, names, name)

    device = None if options.device_column is None else at(options.device_column)
    return Columns(
        delimiter,
        names,
        at(options.time_column),
        (at(options.power_column),),
        device,
        factor=factor,
    )
