"""When the system's clock is set while a run goes on: its windows are dated by the clock as it was
when it began, and so is what the job logs then.
"""

from __future__ import annotations

from dataclasses import replace

from carbontrack.ledger.recorded_rows import Event
from carbontrack.record.logged import LoggedLines, LoggedStep
from carbontrack.record.reduce import Clock
from carbontrack.units import MS_PER_S, monotonic_ns, wall_ahead_ns
from carbontrack.vocabulary import EventKind

_NEWS_MS = 500


class SetClock:
    """How far the system's clock has been set since a recording began."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.set_ms = 0  # at the last look

    def look(self) -> list[Event]:
        """An event if it was set since the last call."""
        at_ns, ahead_ns = monotonic_ns(), wall_ahead_ns()
        set_ms = self._clock.set_ms(ahead_ns)
        moved_ms = set_ms - self.set_ms
        if abs(moved_ms) <= _NEWS_MS:
            return []
        self.set_ms = set_ms
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

    def dated(self, logged: LoggedLines) -> LoggedLines:
        """What was logged by the system's clock, by that of the recording."""
        if not self.set_ms:
            return logged
        return replace(
            logged,
            steps=[self._step(one) for one in logged.steps],
            events=[replace(one, time_ms=one.time_ms - self.set_ms) for one in logged.events],
        )

    def _step(self, logged: LoggedStep) -> LoggedStep:
        began_ms = logged.began_ms
        return replace(
            logged,
            step=replace(logged.step, time_ms=logged.step.time_ms - self.set_ms),
            began_ms=None if began_ms is None else began_ms - self.set_ms,
        )
