"""What the job logs while it runs: the steps file that it writes for us, or a log for people."""

from __future__ import annotations

import os
from collections.abc import Sequence

from carbontrack.record import log_lines
from carbontrack.record.cpu_limit import OutOfTime, cpu_limit
from carbontrack.record.file_state import FileState
from carbontrack.record.follow import Follower, Lines
from carbontrack.record.log_lines import LogSteps, Match
from carbontrack.record.logged import Dropped, LoggedLines, quoted
from carbontrack.record.step_lines import parse

_PATTERN_CPU_S = 0.5  # beyond what ordinary lines take
_LINE_CPU_S = 2e-5
_MAX_TIMEOUTS = 3


class StepsFile:
    """Follows the steps file."""

    def __init__(
        self, path: str | None, descriptor: int | None = None, *, started_ms: int = 0
    ) -> None:
        self._follower = Follower(path, started_ms=started_ms, descriptor=descriptor)
        self._started_ms = started_ms

    @property
    def problem(self) -> str | None:
        """Why no more steps are read from it; None if they are."""
        return self._follower.problem

    def read(self, *, ended: bool = False) -> LoggedLines:
        """What the job logged since the last time."""
        new = self._follower.read(ended=ended)
        found = parse(
            new.lines,
            after_ms=new.after_ms,
            until_ms=new.until_ms,
            started_ms=self._started_ms,
        )
        return found + _unread(new)


class StepsLog:
    """Follows a log that the job writes for people, and finds steps in it by a pattern.

    What the file held `before` the run is passed over.
    """

    def __init__(
        self,
        path: str | None,
        pattern: str | None,
        *,
        started_ms: int = 0,
        before: FileState | None = None,
    ) -> None:
        self._path = path if pattern else None
        self._timeouts = 0
        self._follower = Follower(self._path, started_ms=started_ms, before=before)
        self._steps = (
            LogSteps(log_lines.compiled(pattern), started_ms=started_ms) if pattern else None
        )

    @property
    def problem(self) -> str | None:
        """Why no more steps are read from it; None if they are."""
        if self._timeouts >= _MAX_TIMEOUTS:
            return "the pattern of --steps-from-log takes too long"
        return self._follower.problem

    def read(self, *, ended: bool = False) -> LoggedLines:
        """The steps since the last time."""
        if self._steps is None or self._timeouts >= _MAX_TIMEOUTS:
            return LoggedLines()
        new = self._follower.read(ended=ended)
        matches, late = self._matches(self._steps, new.lines)
        found = self._steps.read(matches, after_ms=new.after_ms, until_ms=new.until_ms)
        return found + LoggedLines(bad_lines=late) + _unread(new)

    def _matches(self, steps: LogSteps, lines: Sequence[str]) -> tuple[list[Match], Dropped]:
        """Those of the lines that match, and those that the pattern takes too long on."""
        matches: list[Match] = []
        late = Dropped()
        rest = iter(lines)
        while self._timeouts < _MAX_TIMEOUTS:
            line = ""
            try:
                with cpu_limit(_PATTERN_CPU_S + _LINE_CPU_S * len(lines)):
                    for line in rest:
                        if (match := steps.match(line)) is not None:
                            matches.append(match)
                break
            except OutOfTime:
                self._timeouts += 1
                late += Dropped(1, f"{quoted(line)!r} (the pattern takes too long)")
        return matches, late

    def trouble(self) -> str:
        """Why there are no steps from the log, if no problem was reported yet; else empty."""
        if self._steps is None or self._steps.matched or self.problem:
            return ""
        name = os.path.basename(self._path or "")  # noqa: PTH119
        if not self._steps.lines:
            return f"no steps were read from {name}: nothing was written to it"
        first = quoted(self._steps.first_line)
        return (
            f"no line of the {self._steps.lines:,} of {name} matches --steps-from-log; the first: "
            f"{first!r}"
        )


def _unread(new: Lines) -> LoggedLines:
    if not new.unread_bytes:
        return LoggedLines()
    return LoggedLines(bad_lines=Dropped(1, f"the last {new.unread_bytes:,} bytes were not read"))
