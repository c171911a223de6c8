"""A bare HTML table with a list of notes, to paste into a page."""

from __future__ import annotations

import html
from collections.abc import Sequence

from carbontrack.report import escape
from carbontrack.report.document import Document
from carbontrack.report.forms import Form
from carbontrack.report.table import Table


def html_of(table: Table) -> str:
    """The table and its notes; sub-totals are strong, the total is the table's foot."""
    heads = "".join(f"<th>{html.escape(column.title)}</th>" for column in table.columns)
    body = "".join(_row(row, strong=at in table.subtotals) for at, row in enumerate(table.rows()))
    foot = f"<tfoot>{_row(table.total())}</tfoot>" if table.has_total else ""
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in table.notes)
    return (
        f"<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>{body}</tbody>\n{foot}</table>\n"
        f"<ul>{notes}</ul>\n"
    )


def _row(cells: Sequence[str], *, strong: bool = False) -> str:
    texts = [html.escape(cell) for cell in cells]
    texts = [f"<strong>{text}</strong>" if strong and text else text for text in texts]
    return "<tr>" + "".join(f"<td>{text}</td>" for text in texts) + "</tr>"


def _render(document: Document) -> str:
    return html_of(document.table(True)) + escape.html_comment(document.origin)


FORM = Form(_render, (".html", ".htm"), for_people=True)
