"""The steps file, which the job writes for us."""

from __future__ import annotations

from carbontrack.record.clock import SetClock
from carbontrack.record.follow import Follower, Lines
from carbontrack.record.logged import Dropped, LoggedLines


class StepsFile:
    """Follows the steps file; what it says is dated by the clock of the recording."""

    def __init__(
        self,
        path: str | None,
        descriptor: int | None = None,
        *,
        started_ms: int = 0,
        clock: SetClock | None = None,
    ) -> None:
        self._follower = Follower(path, started_ms=started_ms, descriptor=descriptor, clock=clock)
        self._started_ms = started_ms

    @property
    def problem(self) -> str | None:
        """Why no more steps are read from it; None if they are."""
        return self._follower.problem

    def read(self, *, ended: bool = False) -> LoggedLines:
        """What the job logged since the last time."""
        new = self._follower.read(ended=ended)
        if not new.lines:
            return unread(new)
        from carbontrack.record.step_lines import parse  # many a job logs none

        found = parse(
            new.lines,
            after_ms=new.after_ms,
            until_ms=new.until_ms,
            started_ms=self._started_ms,
            sets_ms=new.sets_ms,
        )
        return found + unread(new)


def unread(new: Lines) -> LoggedLines:
    """What of a flood was not read, as a line that was dropped."""
    if not new.unread_bytes:
        return LoggedLines()
    return LoggedLines(bad_lines=Dropped(1, f"the last {new.unread_bytes:,} bytes were not read"))
