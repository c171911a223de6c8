"""A Markdown pipe table, its notes as a list."""

from __future__ import annotations

from collections.abc import Sequence

from carbontrack.report import escape
from carbontrack.report.document import Document
from carbontrack.report.forms import Form
from carbontrack.report.table import Table


def markdown_of(table: Table) -> str:
    """The table as GitHub shows it; sums are bold."""
    heads = [column.title for column in table.columns]
    lines = [heads, *table.rows()]
    cells = [[escape.markdown(cell) for cell in line] for line in lines]
    for at in table.subtotals:
        cells[at + 1] = _strong(cells[at + 1])
    cells.insert(1, [":--" if c.left else "--:" for c in table.columns])
    if table.has_total:
        cells.append(_strong([escape.markdown(cell) for cell in table.total()]))
    text = "\n".join(f"| {' | '.join(line)} |" for line in cells)
    return text + "\n" + "".join(f"\n- {escape.markdown_block(n)}" for n in table.notes) + "\n"


def _strong(cells: Sequence[str]) -> list[str]:
    return [f"**{cell}**" if cell else "" for cell in cells]


def _render(document: Document) -> str:
    return markdown_of(document.table(True)) + escape.html_comment(document.origin)


FORM = Form(_render, (".md", ".markdown"), for_people=True)
