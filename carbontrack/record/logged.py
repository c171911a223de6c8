"""What was read of what a job logs, and what of it was dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from carbontrack.ledger.recorded_rows import Event, Step

MAX_TOKENS = 10**12  # of one step; the sums of ten million such steps are still 64 bits
MAX_RESTARTS = 10**6  # of a job's processes; the ledger's column and our table have 32 bits
_SHOWN = 160  # characters of a line


@dataclass(frozen=True, slots=True)
class LoggedStep:
    """A step with the rank and the process that logged it, when that began, and the job's
    cumulative tokens; None if unknown.
    """

    step: Step
    rank: int = 0
    tokens_total: int | None = None
    pid: int | None = None
    began_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Dropped:
    """How many there were, and the first of them."""

    count: int = 0
    first: str = ""

    def __add__(self, other: Dropped) -> Dropped:
        return Dropped(self.count + other.count, self.first or other.first)


@dataclass(frozen=True, slots=True)
class LoggedLines:
    """What was read since the last time, in the order in which it was logged."""

    steps: Sequence[LoggedStep] = ()
    events: Sequence[Event] = ()
    model: Mapping[str, Any] = field(default_factory=dict)
    bad_lines: Dropped = Dropped()  # not understood
    bad_values: Dropped = Dropped()  # of lines whose rest was taken
    lost_lines: int = 0  # that the job could not write

    def __add__(self, other: LoggedLines) -> LoggedLines:
        return LoggedLines(
            [*self.steps, *other.steps],
            [*self.events, *other.events],
            {**self.model, **other.model},
            self.bad_lines + other.bad_lines,
            self.bad_values + other.bad_values,
            self.lost_lines + other.lost_lines,
        )


def quoted(line: str) -> str:
    """A line as it may stand in a message: short, and without anything that a terminal obeys."""
    text = "".join(sign if sign.isprintable() else " " for sign in line[: 2 * _SHOWN]).strip()
    return f"{text[:_SHOWN]}…" if len(text) > _SHOWN else text


class Tally:
    """Counts what is dropped while lines are read."""

    def __init__(self) -> None:
        self.bad_lines = Dropped()
        self.bad_values = Dropped()

    def line(self, line: str, why: str = "") -> None:
        """A line that was not understood."""
        self.bad_lines += Dropped(1, f"{quoted(line)!r}{f' ({why})' if why else ''}")

    def value(self, what: str, count: int = 1) -> None:
        """A value that was dropped, by name and reason."""
        self.bad_values += Dropped(count, what)
