"""Which of two windows of one place stays, and what came of windows that were written. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from carbontrack.ledger.recorded_tables import WINDOWS

Row = tuple[Any, ...]
"""A window: the columns of `WINDOWS` in their order."""

Better = Callable[[Row, Row], bool]
"""Whether a window is better than another one of the same place."""

place_of = itemgetter(*map(WINDOWS.columns.index, WINDOWS.key))


@dataclass
class Joined:
    """What became of windows: written, or another one stays that is not like it."""

    written: list[Row] = field(default_factory=list)
    left: list[Row] = field(default_factory=list)

    def take(self, row: Row, here: Row | None, is_better: Better | None) -> bool:
        """Decide about a row, and the one that is here: whether it is written."""
        if here is None or is_better is None or is_better(row, here):
            self.written.append(row)
            return True
        if tuple(row) != tuple(here):
            self.left.append(row)
        return False

    def add(self, other: Joined) -> None:
        """Count these, too."""
        self.written += other.written
        self.left += other.left


def best_of(rows: Iterable[Row], is_better: Better | None) -> list[Row]:
    """The rows, of each place one: the best, or the last."""
    found: dict[Any, Row] = {}
    for row in rows:
        place = place_of(row)
        before = found.get(place)
        if before is None or is_better is None or is_better(row, before):
            found[place] = row
    return list(found.values())
