"""The formats of a table, apart from what renders them: the command line needs the names at
once.
"""

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
