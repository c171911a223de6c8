"""The formats of a table; the command line needs their names before anything is imported."""

from __future__ import annotations

from enum import StrEnum


class TableFormat(StrEnum):
    """What `table --format` knows."""

    text = "text"
    markdown = "markdown"
    latex = "latex"
    html = "html"
    csv = "csv"
    json = "json"
    parquet = "parquet"
