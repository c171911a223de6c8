"""The steps of a training's log that is complete already, joined to a run by time."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from carbontrack.errors import CarbontrackError
from carbontrack.importers.clock import Clock, utc_ms
from carbontrack.importers.model import Rejected
from carbontrack.importers.source import Source
from carbontrack.importers.training_logs import NAMED, json_steps, named_for
from carbontrack.ledger.recorded_rows import Step
from carbontrack.record import step_lines
from carbontrack.record.log_lines import LogSteps, Match
from carbontrack.record.logged import LoggedLines
from carbontrack.record.step_table import StepTable


@dataclass(frozen=True, slots=True)
class PastSteps:
    """The steps of a log within a run, and what people have to know of them."""

    steps: Sequence[Step]
    notes: Sequence[str]


def steps_within(source: Source, tz: str | None, *, started_ms: int, ended_ms: int) -> PastSteps:
    """The steps of a log that were done within a run. Those of a log without times lie evenly
    over it.

    Raises CarbontrackError for a log of no known training, or with none of its times in the run.
    """
    text = source.text()
    if (found := json_steps(text)) is not None:
        lines = [json.dumps(step) for step in found]
        logged = step_lines.parse(
            lines, after_ms=started_ms, until_ms=ended_ms, started_ms=started_ms
        )
        return _past(source, logged, ["a JSON of steps"], timed=0)
    lines = text.split("\n")
    name = named_for(lines)
    if name is None:
        raise CarbontrackError(
            f"--steps {source.name}: no known training writes such a log.",
            hint=f"Known: {', '.join(NAMED)}, trainer_state.json.",
        )
    reader = LogSteps(re.compile(NAMED[name]), started_ms=started_ms)
    matches = [match for line in lines if (match := reader.match(line)) is not None]
    within, outside = _within(source, matches, tz, started_ms, ended_ms)
    if not within:
        raise CarbontrackError(
            f"--steps {source.name}: none of its {len(matches):,} steps is within the run.",
            hint="Is --tz that of both files?",
        )
    timed = sum("time" in values for _, values in within)
    logged = reader.read(within, after_ms=started_ms, until_ms=ended_ms)
    notes = [f"a log of {name}"]
    if outside:
        notes.append(f"{outside:,} of its steps were before or after the run, and are left out")
    return _past(source, logged, notes, timed)


def _within(
    source: Source, matches: Sequence[Match], tz: str | None, started_ms: int, ended_ms: int
) -> tuple[list[Match], int]:
    """The matches with their times as ms of the epoch, and how many were outside of the run."""
    clock = Clock(source.name, tz)
    within: list[Match] = []
    for line, values in matches:
        if "time" not in values:
            within.append((line, values))
            continue
        try:
            time_ms = utc_ms(clock.read(values["time"]))
        except Rejected:
            continue
        if started_ms <= time_ms <= ended_ms:
            within.append((line, {**values, "time": str(time_ms)}))
    return within, len(matches) - len(within)


def _past(source: Source, logged: LoggedLines, notes: list[str], timed: int) -> PastSteps:
    table = StepTable()
    last = {step.step: step for step in table.take(logged.steps)}
    if not last:
        raise CarbontrackError(f"--steps {source.name}: it has no step with a loss.")
    if not timed:
        notes.append("it has no times: its steps lie evenly over the run")
    dropped = logged.bad_lines + logged.bad_values + table.dropped
    if dropped.count:
        notes.append(
            f"{dropped.count:,} of its lines or values were not taken, the first: {dropped.first}"
        )
    return PastSteps(list(last.values()), notes)
