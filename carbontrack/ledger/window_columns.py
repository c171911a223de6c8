"""Windows of sensors by column: lists by the name of the field, as long as there are windows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from typing import Any

from carbontrack.ledger.coarser import Place, hour_of
from carbontrack.ledger.recorded_rows import Span
from carbontrack.units import MS_PER_HOUR


def by_column(names: Sequence[str], rows: Sequence[Any]) -> dict[str, list[Any]]:
    """Rows as columns of these names."""
    values = zip(*rows, strict=True) if rows else ([] for _ in names)
    return {name: list(column) for name, column in zip(names, values, strict=True)}


def chosen(columns: Mapping[str, list[Any]], which: Sequence[bool]) -> dict[str, list[Any]]:
    """The windows for which `which` is true."""
    return {name: list(compress(column, which)) for name, column in columns.items()}


def both(columns: dict[str, list[Any]], more: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """One's windows, then the other's."""
    return {name: column + more[name] for name, column in columns.items()}


def between(columns: Mapping[str, list[Any]], span_ms: Span) -> dict[str, list[Any]]:
    """The windows that begin within a span."""
    return chosen(columns, [span_ms[0] <= at_ms < span_ms[1] for at_ms in columns["start_ms"]])


def places_of(columns: Mapping[str, list[Any]]) -> Iterable[Place]:
    """The sensor and hour of each window."""
    return zip(columns["sensor_key"], map(hour_of, columns["start_ms"]), strict=True)


def distinct_places(columns: Mapping[str, list[Any]]) -> set[Place]:
    """The same, each once: of windows in order without a tuple for each, which costs most."""
    found: set[Place] = set()
    last_key, until_ms = None, 0
    for key, start_ms in zip(columns["sensor_key"], columns["start_ms"], strict=True):
        if key != last_key or not until_ms - MS_PER_HOUR <= start_ms < until_ms:
            last_key, until_ms = key, hour_of(start_ms) + MS_PER_HOUR
            found.add((key, until_ms - MS_PER_HOUR))
    return found
