"""A table of measured values, and how its cells are written."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """One question's answer. Cells are text as printed; `raw` has every figure behind them."""

    title: str
    how: str  # what was done, and what a reader must know to judge the figures; may be empty
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    raw: Any

    @property
    def markdown(self) -> str:
        lines = [f"### {self.title}", "", *([self.how, ""] if self.how else []), _row(self.columns)]
        lines.append(_row(["---", *("---:" for _ in self.columns[1:])]))
        lines += [_row(row) for row in self.rows]
        return "\n".join(lines)


def spread(values: Sequence[float], form: str = "{:.1f}") -> str:
    """Median and range: `12.3 (11.9–14.0)`; `—` where nothing was measured."""
    if not values:
        return "—"
    shown = [form.format(v) for v in (statistics.median(values), min(values), max(values))]
    return f"{shown[0]} ({shown[1]}–{shown[2]})" if len(values) > 1 else shown[0]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
