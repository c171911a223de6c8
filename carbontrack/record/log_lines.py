"""Steps in a log that is written for people, found by a pattern with named groups. Pure.

A number may have a suffix (1.258B) or commas between thousands, but for a loss, a learning rate or
a gradient norm, where a comma is more likely a decimal one. What matches and is not understood is
counted, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from carbontrack.errors import CarbontrackError
from carbontrack.importers.training_logs import NAMED
from carbontrack.record.logged import MAX_TOKENS, LoggedLines, LoggedStep, Tally, quoted
from carbontrack.record.step_lines import CLOCK_SLACK_MS, step_of
from carbontrack.record.step_times import dated, spread
from carbontrack.record.step_values import Refused, anything, count, number, whole

GROUPS = (
    "step",
    "loss",
    "lr",
    "grad_norm",
    "tokens",
    "tokens_total",
    "tokens_per_s",
    "rank",
    "time",
)
_SEARCHED = 8192  # characters of a line: a pattern can take long on more
_ALIKE = 0.8  # how much a group's name has to be like one of ours to be a slip of it
_PRECISE = ("loss", "lr", "grad_norm")
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_AROUND = " \t,;|()[]{}'\""  # a pattern of \S+ takes along
_COUNT = re.compile(
    r"([+-]?(?:[1-9]\d{0,2}(?:,\d{3})+|\d+)(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*([kKMGBT]?)", re.ASCII
)
_SUFFIX = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9, "T": 10**12}


def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern of --steps-from-log, or the one of that name. Raises CarbontrackError for one
    that can find no steps, or whose group is called almost as one of `GROUPS`.
    """
    if not pattern:
        raise CarbontrackError("--steps-from-log is empty: is a variable unset?")
    given = f"--steps-from-log {quoted(pattern)!r}"
    try:
        found = re.compile(NAMED.get(pattern, pattern))
    except RecursionError:
        raise CarbontrackError(f"{given}: its groups are nested too deeply.") from None
    except (re.error, OverflowError) as error:
        raise CarbontrackError(f"{given}: not a pattern: {error}.") from error
    for name in found.groupindex:
        if name not in GROUPS and (meant := _meant(name)):
            raise CarbontrackError(
                f"{given}: unknown group {name!r}.", hint=f"Write (?P<{meant}>…)."
            )
    if not found.groupindex:
        raise CarbontrackError(
            f"{given} has no named group.",
            hint=rf"Write (?P<step>\d+) and (?P<loss>\S+), or one of {', '.join(NAMED)}.",
        )
    return found


def _meant(name: str) -> str | None:
    from difflib import SequenceMatcher

    if swapped := [known for known in GROUPS if sorted(known) == sorted(name.lower())]:
        return swapped[0]
    likeness = {known: SequenceMatcher(None, name.lower(), known).ratio() for known in GROUPS}
    best = max(likeness, key=likeness.__getitem__)
    return best if likeness[best] >= _ALIKE else None


Match = tuple[str, dict[str, str]]
"""A line, and the groups of the pattern that took part in its match."""


class LogSteps:
    """Finds the steps in the lines of one log.

    A step whose values stand on several lines is put together: a match without a step belongs to
    the step before it, or, where the values come first, to the one after. Without a group `step`
    the matches are counted.
    """

    def __init__(self, pattern: re.Pattern[str], *, started_ms: int = 0) -> None:
        self._pattern = pattern
        self._started_ms = started_ms
        self._counts_matches = "step" not in pattern.groupindex
        self._matches = 0
        self._open: dict[str, Any] = {}  # values of the step that may get more of them
        self._open_ms = 0
        self._is_new = False  # whether they are more than was taken
        self.lines = 0
        self.first_line = ""

    @property
    def matched(self) -> bool:
        return self._matches > 0

    def read(
        self,
        matches: Sequence[Match],
        *,
        after_ms: int,
        until_ms: int,
        sets_ms: Sequence[int] = (0,),
    ) -> LoggedLines:
        """The steps of lines that were written after `after_ms` and until `until_ms`, by a clock
        that may be ahead of the one of these times (see `step_lines.parse`).
        """
        tally = Tally()
        within = (self._started_ms - CLOCK_SLACK_MS, until_ms + CLOCK_SLACK_MS)
        by_ours = partial(dated, sets_ms=sets_ms, after_ms=after_ms, until_ms=until_ms)
        now_ms = until_ms + sets_ms[0]
        own = [_own_time_ms(found, now_ms, by_ours, within, tally) for _, found in matches]
        times_ms = spread(own, after_ms=after_ms, until_ms=until_ms)
        steps: list[LoggedStep] = []
        for (line, found), time_ms in zip(matches, times_ms, strict=True):
            try:
                values = {name: _value(name, text) for name, text in found.items()}
            except ValueError as error:
                tally.line(line, str(error))
                continue
            if not self._open.keys().isdisjoint(values):
                steps += self._take_open()
                self._open, self._open_ms = {}, time_ms
            self._open_ms = self._open_ms if self._open else time_ms
            self._open |= values
            self._is_new = True
        steps += self._take_open()  # once more if it gets more values: its newest line counts
        return LoggedLines(steps, (), {}, tally.bad_lines, tally.bad_values)

    def _take_open(self) -> list[LoggedStep]:
        """The open step as it is now, unless that was taken before."""
        if not self._is_new or "step" not in self._open:
            return []
        self._is_new = False
        values = dict(self._open)
        return [step_of(values.pop("step"), self._open_ms, values, lambda name, why: None)]

    def match(self, line: str) -> Match | None:
        """A line that the pattern matches. It may take long: some patterns never end."""
        if line.strip():
            self.lines += 1
            self.first_line = self.first_line or line
        line = line[:_SEARCHED]
        match = self._pattern.search(_ANSI.sub("", line) if "\x1b" in line else line)
        if match is None:
            return None
        self._matches += 1
        found = {name: value for name, value in match.groupdict().items() if value is not None}
        if self._counts_matches:
            found["step"] = str(self._matches)
        return line, found


def _own_time_ms(
    found: dict[str, str],
    now_ms: int,
    by_ours: Callable[[int], int],
    within: tuple[int, int],
    tally: Tally,
) -> int | None:
    """The log's own time of a line, by our clock, if it is one of this run; `now_ms` is by its."""
    text = found.pop("time", None)
    if text is None:
        return None
    from carbontrack.record.log_clock import time_ms_of  # few logs need it, and datetime

    time_ms = time_ms_of(text, now_ms=now_ms)
    if time_ms is not None and within[0] <= (at_ms := by_ours(time_ms)) <= within[1]:
        return at_ms
    tally.value(f"time {quoted(text)!r} is not within the run")
    return None


_CHECKS: Mapping[str, Callable[[float], Any]] = {
    "step": whole,
    "rank": count,
    "tokens": lambda value: count(value, at_most=MAX_TOKENS),
    "tokens_total": count,
    "tokens_per_s": number,
}


def _value(name: str, text: str) -> Any:
    """A value as what it has to be. Raises ValueError, which says why it is not."""
    text = text.strip(_AROUND)
    try:
        if name in _CHECKS:
            return _CHECKS[name](_amount(text))
        if name in _PRECISE:
            return number(text)
    except ValueError as error:
        raise Refused(f"{name} {quoted(text)!r} {error}") from error
    try:
        return number(text)
    except ValueError:
        return anything(text)


def _amount(text: str) -> float:
    """A count as people write it: 1,024, 51486.0, 1.258B. Raises Refused for anything else."""
    match = _COUNT.fullmatch(text.strip())
    if match is None:
        raise Refused("is not a number")
    plain = match[1].replace(",", "")
    if not match[2] and plain.lstrip("+-").isdigit():
        return int(plain)
    value = round(float(plain) * _SUFFIX[match[2]], 6)
    return int(value) if value.is_integer() else value
