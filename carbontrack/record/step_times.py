"""When a line was written: by a clock that may have been set meanwhile, or, where it does not say
so, between the times of those around it. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence


def dated(time_ms: int, sets_ms: Sequence[int], *, after_ms: int, until_ms: int) -> int:
    """The time that a line has, by the clock that those around it are of: the line's was set, so
    far ahead of it, now or a moment ago. Of such times it is the one nearest to when it was read.
    """

    def away_ms(at_ms: int) -> int:
        return max(after_ms - at_ms, at_ms - until_ms, 0)

    return min((time_ms - set_ms for set_ms in sets_ms), key=away_ms)


def spread(times_ms: Sequence[int | None], *, after_ms: int, until_ms: int) -> list[int]:
    """The times of lines that were read together, in their order; None is an unknown one.

    The unknown ones lie evenly between the known ones around them, the first after `after_ms`, the
    last at `until_ms`: steps of one reading do not share the time of the reading.
    """
    found: list[int] = []
    before_ms = after_ms
    unknown = 0
    for time_ms in times_ms:
        if time_ms is None:
            unknown += 1
            continue
        found += _between(before_ms, time_ms, unknown, unknown + 1)
        found.append(time_ms)
        before_ms, unknown = time_ms, 0
    return found + _between(before_ms, until_ms, unknown, unknown)


def _between(from_ms: int, to_ms: int, count: int, parts: int) -> list[int]:
    """The ends of the first `count` of so many equal parts; clocks that disagree make none."""
    length_ms = max(0, to_ms - from_ms)
    return [from_ms + length_ms * number // parts for number in range(1, count + 1)]
