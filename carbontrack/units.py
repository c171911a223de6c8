"""Units: the few constants and clocks that the whole package shares."""

from __future__ import annotations

import time

J_PER_KWH = 3.6e6
G_PER_KG = 1000.0
KG_PER_T = 1000.0
MS_PER_S = 1000
MS_PER_HOUR = 3_600_000
S_PER_HOUR = 3600.0
MS_PER_DAY = 24 * MS_PER_HOUR
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000


def now_ms() -> int:
    """Wall-clock time, integer milliseconds since the epoch, UTC."""
    return time.time_ns() // NS_PER_MS


def month_of(time_ms: int) -> str:
    """The calendar month in UTC, as `2026-07`, of a time in ms since the epoch."""
    from datetime import UTC, datetime  # a job does not wait for it

    return f"{datetime.fromtimestamp(time_ms / MS_PER_S, UTC):%Y-%m}"


def age_ms(text: str, *, minutes: bool = False) -> int:
    """How long an age such as 36h, 7d or 12w is, in ms; with `minutes` 90m, too, which is refused
    where months may be meant. Raises ValueError for anything else.
    """
    number, unit = text[:-1], text[-1:]
    known = number.isascii() and number.isdigit() and len(number) <= 6 and unit in _AGES_MS
    if not known or (unit == "m" and not minutes):
        raise ValueError("not an age such as 36h, 7d or 12w")
    return int(number) * _AGES_MS[unit]


_AGES_MS = {"m": 60 * MS_PER_S, "h": MS_PER_HOUR, "d": MS_PER_DAY, "w": 7 * MS_PER_DAY}


def monotonic_ns() -> int:
    """A clock that no NTP step moves and that goes on while the machine is suspended.

    CLOCK_BOOTTIME where the system has it (Linux): after a suspend the gap is visible as a gap,
    whereas CLOCK_MONOTONIC would place everything later too early.
    """
    return time.clock_gettime_ns(_CLOCK)


def wall_ahead_ns() -> int:
    """How far the wall clock is ahead of `monotonic_ns()`, in ns.

    Both are read again if something came between, or the nearest of some such pairs is taken.
    """
    nearest_ns = ahead_ns = 0
    for attempt in range(_PAIRS):
        before_ns, wall_ns, after_ns = monotonic_ns(), time.time_ns(), monotonic_ns()
        if attempt == 0 or after_ns - before_ns < nearest_ns:
            nearest_ns, ahead_ns = after_ns - before_ns, wall_ns - before_ns
        if nearest_ns < _TOGETHER_NS:
            break
    return ahead_ns


def wall_ms(at_ns: int) -> int:
    """The wall-clock time, in ms since the epoch, of a time of `monotonic_ns()`."""
    return (at_ns + wall_ahead_ns()) // NS_PER_MS


_PAIRS = 10
_TOGETHER_NS = 20_000
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
