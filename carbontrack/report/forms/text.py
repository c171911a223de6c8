"""Text for a terminal or a file: aligned columns, notes below."""

from __future__ import annotations

from carbontrack.report.document import Document
from carbontrack.report.forms import Form
from carbontrack.report.terminal import text_of


def _render(document: Document) -> str:
    return text_of(document.table(False), plain=document.to_file)


FORM = Form(_render, (".txt",), for_people=True)
