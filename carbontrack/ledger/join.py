"""What two ledgers say of the same thing, joined: alike in any order and however often. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from carbontrack.ledger.recorded_tables import RECORDINGS, RUNS, WINDOWS
from carbontrack.ledger.table import Table
from carbontrack.ledger.tables import REFERS
from carbontrack.ledger.window import Flag

Row = Mapping[str, Any]
"""The columns of a row, JSON as what it says."""
Age = tuple[int, bool, int]

_UNITED = ("tags", "model")
_NODES = "nodes_expected"
_SAMPLES, _ENERGY_J, _ENERGY_S, _SAMPLED_S, _FLAGS = map(
    WINDOWS.columns.index, ("samples", "energy_j", "energy_s", "sampled_s", "flags")
)
_ROUNDED = 1.5e-3  # a sum that is rounded to thousandths, less another one


def as_text(table: Table[Any], row: Row) -> str:
    """What a row says, without the integers of its ledger: an order in which any two differ."""
    said = {name: row[name] for name in table.columns if name not in REFERS}
    return json.dumps(said, sort_keys=True)


def joined_run(one: Row, other: Row) -> dict[str, Any]:
    """A run that both have: what its first start says, with the tags and model cards of both."""
    alike: dict[str, Any] = dict.fromkeys((*_UNITED, _NODES))
    first, second = sorted(
        (one, other), key=lambda row: (row["started_ms"], as_text(RUNS, {**row, **alike}))
    )
    united = {name: _united(first[name], second[name]) for name in _UNITED}
    nodes = [row[_NODES] for row in (one, other) if row[_NODES] is not None]
    return {**first, **united, _NODES: max(nodes, default=None)}


def _united(one: Row, other: Row) -> dict[str, Any]:
    """Of a name that both have, the value whose text comes later."""
    return {
        name: max((row[name] for row in (one, other) if name in row), key=json.dumps)
        for name in sorted({*one, *other})
    }


def age(ended_ms: int | None, heartbeat_ms: int) -> Age:
    """The larger, the later was this state of a recording written."""
    return heartbeat_ms, ended_ms is not None, 0 if ended_ms is None else ended_ms


def is_newer(recording: Row, other: Row) -> bool:
    """Whether a recording was written later than another state of it."""

    def order(row: Row) -> tuple[Age, str]:
        return age(row["ended_ms"], row["heartbeat_ms"]), as_text(RECORDINGS, row)

    return order(recording) > order(other)


def is_as_good(window: Sequence[Any], other: Sequence[Any]) -> bool:
    """Whether another window of the same time is no better, for one that was written later: what
    waited for the counter is known by then, though it may be less.
    """
    return not _has_more(other, window)


def is_better(window: Sequence[Any], other: Sequence[Any]) -> bool:
    """Whether a window, its columns in order, was made of more than another one of the same time;
    with as much, whether its counter has answered. What an export rounds makes no difference.
    """
    if _has_more(window, other) or _has_more(other, window):
        return _has_more(window, other)
    here, there = (-1.0 if row[_ENERGY_J] is None else row[_ENERGY_J] for row in (window, other))
    return bool(here > there + _ROUNDED)


def _has_more(window: Sequence[Any], other: Sequence[Any]) -> bool:
    if window[_SAMPLES] != other[_SAMPLES]:
        return bool(window[_SAMPLES] > other[_SAMPLES])
    for at in (_ENERGY_S, _SAMPLED_S):
        if abs(window[at] - other[at]) > _ROUNDED:
            return bool(window[at] > other[at])
    return bool(window[_FLAGS] & Flag.COUNTER and not other[_FLAGS] & Flag.COUNTER)
