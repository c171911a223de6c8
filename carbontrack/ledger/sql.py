"""Pieces of statements with many keys: listed as numbers, or some at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
BOARD_KEY = (
    "coalesce((select parents.key from devices parents "
    "where parents.uuid = devices.mig_parent), devices.key)"
)
"""Of a row of `devices`: the key of the GPU that it is a MIG instance of, if somebody read that, or
its own.
"""
_AT_ONCE = 500  # values that one statement holds


def listed(keys: Iterable[int]) -> str:
    """Keys as they stand between the brackets of IN."""
    return ", ".join(str(int(key)) for key in keys)


def listed_rows(rows: Iterable[Sequence[object]]) -> str:
    """Rows as they stand after VALUES; each value is SQL already."""
    return ", ".join(f"({', '.join(map(str, row))})" for row in rows)


def in_parts(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Values, as many at a time as one statement should hold."""
    return (values[at : at + _AT_ONCE] for at in range(0, len(values), _AT_ONCE))
