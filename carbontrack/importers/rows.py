"""The rows of a table that is small enough to be read row by row, by the names of its columns."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from carbontrack.decimals import decimal, instead
from carbontrack.importers.model import Refused, Rejected, Tally
from carbontrack.importers.power_table import delimiter_of, split
from carbontrack.importers.source import Source


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its number in the file, and its cells by column, stripped. A row that is shorter
    than the header, as of an older version of the tool, has the columns at its end empty.
    """

    number: int
    cells: Mapping[str, str]

    def text(self, *names: str) -> str:
        """The first of these cells that has a value; empty if none has."""
        return next((self.cells[name] for name in names if self.cells.get(name)), "")

    def value(self, *names: str) -> float | None:
        """A number of 0 or more; None if unknown. Raises Rejected for anything else."""
        text = self.text(*names)
        if text.lower() in ("", "none", "nan", "n/a", "unknown"):
            return None
        try:
            value = decimal(text)
        except ValueError:
            raise Rejected(f"{names[0]} {text!r} is not a number{instead(text)}") from None
        if not math.isfinite(value) or value < 0:
            raise Rejected(f"{names[0]} {text!r} is negative or not finite")
        return value

    def known(self, *names: str) -> float:
        """A number of 0 or more. Raises Rejected where it is missing."""
        value = self.value(*names)
        if value is None:
            raise Rejected(f"{names[0]} is missing")
        return value


def names_of(head: str) -> tuple[str, ...]:
    """The names in the first line of a table."""
    line = next((text for text in head.lstrip("\ufeff").split("\n") if text.strip()), "")
    return tuple(split(line.strip(), delimiter_of(line)))


def rows(source: Source, tally: Tally, needed: Sequence[str]) -> Iterator[Row]:
    """The rows of a table that have all of the `needed` columns; the others are tallied.

    Raises Refused where the header has not.
    """
    lines = source.lines()
    _, header = next(lines, (1, ""))
    header = header.lstrip("\ufeff").strip()
    delimiter = delimiter_of(header)
    names = split(header, delimiter)
    if missing := [name for name in needed if name not in names]:
        raise Refused(f"{source.name} has no column {missing[0]!r}.")
    least = 1 + max((names.index(name) for name in needed), default=0)
    for number, line in lines:
        try:
            cells = split(line.strip(), delimiter)
        except csv.Error as error:
            tally.reject(number, f"{error}")
            continue
        if len(cells) > len(names) and not any(cells[len(names) :]):
            cells = cells[: len(names)]  # a delimiter at the end
        if cells[: len(names)] == names[: len(cells)]:
            continue  # the header once more
        if not least <= len(cells) <= len(names):
            tally.reject(number, f"{len(cells)} cells, not {len(names)}")
            continue
        yield Row(number, dict(zip(names, cells, strict=False)))
