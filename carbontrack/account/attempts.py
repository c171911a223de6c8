"""The attempts at a run, and the work of each that was lost: done again by a later one. Pure.

An attempt ends when the job does on all nodes, or when its processes are started again under the
same recorder. What it computed beyond the step from which a later one goes on is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from carbontrack.account.phases import Timeline
from carbontrack.ledger.outcome import attempts_of, outcome_of
from carbontrack.ledger.recorded_rows import Recording, Span
from carbontrack.vocabulary import Status

LastBelow = Callable[[Sequence[int], int, int], int | None]
"""When the recordings with these keys, in this start of their processes, logged the last step below
a number, in ms; None if they logged none below it.
"""


@dataclass(frozen=True, slots=True)
class Starts:
    """What a recording has of the starts of the job's processes, each by its number."""

    began_ms: Mapping[int, int]  # of those after the first
    first_step: Mapping[int, int]  # of those that logged steps


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt, from 1. Times in ms; `ended_ms` is None while it goes on.

    `lost_from_ms` is when the last step ended that no later attempt did again; None where it logged
    no steps, and while no later attempt has logged any.
    """

    number: int
    started_ms: int
    ended_ms: int | None
    until_ms: int  # its end, or the newest heartbeat
    status: Status
    recordings: tuple[Recording, ...]
    restart: int  # which start of the processes
    lost_from_ms: int | None = None

    @property
    def nodes(self) -> list[str]:
        """Its hosts, in order."""
        return sorted({one.host for one in self.recordings})

    @property
    def keys(self) -> list[int]:
        """Its recordings by their integer keys."""
        return [one.key for one in self.recordings]

    @property
    def lost_ms(self) -> Span | None:
        """The stretch of time that is lost."""
        if self.lost_from_ms is None:
            return None
        return min(self.lost_from_ms, self.until_ms), self.until_ms


def list_attempts(
    recordings: Sequence[Recording],
    starts: Mapping[int, Starts],
    last_below: LastBelow,
    *,
    nodes_expected: int | None,
    now_ms: int,
) -> list[Attempt]:
    """The attempts, ordered by the scheduler's restarts, those of the launcher, and time.

    `starts` are by the recording's key.
    """
    found: list[Attempt] = []
    first_steps: list[int | None] = []
    for group in attempts_of(recordings):
        of_group = [starts[one.key] for one in group if one.key in starts]
        for attempt in _of_group(group, of_group, nodes_expected, now_ms):
            found.append(replace(attempt, number=len(found) + 1))
            logged = (one.first_step.get(attempt.restart) for one in of_group)
            first_steps.append(min((step for step in logged if step is not None), default=None))
    return [
        _with_loss(attempt, first_steps[place], first_steps[place + 1 :], last_below)
        for place, attempt in enumerate(found)
    ]


def _of_group(
    group: Sequence[Recording], starts: Sequence[Starts], nodes_expected: int | None, now_ms: int
) -> list[Attempt]:
    """One for each start of the processes while these recordings went on together."""
    outcome = outcome_of(group, nodes_expected, now_ms=now_ms)
    started_ms = min(one.started_ms for one in group)
    until_ms = max(one.end_ms for one in group)
    began_ms: dict[int, int] = {}
    for one in starts:
        for number, time_ms in one.began_ms.items():
            at_ms = max(started_ms, min(time_ms, until_ms))
            began_ms[number] = min(at_ms, began_ms.get(number, at_ms))
    logged = {number for one in starts for number in one.first_step}
    first = min(logged - began_ms.keys(), default=0)
    order = sorted({first: started_ms, **began_ms}.items())
    attempts = []
    for place, (restart, from_ms) in enumerate(order):
        is_last = place + 1 == len(order)
        next_ms = until_ms if is_last else order[place + 1][1]
        attempts.append(
            Attempt(
                number=0,
                started_ms=from_ms,
                ended_ms=outcome.ended_ms if is_last else next_ms,
                until_ms=next_ms,
                status=outcome.status if is_last else Status.INTERRUPTED,
                recordings=tuple(group),
                restart=restart,
            )
        )
    return attempts


def _with_loss(
    attempt: Attempt,
    first_step: int | None,
    later: Sequence[int | None],
    last_below: LastBelow,
) -> Attempt:
    again = min((step for step in later if step is not None), default=None)
    if first_step is None or again is None:
        return attempt
    kept_ms = last_below(attempt.keys, attempt.restart, again)
    return replace(attempt, lost_from_ms=attempt.started_ms if kept_ms is None else kept_ms)


KEPT, LOST = "kept", "lost"


def timeline_of(attempts: Sequence[Attempt]) -> Timeline:
    """Attempts of the same recordings over their time, each as what is kept and what is lost of it:
    `name_of` gives the names.
    """
    starts: list[int] = []
    names: list[str] = []
    for attempt in attempts:
        lost = attempt.lost_ms
        starts.append(attempt.started_ms)
        names.append(name_of(attempt, KEPT))
        if lost is not None and lost[0] < lost[1]:
            if lost[0] <= attempt.started_ms:
                names[-1] = name_of(attempt, LOST)
            else:
                starts.append(lost[0])
                names.append(name_of(attempt, LOST))
    return Timeline(tuple(starts), tuple(names), attempts[-1].until_ms)


def name_of(attempt: Attempt, part: str) -> str:
    """The name of a part of an attempt in its timeline."""
    return f"{attempt.number} {part}"
