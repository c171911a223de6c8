"""How a run stands, when it ended and with what exit code, of what its recordings say. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from carbontrack.ledger.batch import EVERY_S
from carbontrack.ledger.recorded_rows import Recording
from carbontrack.ledger.true_time import recorded_ms
from carbontrack.units import MS_PER_S
from carbontrack.vocabulary import Status

HEARTBEAT_STALE_MS = 10_000
POSTS_STALE_MS = round(3 * EVERY_S * MS_PER_S)
"""After so long a node that ships has missed three times to say that it lives."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a run; times in ms since the epoch, None while it goes on."""

    status: Status
    ended_ms: int | None
    exit_code: int | None
    heartbeat_ms: int | None  # the newest; None without a recording
    heard_ms: int | None = None  # when the ledger heard of it last; None once its end was seen


def outcome_of(
    recordings: Sequence[Recording], nodes_expected: int | None, *, now_ms: int
) -> Outcome:
    """The state of a run at `now_ms`, by its last attempt.

    It runs while one of its recorders does, and while the heartbeat of the newest is fresh and not
    all expected nodes have come. Then it has failed if one of them has; else it is interrupted, if
    a heartbeat stopped or a node never came; else completed. The exit code is the first one that
    is not 0. A run without recordings is interrupted.
    """
    last = last_attempt(recordings)
    if not last:
        return Outcome(Status.INTERRUPTED, None, None, None)
    newest_ms = max(one.heartbeat_ms for one in recordings)
    heard_ms = max(map(heard_of, recordings))
    if any(status_of(one, now_ms=now_ms) is Status.RUNNING for one in recordings):
        return Outcome(Status.RUNNING, None, None, newest_ms, heard_ms)
    states = {status_of(one, now_ms=now_ms) for one in last}
    is_missing = len({_node(one) for one in last}) < (nodes_expected or 1)
    failed = [one for one in last if one.exit_code]
    codes = [one.exit_code for one in sorted(failed, key=lambda one: (one.end_ms, one.host))]
    if Status.FAILED in states:
        status, exit_code = Status.FAILED, next(iter(codes), None)
    elif is_missing and newest_ms >= now_ms - HEARTBEAT_STALE_MS:
        return Outcome(Status.RUNNING, None, None, newest_ms, heard_ms)
    elif is_missing or Status.INTERRUPTED in states:
        status, exit_code = Status.INTERRUPTED, None
    else:
        status, exit_code = Status.COMPLETED, next((one.exit_code for one in last), None)
    ends = [one.ended_ms for one in recordings if one.ended_ms is not None]
    if all(one.ended_ms is not None for one in last):
        return Outcome(status, max(ends), exit_code, newest_ms)
    return Outcome(status, None, exit_code, newest_ms, heard_ms)


def status_of(recording: Recording, *, now_ms: int) -> Status:
    """How a recording stands: one whose heartbeat stopped is interrupted."""
    if recording.status is Status.RUNNING and is_stale(recording, now_ms=now_ms):
        return Status.INTERRUPTED
    return recording.status


def heard_of(recording: Recording) -> int:
    """When the ledger heard of it last, in ms: by the clock of this machine as it is now, whose
    recorders go on by that clock as it was when they began.
    """
    if recording.heard_ms is not None:
        return recording.heard_ms
    return recorded_ms(recording.shifts, recording.heartbeat_ms) + recording.set_ms


def is_stale(recording: Recording, *, now_ms: int) -> bool:
    """Whether a recorder that lives would have been heard of since."""
    return is_silent(heard_of(recording), recording.heard_ms, now_ms=now_ms)


def is_silent(heartbeat_ms: int, heard_ms: int | None, *, now_ms: int) -> bool:
    """The same of a recording whose end was not seen: `heartbeat_ms` by the clock here now, and
    `heard_ms` when it was shipped here last; None where its recorder writes into this ledger.
    """
    if heard_ms is not None:
        return now_ms - heard_ms > POSTS_STALE_MS
    return now_ms - heartbeat_ms > HEARTBEAT_STALE_MS


def attempts_of(recordings: Sequence[Recording]) -> list[list[Recording]]:
    """The recordings of each attempt that the scheduler or the user made at a run, in order.

    Those of one count of the scheduler's restarts are of one attempt, unless its schedulers do not
    count: one that begins on a host when another one there has ended, or when all others of the
    attempt have, begins another.
    """
    attempts: list[list[Recording]] = []
    newest = _Newest(0)
    for one in sorted(recordings, key=lambda one: (one.restart, one.started_ms, one.host, one.id)):
        if not attempts or newest.is_over_before(one):
            attempts.append([])
            newest = _Newest(one.restart)
        attempts[-1].append(one)
        newest.add(one)
    return attempts


@dataclass(slots=True)
class _Newest:
    """What the recordings of an attempt have come to: of a thousand nodes each asks for it."""

    restart: int
    first_end_ms: dict[tuple[str, str | None], int] = field(default_factory=dict)  # by node
    last_end_ms: float = 0.0  # of all; infinite while one goes on

    def add(self, one: Recording) -> None:
        node = _node(one)
        self.first_end_ms[node] = min(one.end_ms, self.first_end_ms.get(node, one.end_ms))
        ended_ms = math.inf if one.ended_ms is None else one.ended_ms
        self.last_end_ms = max(self.last_end_ms, ended_ms)

    def is_over_before(self, one: Recording) -> bool:
        """Whether this one begins another attempt."""
        if one.restart != self.restart:
            return True
        ended_ms = self.first_end_ms.get(_node(one))
        if ended_ms is not None and ended_ms <= one.started_ms:
            return True
        return self.last_end_ms <= one.started_ms


def _node(recording: Recording) -> tuple[str, str | None]:
    return recording.host, recording.boot_id


def last_attempt(recordings: Sequence[Recording]) -> list[Recording]:
    """The recordings of the newest attempt."""
    return next(reversed(attempts_of(recordings)), [])
