"""The factor tables that ship with the package: each NAME.csv beside NAME.md, its source note."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path


@lru_cache
def rows(name: str) -> tuple[Mapping[str, str], ...]:
    """The rows of `NAME.csv`, as text. Raises FileNotFoundError for a table that does not ship."""
    text = Path(__file__).with_name(f"{name}.csv").read_text(encoding="utf-8")
    return tuple(csv.DictReader(text.splitlines()))


@lru_cache
def source(source_id: str) -> Mapping[str, str]:
    """Title, authors, licence and version of a source. Raises KeyError for an unknown id."""
    by_id = {row["source"]: row for row in rows("sources")}
    return by_id[source_id]
