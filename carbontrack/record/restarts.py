"""The starts of a job's processes within one recording: a launcher restarts them, or a step number
falls back. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from carbontrack.ledger.recorded_rows import Event
from carbontrack.record.logged import MAX_RESTARTS, LoggedLines, LoggedStep
from carbontrack.vocabulary import EventKind


@dataclass(slots=True)
class _Process:
    """A process of one rank, or all of that rank where they do not say which they are."""

    restart: int  # of the launcher
    last_step: int
    falls: int  # how often the rank has begun again without the launcher's saying so


class Restarts:
    """Numbers each step's start of the processes, as `ledger.recorded_rows.Step.restart`.

    The number is the launcher's, where its workers know it (torchrun's do), and one more each time
    that the steps of a rank fall back. Processes that log side by side as one rank are not that.
    """

    def __init__(self, launcher: int = 0) -> None:
        """`launcher` is how often the launcher had restarted us, if it started the wrapper."""
        self._newest = launcher
        self._known: dict[tuple[int, int | None], _Process] = {}
        self._of_rank: dict[int, _Process] = {}  # the newest

    def take(self, logged: LoggedLines) -> LoggedLines:
        """The lines with their steps numbered, and an event for each start after the first."""
        if not logged.steps:
            return logged
        events: list[Event] = []
        steps = [self._numbered(one, events) for one in logged.steps]
        return replace(logged, steps=steps, events=[*logged.events, *events])

    def _numbered(self, logged: LoggedStep, events: list[Event]) -> LoggedStep:
        step, key = logged.step, (logged.rank, logged.pid)
        before = self._of_rank.get(logged.rank)
        process = self._known.get(key)
        if process is None or step.restart > process.restart:
            falls = 0
            if before is not None:
                fell = step.step < before.last_step and step.restart <= before.restart
                falls = before.falls + fell
            process = _Process(step.restart, step.step, falls)
            self._known[key] = self._of_rank[logged.rank] = process
        else:
            process.falls += step.step < process.last_step
            process.last_step = step.step
        number = min(process.restart + process.falls, MAX_RESTARTS)
        if number > self._newest:
            self._newest = number
            began_ms = step.time_ms if logged.began_ms is None else logged.began_ms
            what = f"the job began again at step {step.step:,}"
            data = {"restart": number, "step": step.step}
            at_ms = min(began_ms, step.time_ms)
            events.append(Event(at_ms, EventKind.RESTARTED, what, data=data))
        return replace(logged, step=replace(step, restart=number))


def launcher_restarts(environ_value: str) -> int:
    """How often torchrun had restarted its workers, of which the wrapper is one; 0 if unknown."""
    is_number = environ_value.isdecimal() and len(environ_value) < 10
    return min(int(environ_value), MAX_RESTARTS) if is_number else 0
