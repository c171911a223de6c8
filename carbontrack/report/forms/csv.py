"""CSV: every key in full precision, one line per row; no total, so that a sum stays right."""

from __future__ import annotations

from carbontrack.report import escape
from carbontrack.report.document import Document
from carbontrack.report.forms import Form


def _render(document: Document) -> str:
    """Text that a spreadsheet would take for a formula begins with an apostrophe."""
    rows = document.frame()
    safe = rows.map(lambda cell: escape.csv(cell) if isinstance(cell, str) else cell)
    return safe.to_csv(index=False)


FORM = Form(_render, (".csv",), of_runs=True)
