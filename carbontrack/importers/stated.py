"""Runs of which a tool states a sum: its energy lies evenly between start and end."""

from __future__ import annotations

from collections.abc import Iterable

from carbontrack.importers.bins import Bins
from carbontrack.importers.model import FoundDevice
from carbontrack.importers.spans import Spans
from carbontrack.vocabulary import DeviceKind, Quality, Scope


def even(rows: Iterable[tuple[int, int, float]]) -> Bins:
    """From (start, end, energy in J); what is 0 or takes no time is unknown."""
    bins = Bins()
    bins.add(Spans.of([row for row in rows if row[1] > row[0] and row[2] > 0]))
    return bins


def node(
    name: str, field: str, *, key: str = "node", scope: str = Scope.NODE, host: str | None = None
) -> FoundDevice:
    """A machine, or all of it that a tool adds up."""
    return FoundDevice(key, DeviceKind.NODE, name, Quality.STATED, field, scope, None, host)
