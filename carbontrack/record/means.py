"""Powers that are means over a span before their stamp, and what the newest of them still holds.

Such a power is placed in the middle of its span, so half a span before the newest stamp is left
over. The newest mean knows the energy of its whole span; less that of the half that is placed, it
is the energy of the half that is not.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import NamedTuple


class _Mean(NamedTuple):
    at_ns: int  # the middle of its span
    span_ns: int
    power_w: float

    @property
    def stamp_ns(self) -> int:
        return self.at_ns + self.span_ns // 2


class Means:
    """The means of the last two spans, in order."""

    def __init__(self) -> None:
        self._means: deque[_Mean] = deque()

    def add(self, at_ns: int, span_ns: int, power_w: float) -> None:
        """The next mean, with the middle of its span."""
        self._means.append(_Mean(at_ns, span_ns, power_w))
        while self._means[0].at_ns < at_ns - 2 * span_ns:
            self._means.popleft()

    def clear(self) -> None:
        """Forget them: the next spans do not overlap."""
        self._means.clear()

    def rest(self) -> tuple[int, float] | None:
        """The newest stamp and the power of the half span before it; None if there are none."""
        if not self._means:
            return None
        newest = self._means[-1]
        begin_ns, covered_ns = newest.stamp_ns - newest.span_ns, 0
        rest_w_ns = newest.power_w * newest.span_ns
        for a, b in pairwise(self._means):
            part_ns = max(b.at_ns - max(a.at_ns, begin_ns), 0)
            covered_ns += part_ns
            rest_w_ns -= (a.power_w + b.power_w) / 2 * part_ns
        half_ns = newest.stamp_ns - newest.at_ns
        known = covered_ns >= newest.at_ns - begin_ns
        return newest.stamp_ns, max(rest_w_ns, 0.0) / half_ns if known else newest.power_w
