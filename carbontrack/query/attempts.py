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
    LastBelow,
    Starts,
    list_attempts,
    name_of,
    timeline_of,
)
from carbontrack.account.result import sum_of
from carbontrack.account.split import RunRecord, there
from carbontrack.ledger.recorded_rows import Run, Usage
from carbontrack.query.phases import energies_on, shared_hours, usages_on
from carbontrack.units import now_ms

if TYPE_CHECKING:
    from carbontrack.ledger.held import Held


@dataclass(frozen=True, slots=True)
class Tried:
    """An attempt with what its devices used, before PUE; None if unknown."""

    attempt: Attempt
    energy_kwh: float | None
    lost_kwh: float | None


def attempts_of(held: Held, run: Run) -> list[Attempt]:
    """The attempts at a run, in order, without their energy."""
    return held.once(_attempts_of_all)[run.key]


def _attempts_of_all(held: Held) -> dict[int, list[Attempt]]:
    """By the key of the run. What `list_attempts` asks does not depend on the answers: so all is
    asked together, and then it is answered.
    """
    asked: dict[int, set[tuple[int, int, int]]] = {run.key: set() for run in held.runs}
    found = {run.key: _list(held, run, partial(_note, asked[run.key])) for run in held.runs}
    times_ms = held.last_steps_below({one for of_run in asked.values() for one in of_run})

    def answer(keys: Sequence[int], restart: int, number: int) -> int | None:
        of_keys = (times_ms.get((key, restart, number)) for key in keys)
        return max((time_ms for time_ms in of_keys if time_ms is not None), default=None)

    return found | {run.key: _list(held, run, answer) for run in held.runs if asked[run.key]}


def _note(asked: set[tuple[int, int, int]], keys: Sequence[int], restart: int, number: int) -> None:
    """What is asked for, which is not known yet."""
    asked.update((key, restart, number) for key in keys)


def _list(held: Held, run: Run, last_below: LastBelow) -> list[Attempt]:
    recordings, began = held.recordings(run), held.restarts(run)
    first: dict[int, dict[int, int]] = {}
    for one in held.logged(run):
        first.setdefault(one.recording_key, {})[one.restart] = one.first_step
    starts = {one.key: Starts(began.get(one.key, {}), first.get(one.key, {})) for one in recordings}
    return list_attempts(
        recordings, starts, last_below, nodes_expected=run.nodes_expected, now_ms=now_ms()
    )


def tried(held: Held, run: Run, hours: Sequence[Usage] | None = None) -> list[Tried]:
    """The attempts at a run with what each used; they add up to it. `hours` are those of
    `read.hours_of_all` of the whole run, where they are known.
    """
    by_recordings = _of_same_recordings(attempts_of(held, run))
    if len(by_recordings) > 1:
        hours = None  # each has some
    return [one for together in by_recordings for one in _with_energy(held, run, together, hours)]


def lost_of(held: Held, run: Run) -> float | None:
    """What the work that a run lost had used, in kWh of its devices before PUE; None if unknown,
    and of a run of one attempt.
    """
    if len(held.recordings(run)) < 2 and not held.restarts(run):
        return None
    if run.key not in held.once(_that_lost):
        return None
    return sum_of(one.lost_kwh for one in tried(held, run))


def _that_lost(held: Held) -> set[int]:
    """The keys of the runs that lost work, whose devices must be looked at where that begins."""
    lost = [run for run in held.runs if any(one.lost_ms for one in attempts_of(held, run))]
    held.will_read(
        (run, hour_ms)
        for run in lost
        for together in _of_same_recordings(attempts_of(held, run))
        for hour_ms in shared_hours(held.hours_of_all(run, together[0].keys), timeline_of(together))
    )
    return {run.key for run in lost}


def by_attempt(held: Held, whole: RunRecord) -> dict[str, RunRecord]:
    """The part of each attempt, by its number. Steps are the run's, whichever did them last."""
    lost_of_attempt = {one.attempt.number: one.lost_kwh for one in tried(held, whole.run)}
    attempts = attempts_of(held, whole.run)
    of_attempt = {
        number: of
        for together in _of_same_recordings(attempts)
        for number, of in _usages(held, whole.run, together).items()
    }
    parts = {}
    for attempt in attempts:
        begin_ms, end_ms = attempt.started_ms, attempt.until_ms
        usages, lost_kwh = of_attempt[attempt.number], lost_of_attempt[attempt.number]
        for first_ms, next_ms in whole.spans_ms:  # one, of a run that reaches beyond a range
            begin_ms, end_ms = max(begin_ms, first_ms), min(end_ms, next_ms)
            usages = [one for one in usages if first_ms <= one.start_ms < next_ms]
            lost_kwh = None
        if begin_ms >= end_ms and whole.spans_ms:
            continue
        run = replace(whole.run, started_ms=begin_ms, ended_ms=end_ms, status=attempt.status)
        parts[str(attempt.number)] = replace(
            whole,
            run=run,
            sensors=there(whole.sensors, run, ((begin_ms, end_ms),), usages),
            usages=usages,
            steps=held.step_totals(whole.run, (begin_ms, end_ms)),
            spans_ms=((begin_ms, end_ms),),
            recordings=attempt.keys,
            lost_kwh=lost_kwh,
        )
    return parts


def _with_energy(
    held: Held, run: Run, attempts: Sequence[Attempt], hours: Sequence[Usage] | None
) -> list[Tried]:
    """Of attempts that the same recordings recorded one after the other."""
    timeline = timeline_of(attempts)
    energies_kwh, _ = energies_on(held, run, timeline, attempts[0].keys, hours=hours)
    found = []
    for attempt in attempts:
        lost_kwh = energies_kwh.get(name_of(attempt, LOST), 0.0)
        both_kwh = sum_of((energies_kwh.get(name_of(attempt, KEPT)), lost_kwh or None))
        found.append(Tried(attempt, both_kwh, None if attempt.lost_ms is None else lost_kwh))
    return found


def _usages(held: Held, run: Run, attempts: Sequence[Attempt]) -> dict[int, list[Usage]]:
    """What each device used in each hour of the same, by the attempt's number."""
    keys = attempts[0].keys
    hours = held.hours(run, keys)
    found = usages_on(held, run, timeline_of(attempts), hours, keys)
    return {
        attempt.number: [
            usage for part in (KEPT, LOST) for usage in found.get(name_of(attempt, part), [])
        ]
        for attempt in attempts
    }


def _of_same_recordings(attempts: Sequence[Attempt]) -> list[list[Attempt]]:
    return [list(together) for _, together in groupby(attempts, lambda attempt: attempt.keys)]
