"""A table on the terminal: aligned, never cropped, its notes below."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from carbontrack.report import escape
from carbontrack.report.table import Column, Table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

WIDTH = 100  # where there is no terminal


def console(*, markup: bool = False, **options: Any) -> Console:
    """A console that takes names for text: no control characters have a meaning, and markup only
    where it is wanted.
    """
    from rich.console import Console
    from rich.text import Text

    class Plain(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))  # as any other output

        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(escape.visible(text, lines=True), **options)

    return Plain(highlight=False, markup=markup, emoji=False, **options)


_LABEL_WIDTH = 18
_BETWEEN, _EDGES = 3, 2  # what the box adds between columns and at the sides


def text_of(table: Table, *, width: int | None = None, plain: bool = False) -> str:
    """The table as text, as wide as the terminal, $COLUMNS or `width`; `plain` for a file.

    Where that is too narrow, columns that others imply are left out and named: a number is never
    cropped.
    """
    terminal = console()
    styled = terminal.is_terminal and not plain
    known = styled or (not plain and os.environ.get("COLUMNS", "").isdigit())
    wanted = width or (terminal.width if known else WIDTH)
    fitting = table.fitting(wanted, _needed)
    wide = console(width=max(wanted, _needed(fitting)), force_terminal=styled)
    with wide.capture() as captured:
        wide.print(_rich(fitting))
        wide.width = wanted
        wide.print(_notes(fitting.notes))
    lines = [line.rstrip() for line in captured.get().splitlines()]
    return "\n".join(lines if lines[0] else lines[1:]) + "\n"


def _needed(table: Table) -> int:
    """The least width that crops no number; only labels are folded."""
    from rich.cells import cell_len

    widths = [
        _label_width(column)
        if column.left
        else max(map(cell_len, (*column.cells, column.total, column.head, column.unit)))
        for column in table.columns
    ]
    return sum(widths) + _BETWEEN * (len(widths) - 1) + _EDGES


def _rich(table: Table) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable

    shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), header_style="bold")
    in_two_lines = any(column.unit for column in table.columns)
    for column in table.columns:
        head = f"{column.head}\n{column.unit}" if column.unit else f"\n{column.head}"
        shown.add_column(
            head if in_two_lines else column.head,
            justify="left" if column.left else "right",
            no_wrap=not column.left,
            overflow="fold",
            min_width=_label_width(column) if column.left else None,
        )
    for at, row in enumerate(table.rows()):
        shown.add_row(*row, style="bold" if at in table.subtotals else None)
    if table.has_total:
        shown.add_section()
        shown.add_row(*table.total(), style="bold")
    return shown


def _label_width(column: Column) -> int:
    return min(_LABEL_WIDTH, max(map(len, (*column.cells, column.total, column.head))))


def _notes(notes: Sequence[str]) -> RichTable:
    from rich.table import Table as RichTable

    grid = RichTable.grid(padding=(0, 1))
    for note in notes:
        grid.add_row("•", note, style="dim")
    return grid
