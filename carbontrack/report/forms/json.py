"""JSON: rows and totals in full precision, with their factors."""

from __future__ import annotations

from carbontrack.report.document import Document
from carbontrack.report.escape import json_text
from carbontrack.report.forms import Form


def _render(document: Document) -> str:
    return json_text(document.data())


FORM = Form(_render, (".json",))
