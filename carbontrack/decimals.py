"""Numbers in texts that others wrote: files, logs, options. Light: a job waits for it."""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` costs 15 ms
if TYPE_CHECKING:
    from typing import Any


def decimal(value: Any) -> float:
    """A number, or a text of one in the digits 0 to 9; NaN and infinity are numbers.

    Raises ValueError for another text, also for what only Python or another script reads as a
    number (1_000, ٣٥٠); TypeError for what is neither.
    """
    if isinstance(value, str) and ("_" in value or not value.isascii()):
        raise ValueError(f"could not convert string to float: {value!r}")
    return float(value)


def grouped(text: str) -> float:
    """The same of a text that may have commas between its thousands: 1,024.5.

    Raises ValueError for any other comma, which may be a decimal one.
    """
    import re  # which costs 10 ms

    has_thousands = re.fullmatch(r"[1-9]\d{0,2}(,\d{3})+(\.\d*)?", text, re.ASCII)
    return decimal(text.replace(",", "") if has_thousands else text)


def instead(text: str) -> str:
    """How to write a number that has a decimal comma, to end a message with: `: write 1.7`. Empty
    for anything else, also for 1,300, which has either sign.
    """
    whole, comma, rest = text.strip().partition(",")
    digits = whole.lstrip("+-")
    may_be_thousands = len(rest) == 3 and not digits.startswith("0")
    is_decimal = comma and rest.isdecimal() and digits.isdecimal() and not may_be_thousands
    return f": write {whole}.{rest}" if is_decimal else ""
