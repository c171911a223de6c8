"""How a table lies on the pages of an article: upright or on its side, in which size of type, its
columns in panels below each other and its rows in parts, a page each.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, takewhile

from carbontrack.report.numbers import number_text
from carbontrack.report.table import Column, Table
from carbontrack.report.tex import digits_wide

BETWEEN_PT = 8.0  # columns
_LINE_PT, _PAGE_PT = 345.0, 550.0  # how wide and how high the page of an article is
_LEAST_PT = 50.0  # of a column of names on several lines
_CAPTION_PT, _HEAD_PT, _GAP_PT = 40.0, 34.0, 6.0  # with rules and the room around them
_RAGGED = 1.25  # of text on several lines, over the same on one
_NUMBER = re.compile(r"-?\d[\d,]*(\.\d+)?")
_UNKNOWN = number_text(None, 0)


@dataclass(frozen=True, slots=True)
class Size:
    """A size of type by its name in TeX: how wide a digit of it is, how far its lines are apart."""

    name: str
    digit_pt: float
    line_pt: float

    def column_pt(self, column: Column) -> float:
        """Numbers stand with their points below each other."""
        texts = (*column.cells, column.total, column.head, f"({column.unit})")
        widest = max(map(digits_wide, texts))
        if not column.left and (format := format_of((*column.cells, column.total))):
            whole, _, decimals = format.partition(".")
            number = "0" * int(whole) + "," * (int(whole) // 4) + "." + "0" * int(decimals or 0)
            widest = max(widest, digits_wide(number))
        return self.digit_pt * widest

    def table_pt(self, table: Table) -> float:
        return sum(self.column_pt(column) + BETWEEN_PT for column in table.columns)


_FOOTNOTE, _SCRIPT = Size("footnotesize", 4.26, 9.5), Size("scriptsize", 4.0, 8.0)


@dataclass(frozen=True, slots=True)
class Layout:
    """`panels` have some of the columns each, after those that say what a row is of; names stand on
    several lines of `names_pt` where that is known.
    """

    size: Size
    panels: tuple[Table, ...]
    sideways: bool = False
    names_pt: float | None = None

    @property
    def heads(self) -> set[str]:
        """Of the columns that are shown."""
        return {column.head for panel in self.panels for column in panel.columns}

    def parts(self, heads: Collection[int], notes: Sequence[str]) -> list[range]:
        """The rows of each page; the last has total and `notes`, some rows `heads` above."""
        high = [self._row_pt(n, n in heads) for n in range(len(self.panels[0].columns[0].cells))]
        room_pt = (_LINE_PT if self.sideways else _PAGE_PT) - _CAPTION_PT
        room_pt = room_pt / len(self.panels) - _HEAD_PT
        if heads:
            room_pt -= self.size.line_pt  # a part that begins below a head repeats it
        last_pt = room_pt - self._end_pt(notes)
        pages = 1
        while sum(high) > last_pt + (pages - 1) * room_pt and pages < len(high):
            pages += 1
        return list(_divided(high, pages, room_pt, max(last_pt, 0.0)))

    def _row_pt(self, row: int, has_head: bool) -> float:
        table = self.panels[0]
        lines = 1
        if self.names_pt is not None:
            name_pt = self.size.digit_pt * digits_wide(table.columns[0].cells[row])
            if name_pt > self.names_pt:
                lines = math.ceil(name_pt * _RAGGED / self.names_pt)
        return (lines + has_head) * self.size.line_pt + _GAP_PT * (row in table.subtotals)

    def _end_pt(self, notes: Sequence[str]) -> float:
        """How high the notes and the total are, as a share of a panel."""
        last = self.panels[-1]
        wide_pt = min(self.size.table_pt(last), _PAGE_PT if self.sideways else _LINE_PT)
        noted = (self.size.digit_pt * digits_wide(note) * _RAGGED / wide_pt for note in notes)
        total_pt = (self.size.line_pt + _GAP_PT) * last.has_total
        return sum(map(math.ceil, noted)) * self.size.line_pt / len(self.panels) + total_pt


def layout_of(table: Table) -> Layout:
    """The one that changes least of those that the page holds.

    Columns that others imply are left out first, then the type is smaller and names break, then the
    table stands on its side; one that is still too wide comes in panels.
    """
    upright = table.fitting(_LINE_PT, _FOOTNOTE.table_pt, note=False)
    if _FOOTNOTE.table_pt(upright) <= _LINE_PT:
        return Layout(_FOOTNOTE, (upright,))
    if small := _with_broken_names(table, _LINE_PT):
        return small
    if _FOOTNOTE.table_pt(table) <= _PAGE_PT:
        return Layout(_FOOTNOTE, (table,), sideways=True)
    if aside := _with_broken_names(table, _PAGE_PT):
        return replace(aside, sideways=True)
    return _in_panels(table)


def _with_broken_names(table: Table, line_pt: float) -> Layout | None:
    """In small type; None if it is too wide with short lines of names, too."""
    shown = table.fitting(line_pt, _SCRIPT.table_pt, note=False)
    over_pt = _SCRIPT.table_pt(shown) - line_pt
    if over_pt <= 0:
        return Layout(_SCRIPT, (shown,))
    names_pt = _SCRIPT.column_pt(shown.columns[0]) - over_pt
    return Layout(_SCRIPT, (shown,), names_pt=names_pt) if names_pt >= _LEAST_PT else None


def _in_panels(table: Table) -> Layout:
    keys = list(takewhile(lambda column: column.left, table.columns))
    others = table.columns[len(keys) :]
    names_pt = min(_SCRIPT.column_pt(keys[0]), _PAGE_PT / 3)
    keys_pt = names_pt + sum(_SCRIPT.column_pt(key) for key in keys[1:]) + len(keys) * BETWEEN_PT
    for panels in count(2):
        each = math.ceil(len(others) / panels)
        parts = [
            replace(table, columns=(*keys, *others[at : at + each]))
            for at in range(0, len(others), each)
        ]
        wide_pt = max(_SCRIPT.table_pt(replace(p, columns=p.columns[len(keys) :])) for p in parts)
        if each == 1 or keys_pt + wide_pt <= _PAGE_PT:
            break
    broken = names_pt if names_pt < _SCRIPT.column_pt(keys[0]) else None
    return Layout(_SCRIPT, tuple(parts), sideways=True, names_pt=broken)


def _divided(high: Sequence[float], pages: int, room_pt: float, last_pt: float) -> Iterator[range]:
    """Rows to about as high pages, of which the last one has less room."""
    each_pt = max(sum(high) / pages, (sum(high) - last_pt) / max(pages - 1, 1) if pages > 1 else 0)
    each_pt, at = min(each_pt, room_pt), 0
    for page in range(pages - 1):
        begin, pt = at, 0.0
        while at < len(high) - (pages - 1 - page) and (at == begin or pt + high[at] <= each_pt):
            pt, at = pt + high[at], at + 1
        yield range(begin, at)
    yield range(at, len(high))


def format_of(cells: Sequence[str]) -> str:
    """How many digits siunitx has to leave room for, before and after the point; empty where a cell
    is neither a number nor unknown.
    """
    numbers = [cell.removeprefix("<") for cell in cells if cell not in ("", _UNKNOWN)]
    if not numbers or not all(_NUMBER.fullmatch(number) for number in numbers):
        return ""
    parts = [number.replace(",", "").partition(".") for number in numbers]
    return f"{max(len(p[0]) for p in parts)}.{max(len(p[2]) for p in parts)}".removesuffix(".0")
