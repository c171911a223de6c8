"""The steps file's lines: JSON objects that are steps, events or the model card. Pure.

A value that cannot be is dropped, a line that cannot be understood is passed over, and both are
counted: nothing that a job writes here can end the recording.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from carbontrack.ledger.recorded_rows import Event, Step
from carbontrack.record import step_values
from carbontrack.record.logged import (
    MAX_RESTARTS,
    MAX_TOKENS,
    LoggedLines,
    LoggedStep,
    Tally,
    quoted,
)
from carbontrack.record.step_times import dated, spread

CLOCK_SLACK_MS = 60_000  # how far the clock of a job's host may be from ours
_FLOATS = ("loss", "lr", "grad_norm", "tokens_per_s")
_MAX_RANK = (1 << 31) - 1
# What the Python helper says of a line: names of values that it dropped, lines it could not write.
_DROPPED, _LOST = "_dropped", "_lost"
_PROCESS, _BEGAN = "_pid", "_began_ms"  # and in a step's line, which process that is


def parse(
    lines: Sequence[str],
    *,
    after_ms: int,
    until_ms: int,
    started_ms: int = 0,
    sets_ms: Sequence[int] = (0,),
) -> LoggedLines:
    """Lines that were written after `after_ms` and until `until_ms`, in a run that began at
    `started_ms`: a line without a time of its own in the run has one between those around it.

    The clock of the job is ahead of that of these times by the first of `sets_ms`, or was so by
    another of them when a line was written (`clock.SetClock`).
    """
    tally = Tally()
    logged = [(line, found) for line in lines if (found := _object(line, tally)) is not None]
    within = (started_ms - CLOCK_SLACK_MS, until_ms + CLOCK_SLACK_MS)
    by_ours = partial(dated, sets_ms=sets_ms, after_ms=after_ms, until_ms=until_ms)
    own = [_own_time_ms(found, by_ours, within, tally) for _, found in logged]
    times_ms = spread(own, after_ms=after_ms, until_ms=until_ms)
    steps: list[LoggedStep] = []
    events: list[Event] = []
    model: dict[str, Any] = {}
    lost = 0
    for (line, found), time_ms in zip(logged, times_ms, strict=True):
        lost += _said_by_helper(found, tally)
        try:
            if "event" in found:  # before "step": an event may say at which step it was
                events.append(_event(found, time_ms, tally))
            elif "step" in found:
                step = _step(found, time_ms, tally)
                if sets_ms[0] and step.began_ms is not None:
                    step = replace(step, began_ms=step.began_ms - sets_ms[0])
                steps.append(step)
            else:
                model |= _model(found["model"], tally)
        except step_values.Refused as error:
            tally.line(line, str(error))
    return LoggedLines(steps, events, model, tally.bad_lines, tally.bad_values, lost)


def step_of(
    number: int, time_ms: int, values: Mapping[str, Any], drop: Callable[[str, str], None]
) -> LoggedStep:
    """A step of its logged values; those that cannot be are given to `drop`, with the reason."""
    rest = dict(values)

    def take(name: str, read: Callable[[Any], Any]) -> Any:
        value = rest.pop(name, None)
        try:
            return None if value is None else read(value)
        except ValueError as error:
            drop(name, str(error))
            return None

    floats = {name: take(name, step_values.number) for name in _FLOATS}
    tokens = take("tokens", lambda v: step_values.count(v, at_most=MAX_TOKENS))
    total = take("tokens_total", step_values.count)
    rank = take("rank", lambda v: step_values.count(v, at_most=_MAX_RANK))
    restart = take("restart", lambda v: step_values.count(v, at_most=MAX_RESTARTS))
    pid, began_ms = take(_PROCESS, step_values.count), take(_BEGAN, step_values.count)
    extra = {name: take(name, step_values.anything) for name in list(rest)}
    known = {name: value for name, value in extra.items() if value is not None}
    step = Step(
        *(number, time_ms),
        **floats,
        tokens=tokens,
        extra=known,
        restart=restart or 0,
        rank=rank,
    )
    return LoggedStep(step, rank or 0, total, pid, began_ms)


def _object(line: str, tally: Tally) -> dict[str, Any] | None:
    if not line.strip():
        return None
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict) and not {"event", "step", "model"}.isdisjoint(found):
        return found
    tally.line(line)
    return None


def _own_time_ms(
    found: dict[str, Any], by_ours: Callable[[int], int], within: tuple[int, int], tally: Tally
) -> int | None:
    """The time that a line has, by our clock, if it is one of this run."""
    value = found.pop("time_ms", None)
    if value is None:
        return None
    with suppress(ValueError, OverflowError):
        time_ms = by_ours(step_values.whole(int(value) if isinstance(value, float) else value))
        if within[0] <= time_ms <= within[1]:
            return time_ms
    tally.value(f"time_ms {quoted(repr(value)[:40])} is not within the run")
    return None


def _said_by_helper(found: dict[str, Any], tally: Tally) -> int:
    """Count the values that the helper dropped; how many lines it could not write."""
    dropped, lost = found.pop(_DROPPED, None), found.pop(_LOST, 0)
    with suppress(TypeError, ValueError):
        name, count = dropped
        where = f"step {found['step']}" if "step" in found else found.get("event", "the model card")
        tally.value(f"{quoted(str(name))} of {quoted(str(where))}", step_values.count(count))
    try:
        return step_values.count(lost)
    except ValueError:
        return 0


def _step(found: dict[str, Any], time_ms: int, tally: Tally) -> LoggedStep:
    try:
        number = step_values.whole(found.pop("step"))
    except ValueError as error:
        raise step_values.Refused(f"the step {error}") from error
    return step_of(
        number, time_ms, found, lambda name, why: tally.value(f"{name} of step {number} {why}")
    )


def _event(found: dict[str, Any], time_ms: int, tally: Tally) -> Event:
    kind = step_values.text(found.pop("event"))
    message = found.pop("message", None)
    if message is not None and not isinstance(message, str):
        found["message"], message = message, None
    return Event(
        time_ms=time_ms,
        kind=kind,
        message=step_values.text(message or ""),
        data=_checked(found, f"event {quoted(kind)}", tally),
    )


def _model(card: Any, tally: Tally) -> dict[str, Any]:
    if not isinstance(card, dict):
        raise step_values.Refused("the model card is not an object")
    counts = {name: card[name] for name in _COUNTS if card.get(name) is not None}
    rest = {name: value for name, value in card.items() if name not in counts}
    return _checked(rest, "the model card", tally) | _checked(
        counts, "the model card", tally, step_values.above_zero
    )


_COUNTS = ("parameters", "planned_tokens")


def _checked(
    values: Mapping[str, Any],
    of: str,
    tally: Tally,
    check: Callable[[Any], Any] = lambda _: None,
) -> dict[str, Any]:
    """The values that can be stored, each by its own."""
    found = {}
    for name, value in values.items():
        try:
            check(value)
            found[name] = step_values.anything(value)
        except ValueError as error:
            tally.value(f"{quoted(name)} of {of} {error}")
    return found
