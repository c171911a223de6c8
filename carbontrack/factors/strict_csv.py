"""Reading a CSV of factors strictly: each row has a cell for each column, or the file is refused.

Pure: text in, rows out, or one error that names file, row and column. What is refused is refused
whole, and every error says so.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from carbontrack.decimals import decimal
from carbontrack.errors import CarbontrackError

NOTHING = "Nothing was imported."


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the line it begins at, and its cells by column, stripped."""

    file: str
    number: int
    cells: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells[column]

    def number_of(self, column: str) -> float:
        """A finite number of 0 or more. Raises CarbontrackError for anything else."""
        text = self.cells[column]
        try:
            value = decimal(text)
        except ValueError:
            comma = "A decimal comma? Write a point." if "," in text else ""
            raise self.refused(column, "is not a number.", comma) from None
        if not math.isfinite(value) or value < 0:
            raise self.refused(column, "is negative or not finite.")
        return value

    def refused(self, column: str, why: str, hint: str = "") -> CarbontrackError:
        """The error that names this row and the cell in it."""
        where = f"row {self.number}, column {column!r}: {self.cells[column]!r}"
        return refused(self.file, f"{where} {why}", hint)


def refused(file: str, why: str, hint: str = "") -> CarbontrackError:
    """An error about a file that was not taken: what, how to fix it, and that nothing happened."""
    return CarbontrackError(f"{file}, {why}", hint=f"{hint} {NOTHING}".lstrip())


def read(text: str, file: str) -> tuple[tuple[str, ...], list[Row]]:
    """The columns and the rows of a CSV; empty lines are left out. `file` is its name, for errors.

    Raises CarbontrackError for a row with more or fewer cells than columns (a decimal comma makes
    one), a quote that is never closed, or a column that is there twice.
    """
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    lines: list[tuple[int, list[str]]] = []
    begins = 1
    try:
        for cells in reader:
            if cells:
                lines.append((begins, [cell.strip() for cell in cells]))
            begins = reader.line_num + 1
    except csv.Error as error:
        raise refused(file, f"row {begins}: {error}.", "Is each quote closed?") from None
    if not lines:
        return (), []
    columns = tuple(lines[0][1])
    if len(columns) == 1 and ";" in columns[0]:
        raise refused(
            file, "row 1: cells apart by semicolons.", "Write commas, and points in numbers."
        )
    for name in columns:
        if name and columns.count(name) > 1:
            raise refused(file, f"row {lines[0][0]}: column {name!r} is there twice.")
    return columns, [_row(file, number, columns, cells) for number, cells in lines[1:]]


def _row(file: str, number: int, columns: Sequence[str], cells: Sequence[str]) -> Row:
    if len(cells) < len(columns):
        raise refused(file, f"row {number}: no cell for column {columns[len(cells)]!r}.")
    if len(cells) > len(columns):
        over = ", ".join(cells[len(columns) :])
        what = f"row {number}: {over!r} comes after the last column, {columns[-1]!r}."
        raise refused(file, what, "A decimal comma? Write a point.")
    return Row(file, number, dict(zip(columns, cells, strict=True)))
