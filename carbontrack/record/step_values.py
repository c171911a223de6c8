"""The values that a step, an event or a model card may have: what cannot be is refused here, so
that whatever comes later (sums in SQL, JSON, figures) can hold it. Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from carbontrack.decimals import decimal
from carbontrack.ledger.names import MAX_TEXT_CHARS
from carbontrack.ledger.table import plain

MAX_FLOAT = 3.4028234663852886e38  # of 32 bits: what a training can compute; beyond it is infinite
_MAX_DEPTH = 8
_MAX_ITEMS = 256
_INT_BITS = 63
_WHOLE = re.compile(r"[+-]?\d+(?:\.0*)?", re.ASCII)


class Refused(ValueError):
    """A value that cannot be; the message says why."""


def whole(value: Any) -> int:
    """A whole number of 64 bits, however it is written (51486, 51486.0, "51486")."""
    if isinstance(value, str):
        if not _WHOLE.fullmatch(value.strip()):
            raise Refused("is not a whole number")
        value = int(value.strip().partition(".")[0])
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, float) and math.isfinite(value):
        raise Refused("is a fraction")
    if not isinstance(value, int) or isinstance(value, bool):
        raise Refused("is not a whole number")
    if value.bit_length() > _INT_BITS:
        raise Refused("is out of range")
    return value


def count(value: Any, *, at_most: int = (1 << _INT_BITS) - 1) -> int:
    """A whole number of 0 or more."""
    number = whole(value)
    if number < 0:
        raise Refused("is negative")
    if number > at_most:
        raise Refused("is out of range")
    return number


def number(value: Any) -> float:
    """A float, NaN and infinity included; what no 32-bit float can hold is infinite."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise Refused("is not a number")
    try:
        found = decimal(value)
    except OverflowError:
        found = math.inf if isinstance(value, int) and value > 0 else -math.inf
    except ValueError:
        raise Refused("is not a number") from None
    return found if abs(found) <= MAX_FLOAT or math.isnan(found) else math.copysign(math.inf, found)


def above_zero(value: Any) -> float:
    """A finite float above 0."""
    found = number(value)
    if not 0 < found < math.inf:
        raise Refused("must be above 0")
    return found


def text(value: Any) -> str:
    """A string that is of a bounded length as a ledger holds it."""
    if not isinstance(value, str):
        raise Refused("is not a text")
    held: str = plain(value)
    return value if len(held) <= MAX_TEXT_CHARS else f"{held[: MAX_TEXT_CHARS - 1]}…"


def anything(value: Any, depth: int = 0) -> Any:
    """JSON of bounded size and depth, its whole numbers of 64 bits."""
    if depth > _MAX_DEPTH:
        raise Refused("is nested too deeply")
    if isinstance(value, str):
        return text(value)
    if isinstance(value, int) and value.bit_length() > _INT_BITS:
        raise Refused("is out of range")
    if isinstance(value, Mapping):
        _check_items(len(value))
        return {text(key): anything(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        _check_items(len(value))
        return [anything(item, depth + 1) for item in value]
    return value


def _check_items(items: int) -> None:
    if items > _MAX_ITEMS:
        raise Refused(f"has more than {_MAX_ITEMS} items")
