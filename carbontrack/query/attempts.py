"""The attempts at a run, read from a ledger: their nodes, energy and lost work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from carbontrack.account.attempts import (
    KEPT,
    LOST,
    Attempt,
    Starts,
    list_attempts,
    name_of,
    timeline_of,
)
from carbontrack.account.phases import usages_by_phase
from carbontrack.account.result import sum_of
from carbontrack.account.split import RunRecord
from carbontrack.ledger.rows import Run, Usage
from carbontrack.query.phases import Windows, affordable_level
from carbontrack.units import J_PER_KWH, now_ms

if TYPE_CHECKING:
    from carbontrack.ledger.imported import Connection


@dataclass(frozen=True, slots=True)
class Tried:
    """An attempt with what its devices used, before PUE; None if unknown."""

    attempt: Attempt
    usages: tuple[Usage, ...]  # of each device and hour
    energy_kwh: float | None
    lost_kwh: float | None


def attempts_of(connection: Connection, run: Run) -> list[Attempt]:
    """The attempts at a run, in order, without their energy."""
    from carbontrack.ledger import read, run_steps

    recordings = read.recordings(connection, run)
    began, first = run_steps.restarts(connection, run), run_steps.first_steps(connection, run)
    starts = {one.key: Starts(began.get(one.key, {}), first.get(one.key, {})) for one in recordings}
    return list_attempts(
        recordings,
        starts,
        partial(run_steps.last_step_below, connection),
        nodes_expected=run.nodes_expected,
        now_ms=now_ms(),
    )


def tried(connection: Connection, run: Run) -> list[Tried]:
    """The attempts at a run with what each used; they add up to it."""
    attempts = attempts_of(connection, run)
    return [
        one
        for _, together in groupby(attempts, lambda attempt: attempt.keys)
        for one in _with_energy(connection, run, list(together))
    ]


def lost_of(connection: Connection, run: Run) -> float | None:
    """What the work that a run lost had used, in kWh of its devices before PUE; None if unknown,
    and of a run of one attempt.
    """
    from carbontrack.ledger import read, run_steps

    if len(read.recordings(connection, run)) < 2 and not run_steps.restarts(connection, run):
        return None
    return sum_of(one.lost_kwh for one in tried(connection, run))


def by_attempt(connection: Connection, whole: RunRecord) -> dict[str, RunRecord]:
    """The part of each attempt, by its number. Steps are the run's, whichever did them last."""
    from carbontrack.ledger import read

    keys = {sensor.device_key for sensor in whole.sensors}
    parts = {}
    for one in tried(connection, whole.run):
        attempt = one.attempt
        hours = [usage for usage in one.usages if usage.device_key in keys]
        used = {usage.device_key for usage in hours}
        begin_ms, end_ms = attempt.started_ms, attempt.until_ms
        parts[str(attempt.number)] = replace(
            whole,
            run=replace(whole.run, started_ms=begin_ms, ended_ms=end_ms, status=attempt.status),
            sensors=[sensor for sensor in whole.sensors if sensor.device_key in used],
            hours=hours,
            steps=read.step_totals(connection, whole.run, from_ms=begin_ms, to_ms=end_ms),
            spans_ms=((begin_ms, end_ms),),
            lost_kwh=one.lost_kwh,
        )
    return parts


def _with_energy(connection: Connection, run: Run, attempts: Sequence[Attempt]) -> list[Tried]:
    """Of attempts that the same recordings recorded one after the other."""
    from carbontrack.ledger import read

    keys = attempts[0].keys
    hours = read.hours(connection, run, keys)
    timeline = timeline_of(attempts)
    windows = Windows(connection, run, affordable_level(timeline, hours), keys)
    usages, _ = usages_by_phase(hours, timeline, windows)
    found = []
    for attempt in attempts:
        lost = usages.get(name_of(attempt, LOST), [])
        both = [*usages.get(name_of(attempt, KEPT), []), *lost]
        lost_kwh = None
        if attempt.lost_ms is not None:
            lost_kwh = _kwh(lost) if lost else 0.0
        found.append(Tried(attempt, tuple(both), _kwh(both), lost_kwh))
    return found


def _kwh(usages: Sequence[Usage]) -> float | None:
    energy_j = sum_of(usage.energy_j for usage in usages)
    return None if energy_j is None else energy_j / J_PER_KWH
