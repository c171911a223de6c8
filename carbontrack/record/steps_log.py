"""A log that the job writes for people, in which steps are found by a pattern."""

from __future__ import annotations

import os
from collections.abc import Sequence

from carbontrack.record import log_lines
from carbontrack.record.clock import SetClock
from carbontrack.record.cpu_limit import OutOfTime, cpu_limit
from carbontrack.record.file_state import FileState
from carbontrack.record.follow import Follower
from carbontrack.record.log_lines import LogSteps, Match
from carbontrack.record.logged import Dropped, LoggedLines, quoted
from carbontrack.record.steps import unread

_PATTERN_CPU_S = 0.5  # beyond what ordinary lines take
_LINE_CPU_S = 2e-5
_MAX_TIMEOUTS = 3


class StepsLog:
    """Follows a log that the job writes for people, and finds steps in it by a pattern.

    What the file held `before` the run is passed over. Steps are dated by the clock of the
    recording.
    """

    def __init__(
        self,
        path: str,
        pattern: str,
        *,
        started_ms: int = 0,
        before: FileState | None = None,
        clock: SetClock | None = None,
    ) -> None:
        self._path = path
        self._timeouts = 0
        self._follower = Follower(path, started_ms=started_ms, before=before, clock=clock)
        self._steps = LogSteps(log_lines.compiled(pattern), started_ms=started_ms)

    @property
    def problem(self) -> str | None:
        """Why no more steps are read from it; None if they are."""
        if self._timeouts >= _MAX_TIMEOUTS:
            return "the pattern of --steps-from-log takes too long"
        return self._follower.problem

    def read(self, *, ended: bool = False) -> LoggedLines:
        """The steps since the last time."""
        if self._timeouts >= _MAX_TIMEOUTS:
            return LoggedLines()
        new = self._follower.read(ended=ended)
        matches, late = self._matches(new.lines)
        found = self._steps.read(
            matches, after_ms=new.after_ms, until_ms=new.until_ms, sets_ms=new.sets_ms
        )
        return found + LoggedLines(bad_lines=late) + unread(new)

    def _matches(self, lines: Sequence[str]) -> tuple[list[Match], Dropped]:
        """Those of the lines that match, and those that the pattern takes too long on."""
        matches: list[Match] = []
        late = Dropped()
        rest = iter(lines)
        while self._timeouts < _MAX_TIMEOUTS:
            line = ""
            try:
                with cpu_limit(_PATTERN_CPU_S + _LINE_CPU_S * len(lines)):
                    for line in rest:
                        if (match := self._steps.match(line)) is not None:
                            matches.append(match)
                break
            except OutOfTime:
                self._timeouts += 1
                late += Dropped(1, f"{quoted(line)!r} (the pattern takes too long)")
        return matches, late

    def trouble(self) -> str:
        """Why there are no steps from the log, if no problem was reported yet; else empty."""
        if self._steps.matched or self.problem:
            return ""
        name = os.path.basename(self._path)  # noqa: PTH119
        if self._follower.refusal:
            return f"no steps were read from {name}: {self._follower.refusal}"
        if not self._steps.lines:
            return f"no steps were read from {name}: nothing was written to it"
        first = quoted(self._steps.first_line)
        return (
            f"no line of the {self._steps.lines:,} of {name} matches --steps-from-log; the first: "
            f"{first!r}"
        )
