"""How far a node's clock is off, measured by the answers of what it ships to. Pure.

A clock may be set while a run goes on, so an offset is of a time, and one is kept whenever it is
another than the one before.
"""

from __future__ import annotations

from carbontrack.ledger.rows import ClockOffset
from carbontrack.units import MS_PER_HOUR

FAR_MS = MS_PER_HOUR
"""Rows that come from so far in the future are refused: such a clock has to be set."""

NOTED_MS = 1_000
"""Less than that is of no matter."""

_NEWS_MS = 500


def measured(sent_ms: int, took_ms: int, there_ms: int) -> ClockOffset:
    """By an answer that came `took_ms` after its question, which was sent at `sent_ms` by the clock
    here; `there_ms` is when it was answered, by the other one: at any time in between.
    """
    half_ms = -(-took_ms // 2)
    return ClockOffset(sent_ms + half_ms, there_ms - sent_ms - half_ms, half_ms)


def is_noted(clock: ClockOffset) -> bool:
    """Whether it is off by more than is of no matter, and than what is not known of it."""
    return abs(clock.offset_ms) > max(NOTED_MS, clock.error_ms)


def is_news(now: ClockOffset, before: ClockOffset | None) -> bool:
    """Whether it says another thing than the one that is known, or says it much better."""
    if before is None:
        return True
    apart_ms = abs(now.offset_ms - before.offset_ms)
    is_better = before.error_ms > _NEWS_MS and now.error_ms < before.error_ms / 2
    return apart_ms > _NEWS_MS + now.error_ms + before.error_ms or is_better
