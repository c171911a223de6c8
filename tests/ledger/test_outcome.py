"""How a run stands, of what its recordings say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from carbontrack.ledger.outcome import (
    HEARTBEAT_STALE_MS,
    Outcome,
    last_attempt,
    outcome_of,
    status_of,
)
from carbontrack.ledger.recorded_rows import Recording
from carbontrack.ledger.true_time import corrected
from carbontrack.ledger.window import FIRST_MS
from carbontrack.vocabulary import Status
from tests.fixtures.runs import Recorded, recording_of

NOW_MS = 10_000_000
RUN = replace(Recorded().begun, started_ms=1000)


def going(host: str, heartbeat_ms: int = NOW_MS, restart: int = 0, start_ms: int = 0) -> Recording:
    one = recording_of(RUN, host, heartbeat_ms=heartbeat_ms, restart=restart)
    return replace(one, id=f"{one.id}-{restart}-{start_ms}", started_ms=RUN.started_ms + start_ms)


def ended(host: str, at_ms: int, code: int = 0, restart: int = 0, start_ms: int = 0) -> Recording:
    status = Status.FAILED if code else Status.COMPLETED
    one = going(host, at_ms, restart, start_ms)
    return replace(one, ended_ms=at_ms, status=status, exit_code=code)


def test_a_heartbeat_is_as_old_as_the_clock_says_that_wrote_it() -> None:
    """Where a recorder writes into the ledger that is read, that is the clock here."""
    for shift_ms in (-60_000, 60_000):
        one = corrected(going("a"), ((FIRST_MS, shift_ms),))
        assert one.heartbeat_ms == NOW_MS + shift_ms
        assert status_of(one, now_ms=NOW_MS) is Status.RUNNING
        stale_ms = NOW_MS + HEARTBEAT_STALE_MS + 1
        assert status_of(one, now_ms=stale_ms) is Status.INTERRUPTED


STALE_MS = NOW_MS - HEARTBEAT_STALE_MS - 1
LOST = going("lost", STALE_MS)


@pytest.mark.parametrize(
    ("recordings", "expected", "status", "ended_ms", "exit_code"),
    [
        ([], None, "interrupted", None, None),
        ([going("a")], None, "running", None, None),
        ([LOST], None, "interrupted", None, None),
        ([ended("a", 2000)], None, "completed", 2000, 0),
        ([ended("a", 2000), ended("b", 3000)], 2, "completed", 3000, 0),
        ([ended("a", 2000), going("b")], 2, "running", None, None),
        ([ended("a", 2000, 9), going("b")], 2, "running", None, None),
        ([ended("b", 3000, 9), ended("a", 2000, 7)], 2, "failed", 3000, 7),
        ([ended("a", 2000), LOST], 2, "interrupted", None, None),
        ([ended("a", 2000, 1), LOST], 2, "failed", None, 1),
        # Nodes of a job come one after another, and may never come.
        ([ended("a", NOW_MS - 1)], 2, "running", None, None),
        ([ended("a", STALE_MS)], 2, "interrupted", STALE_MS, None),
        # A job that was requeued stands as its last attempt does.
        ([LOST, ended("b", 9000, restart=1)], None, "completed", 9000, 0),
        ([ended("a", 2000, 1), going("b", restart=1)], None, "running", None, None),
        ([ended("a", 2000, 1), ended("a", 3000, start_ms=1500)], None, "completed", 3000, 0),
    ],
)
def test_a_run_stands_as_its_last_recordings_do(
    recordings: list[Recording],
    expected: int | None,
    status: str,
    ended_ms: int | None,
    exit_code: int | None,
) -> None:
    newest_ms = max((one.heartbeat_ms for one in recordings), default=None)
    for order in (recordings, recordings[::-1]):
        found = outcome_of(order, expected, now_ms=NOW_MS)
        heard_ms = newest_ms if ended_ms is None else None
        assert found == Outcome(Status(status), ended_ms, exit_code, newest_ms, heard_ms)


def test_a_host_that_begins_again_begins_another_attempt() -> None:
    first, again = ended("a", 2000), ended("a", 3000, start_ms=1500)
    other = going("b")
    assert last_attempt([again, other, first]) == [again]
    assert outcome_of([again, other, first], None, now_ms=NOW_MS).status is Status.RUNNING
    assert last_attempt([again, other, going("c", restart=1)]) == [going("c", restart=1)]


def test_recorders_beside_each_other_on_a_node_are_of_one_attempt() -> None:
    """One may have had to take what is hidden from the other."""
    first, beside = ended("a", 5000), ended("a", 6000, 3, start_ms=500)
    assert last_attempt([beside, first]) == [first, beside]
    assert outcome_of([first, beside], 1, now_ms=NOW_MS).exit_code == 3
    # They are one node.
    assert outcome_of([first, ended("a", 6000)], 2, now_ms=NOW_MS).status is Status.INTERRUPTED


@pytest.mark.parametrize(
    ("one", "status", "heard_ms"),
    [
        (going("node", heartbeat_ms=NOW_MS - 5000), "running", NOW_MS - 5000),
        # One that is shipped here is heard of by this ledger's clock, every ten seconds.
        (replace(going("node", 0), heard_ms=NOW_MS - 29_000), "running", NOW_MS - 29_000),
        (replace(going("node"), heard_ms=NOW_MS - 31_000), "interrupted", NOW_MS - 31_000),
        (ended("node", 2000), "completed", None),
    ],
)
def test_a_node_that_ships_may_miss_two_posts(
    one: Recording, status: str, heard_ms: int | None
) -> None:
    found = outcome_of([one], None, now_ms=NOW_MS)
    assert (found.status, found.heard_ms) == (status, heard_ms)
