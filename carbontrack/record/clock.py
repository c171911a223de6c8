"""The clock that a recording goes on by, whatever that of the system is set to meanwhile: windows,
and what the job logs, are dated by the clock as it was when it began.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carbontrack.units import MS_PER_S, NS_PER_MS, monotonic_ns, wall_ahead_ns, wall_ms
from carbontrack.vocabulary import EventKind

if TYPE_CHECKING:
    from carbontrack.ledger.recorded_rows import Event

NEWS_MS = 500
"""A clock that moved by less was slewed, or read in a bad moment."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Wall-clock time anchored once: later steps of the system clock do not move the windows."""

    anchor_ms: int
    anchor_ns: int

    @classmethod
    def now(cls) -> Clock:
        """The system's as it is now."""
        at_ns = monotonic_ns()
        return cls(wall_ms(at_ns), at_ns)

    def wall_ns(self, monotonic_ns: int) -> int:
        return self.anchor_ms * NS_PER_MS + monotonic_ns - self.anchor_ns

    def wall_ms(self, monotonic_ns: int) -> int:
        """The same in ms since the epoch."""
        return self.wall_ns(monotonic_ns) // NS_PER_MS

    def set_ms(self, ahead_ns: int) -> int:
        """How far the system's clock was set since, if now it is so far ahead of the monotonic
        one.
        """
        return (ahead_ns - self.wall_ns(0)) // NS_PER_MS


class SetClock:
    """How far the system's clock has been set since a recording began."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.sets_ms: Sequence[int] = (0,)
        """At the last look; then at the one before, if it was set in between: what was written
        since may be dated by either clock.
        """

    @property
    def set_ms(self) -> int:
        """At the last look."""
        return self.sets_ms[0]

    def now_ms(self) -> int:
        """By the clock of the recording."""
        return self._clock.wall_ms(monotonic_ns())

    def look(self) -> list[Event]:
        """An event if it was set since the last call."""
        at_ns, ahead_ns = monotonic_ns(), wall_ahead_ns()
        set_ms = self._clock.set_ms(ahead_ns)
        moved_ms = set_ms - self.set_ms
        if abs(moved_ms) <= NEWS_MS:
            self.sets_ms = (self.set_ms,)
            return []
        from carbontrack.ledger.recorded_rows import Event  # a tracked block needs none

        self.sets_ms = (set_ms, self.set_ms)
        way = "forward" if moved_ms > 0 else "back"
        what = (
            f"the clock here was set {way} by {abs(moved_ms) / MS_PER_S:,.1f} s; this run goes on"
        )
        return [
            Event(
                self._clock.wall_ms(at_ns),
                EventKind.CLOCK_SET,
                f"{what} by the time before",
                data={"set_ms": set_ms},
            )
        ]
