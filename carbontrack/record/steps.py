"""Reading what the job says of itself: the steps file or a log, as it grows."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from carbontrack.files import NotAFile, open_regular
from carbontrack.ledger.rows import Event, Step
from carbontrack.record.cpu_limit import OutOfTime, cpu_limit
from carbontrack.units import NS_PER_MS, now_ms

_MAX_BYTES_A_READ = 4 << 20  # a job that floods the file must not flood our memory
_MAX_BYTES_AT_END = 32 << 20
_MAX_LOG_LINE_BYTES = 8 << 10  # a pattern may take time that grows with the square of the line
_MAX_STEPS_LINE_BYTES = 256 << 10
_PATTERN_CPU_S = 0.5  # for the lines of one read
_MAX_TIMEOUTS = 3
_FLOATS = ("loss", "lr", "grad_norm", "tokens_per_s")


@dataclass(frozen=True, slots=True)
class Told:
    """What was read since the last time. `bad_lines` were not understood and are skipped."""

    steps: list[Step] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    model: dict[str, Any] = field(default_factory=dict)
    bad_lines: int = 0

    def __add__(self, other: Told) -> Told:
        return Told(
            self.steps + other.steps,
            self.events + other.events,
            {**self.model, **other.model},
            self.bad_lines + other.bad_lines,
        )


class _Follower:
    """Gives the complete lines that a growing file has gained; a missing file has none."""

    def __init__(self, path: str | None, *, max_line_bytes: int, since_ms: int = 0) -> None:
        self._path = path
        self._max_line_bytes = max_line_bytes
        self._offset = 0
        self.problem: str | None = None  # why it can never be read
        if path is not None:
            with suppress(OSError):
                before = os.stat(path)  # noqa: PTH116
                if before.st_mtime_ns < since_ms * NS_PER_MS:
                    self._offset = before.st_size  # an older run's, which this one appends to

    def lines(self, *, ended: bool = False) -> list[bytes]:
        """A progress bar's lines count too, which end in a carriage return; once the job has
        `ended`, so does what has no end.
        """
        if self._path is None:
            return []
        try:
            with os.fdopen(open_regular(self._path), "rb") as file:
                if os.fstat(file.fileno()).st_size < self._offset:
                    self._offset = 0  # written anew
                file.seek(self._offset)
                block = file.read(_MAX_BYTES_AT_END if ended else _MAX_BYTES_A_READ)
        except NotAFile:
            self.problem = f"{self._path} is not a regular file"
            self._path = None
            return []
        except OSError:
            return []
        length = 1 + max(block.rfind(b"\n"), block.rfind(b"\r"))
        if ended or (length == 0 and len(block) == _MAX_BYTES_A_READ):
            length = len(block)  # a line as long as this is none that we could wait for
        self._offset += length
        return [line[: self._max_line_bytes] for line in block[:length].splitlines()]


class StepsLog:
    """Follows a log that the job writes for people, and finds steps in it by a pattern.

    What the file held before `since_ms` is passed over.

    The named groups of the pattern are those of `carbontrack.log_step`; commas in a number separate
    thousands.
    """

    def __init__(self, path: str | None, pattern: str | None, *, since_ms: int = 0) -> None:
        self._pattern = re.compile(pattern) if pattern else None
        self._follower = _Follower(path, max_line_bytes=_MAX_LOG_LINE_BYTES, since_ms=since_ms)
        self._timeouts = 0
        self._slow: str | None = None

    @property
    def problem(self) -> str | None:
        """Why no more steps are read from it; None if they are."""
        return self._slow or self._follower.problem

    def read(self, *, ended: bool = False) -> Told:
        lines = self._follower.lines(ended=ended)
        if self._pattern is None or not lines:
            return Told()
        steps: list[Step] = []
        bad_lines = 0
        try:
            with cpu_limit(_PATTERN_CPU_S):
                for line in lines:
                    bad_lines += not self._find(line, steps)
        except OutOfTime:
            bad_lines += 1
            self._timeouts += 1
            if self._timeouts >= _MAX_TIMEOUTS:
                self._slow = "the pattern of --steps-from-log takes too long"
                self._pattern = None
        return Told(steps=steps, bad_lines=bad_lines)

    def _find(self, line: bytes, steps: list[Step]) -> bool:
        """Append the line's step, if it has one; False if its values are invalid."""
        match = self._pattern.search(line.decode(errors="replace")) if self._pattern else None
        if match is None:
            return True
        found = {k: v.replace(",", "") for k, v in match.groupdict().items() if v is not None}
        try:
            steps.append(_step(found))
        except (KeyError, ValueError, OverflowError):
            return False
        return True


class StepsFile:
    """Follows the steps file that the job writes for us."""

    def __init__(self, path: str | None) -> None:
        self._follower = _Follower(path, max_line_bytes=_MAX_STEPS_LINE_BYTES)

    @property
    def problem(self) -> str | None:
        """Why no more steps are read from it; None if they are."""
        return self._follower.problem

    def read(self, *, ended: bool = False) -> Told:
        return parse(self._follower.lines(ended=ended))


def parse(lines: list[bytes]) -> Told:
    """Sort the lines into steps, events and the model card."""
    steps: list[Step] = []
    events: list[Event] = []
    model: dict[str, Any] = {}
    bad_lines = 0
    for line in lines:
        try:
            told = json.loads(line)
            if "event" in told:  # before "step": an event may say at which step it was
                events.append(_event(told))
            elif "step" in told:
                steps.append(_step(told))
            elif "model" in told:
                model.update(told["model"])
            else:
                bad_lines += 1
        except (ValueError, TypeError, AttributeError, OverflowError):
            bad_lines += 1
    return Told(steps, events, model, bad_lines)


def _step(told: Mapping[str, Any]) -> Step:
    rest = dict(told)
    number = _whole(rest.pop("step"))
    time_ms = _whole(rest.pop("time_ms", 0)) or now_ms()
    tokens = rest.pop("tokens", None)
    known = {name: None if (v := rest.pop(name, None)) is None else float(v) for name in _FLOATS}
    tokens = None if tokens is None else _whole(tokens)
    return Step(step=number, time_ms=time_ms, tokens=tokens, extra=rest, **known)


def _event(told: Mapping[str, Any]) -> Event:
    rest = dict(told)
    kind = str(rest.pop("event"))
    time_ms = _whole(rest.pop("time_ms", 0)) or now_ms()
    return Event(time_ms=time_ms, kind=kind, message=str(rest.pop("message", "")), data=rest)


def _whole(value: Any) -> int:
    """A whole number that a ledger can hold. Raises ValueError, TypeError or OverflowError."""
    number = int(value)
    if number.bit_length() > 63:
        raise ValueError(f"{number} is out of range")
    return number
