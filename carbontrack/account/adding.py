"""How columns of estimates add up: the rule that each field of a row carries. Pure.

A rule takes the rows and the field's name, and gives the total's value; None where there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Rule = Callable[[Sequence[Any], str], Any]


def total(rows: Sequence[Any], name: str) -> Any:
    """The sum of numbers that every row has."""
    return sum(getattr(row, name) for row in rows)


def known(rows: Sequence[Any], name: str) -> Any:
    """The sum of what is known; None if nothing is."""
    return sum_of(getattr(row, name) for row in rows)


def complete(rows: Sequence[Any], name: str) -> Any:
    """The sum if every row has one."""
    found = [getattr(row, name) for row in rows]
    return None if not found or None in found else sum(found)


def of_rows_with(other: str, rule: Rule) -> Rule:
    """The rule over the rows that have the other field."""
    return lambda rows, name: rule([r for r in rows if getattr(r, other) is not None], name)


def if_one(what: Callable[[Sequence[Any]], Sequence[Any]], rule: Rule) -> Rule:
    """The rule where the rows have at most one of something: a currency, a basis."""
    return lambda rows, name: rule(rows, name) if len(what(rows)) < 2 else None


def the_one(what: Callable[[Sequence[Any]], Sequence[Any]]) -> Rule:
    """The only one that there is."""

    def rule(rows: Sequence[Any], name: str) -> Any:
        found = what(rows)
        return found[0] if len(found) == 1 else None

    return rule


def same(rows: Sequence[Any], name: str) -> Any:
    """What all rows have."""
    first = getattr(rows[0], name)
    return first if all(getattr(row, name) == first for row in rows) else None


def joined(rows: Sequence[Any], name: str) -> str:
    """Each once, as text."""
    return ", ".join(unique(getattr(row, name) for row in rows))


def merged(rows: Sequence[Any], name: str) -> tuple[str, ...]:
    """Each of all lists once."""
    return tuple(unique(one for row in rows for one in getattr(row, name)))


def union(rows: Sequence[Any], name: str) -> frozenset[str]:
    return frozenset().union(*(getattr(row, name) for row in rows))


def by_key(rows: Sequence[Any], name: str) -> Mapping[str, float]:
    """The sums of each key."""
    found: dict[str, float] = {}
    for row in rows:
        for key, amount in getattr(row, name).items():
            found[key] = found.get(key, 0.0) + amount
    return found


def most(rows: Sequence[Any], name: str) -> Any:
    return max(getattr(row, name) for row in rows)


def earliest(rows: Sequence[Any], name: str) -> Any:
    times = [getattr(row, name) for row in rows]
    return min((time for time in times if time is not None), default=None)


def sum_of(values: Iterable[float | None]) -> float | None:
    """The sum of what is known; None if nothing is."""
    found = [value for value in values if value is not None]
    return sum(found) if found else None


def unique(names: Iterable[str | None]) -> list[str]:
    """Each name once, in the order they come; without the empty ones."""
    return list(dict.fromkeys(name for name in names if name))
