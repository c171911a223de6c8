"""The attempts at a run, and what each lost, held to a training whose every step is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.account.attempts import (
    KEPT,
    LOST,
    Attempt,
    Starts,
    list_attempts,
    name_of,
    timeline_of,
)
from carbontrack.ledger.outcome import attempts_of
from carbontrack.ledger.recorded_rows import Recording
from carbontrack.vocabulary import Status

NOW_MS = 10_000_000


def recording(
    key: int,
    host: str = "n1",
    *,
    start: int = 0,
    end: int | None = 100,
    restart: int = 0,
    code: int = 0,
    heartbeat: int | None = None,
) -> Recording:
    status = Status.RUNNING if end is None else Status.FAILED if code else Status.COMPLETED
    return Recording(
        id=f"r{key}",
        host=host,
        boot_id=f"boot of {host}",
        recorder_version="1",
        settings={},
        started_ms=start,
        heartbeat_ms=(end if end is not None else start) if heartbeat is None else heartbeat,
        restart=restart,
        ended_ms=end,
        status=status,
        exit_code=None if end is None else code,
        key=key,
    )


def keys(groups: Sequence[Sequence[Recording]]) -> list[list[int]]:
    return [[one.key for one in group] for group in groups]


def test_the_schedulers_count_decides_whatever_the_order_in_time() -> None:
    late = recording(1, start=500, end=600, restart=0)
    early = recording(2, start=0, end=90, restart=1)
    assert keys(attempts_of([early, late])) == [[1], [2]]


def test_nodes_that_start_apart_are_one_attempt() -> None:
    nodes = [recording(n, f"n{n}", start=10 * n, end=1000 + n) for n in range(4)]
    assert keys(attempts_of(nodes)) == [[0, 1, 2, 3]]


def test_without_a_count_a_host_that_comes_again_begins_another() -> None:
    first = [recording(n, f"n{n}", start=0, end=100) for n in (1, 2)]
    again = [recording(n + 2, f"n{n}", start=200, end=300) for n in (1, 2)]
    assert keys(attempts_of([*again, *first])) == [[1, 2], [3, 4]]


def test_a_node_that_replaces_another_is_of_the_next_attempt() -> None:
    recordings = [
        recording(1, "n1", start=0, end=100),
        recording(2, "n2", start=0, end=90),
        recording(3, "n3", start=200, end=300),
        recording(4, "n1", start=201, end=300),
    ]
    assert keys(attempts_of(recordings)) == [[1, 2], [3, 4]]


def attempts(
    recordings: Sequence[Recording],
    starts: dict[int, Starts],
    steps: dict[tuple[int, int], dict[int, int]],
    *,
    expected: int | None = None,
) -> list[Attempt]:
    """`steps` are by recording and start: each step's time."""

    def last_below(of: Sequence[int], restart: int, number: int) -> int | None:
        times = (
            (step, time)
            for key in of
            for step, time in steps.get((key, restart), {}).items()
            if step < number
        )
        return max(times, default=(0, None))[1]

    return list_attempts(recordings, starts, last_below, nodes_expected=expected, now_ms=NOW_MS)


def test_states_and_nodes() -> None:
    recordings = [
        recording(1, "b", restart=0, code=143),
        recording(2, "a", restart=0, code=143),
        recording(3, "a", start=200, end=300, restart=1),
        recording(4, "b", start=200, end=None, restart=1, heartbeat=NOW_MS),
    ]
    first, second = attempts(recordings, {}, {}, expected=2)
    assert (first.status, first.nodes, first.ended_ms) == (Status.FAILED, ["a", "b"], 100)
    assert (second.status, second.ended_ms, second.until_ms) == (Status.RUNNING, None, NOW_MS)
    assert (first.lost_ms, second.lost_ms) == (None, None)


def test_a_node_that_never_came_or_died_leaves_its_attempt_interrupted() -> None:
    missing = attempts([recording(1)], {}, {}, expected=2)
    died = [recording(1), recording(2, "n2", end=None, heartbeat=40)]
    for (attempt,) in (missing, attempts(died, {}, {}, expected=2)):
        assert attempt.status is Status.INTERRUPTED


def test_the_launchers_restarts_cut_all_nodes_at_the_same_time() -> None:
    recordings = [recording(1, end=1000), recording(2, "n2", start=5, end=1000)]
    starts = {1: Starts({1: 400, 2: 700}, {0: 1, 1: 11, 2: 31})}
    steps = {
        (1, 0): {step: 20 * step for step in range(1, 16)},
        (1, 1): {step: 400 + 10 * (step - 10) for step in range(11, 36)},
        (1, 2): {31: 720},
    }
    found = attempts(recordings, starts, steps)
    assert [(a.number, a.started_ms, a.ended_ms) for a in found] == [
        (1, 0, 400),
        (2, 400, 700),
        (3, 700, 1000),
    ]
    assert [a.lost_ms for a in found] == [(200, 400), (600, 700), None]
    assert [a.status for a in found] == [Status.INTERRUPTED] * 2 + [Status.COMPLETED]
    timeline = timeline_of(found)
    assert timeline.names == tuple(
        name_of(attempt, part)
        for attempt, part in zip(
            [found[0], found[0], found[1], found[1], found[2]],
            [KEPT, LOST, KEPT, LOST, KEPT],
            strict=True,
        )
    )
    assert timeline.starts_ms == (0, 200, 400, 600, 700)


def test_nothing_is_lost_while_no_later_attempt_has_logged() -> None:
    recordings = [recording(1), recording(2, start=200, end=300, restart=1)]
    steps = {(1, 0): {1: 10, 2: 20}}
    first, _ = attempts(recordings, {1: Starts({}, {0: 1})}, steps)
    assert first.lost_ms is None


@dataclass(frozen=True)
class Try:
    """An attempt of the simulated training: how many steps it makes, and how far it falls back."""

    steps: int
    back: int
    tail_ms: int  # between its last step and its end


TRIES = st.lists(
    st.builds(Try, st.integers(0, 30), st.integers(0, 40), st.integers(0, 500)),
    min_size=1,
    max_size=8,
)


@given(TRIES, st.booleans())
def test_what_is_kept_and_lost_is_what_each_step_took(tries: list[Try], inside: bool) -> None:
    """At one watt: time is energy. What is kept is the time of the work that was not done again,
    and of attempts of which nothing was.
    """
    time_ms, step = 0, 0
    recordings: list[Recording] = []
    began: dict[int, int] = {}
    first: dict[int, int] = {}
    steps: dict[tuple[int, int], dict[int, int]] = {}
    spans: list[tuple[int, int]] = []
    for number, one in enumerate(tries):
        key, restart = (0, number) if inside else (number, 0)
        start_ms = time_ms
        if number:
            began[number] = start_ms
        for _ in range(one.steps):
            step += 1
            time_ms += 100
            steps.setdefault((key, restart), {})[step] = time_ms
            first.setdefault(number, step)
        time_ms += one.tail_ms + 1
        spans.append((start_ms, time_ms))
        if not inside:
            recordings.append(recording(number, start=start_ms, end=time_ms, restart=number))
        step = max(0, step - one.back)
    if inside:
        recordings = [recording(0, start=0, end=time_ms)]
        starts = {0: Starts(began, first)}
    else:
        starts = {number: Starts({}, {0: at}) for number, at in first.items()}
    found = attempts(recordings, starts, steps)
    assert [(a.started_ms, a.until_ms) for a in found] == spans
    for number, attempt in enumerate(found):
        of_it = steps.get((0, number) if inside else (number, 0), {})
        again = [first[later] for later in first if later > number]
        if not of_it or not again:
            assert attempt.lost_ms is None
            continue
        kept = [time for step, time in of_it.items() if step < min(again)]
        assert attempt.lost_ms == (max(kept, default=attempt.started_ms), attempt.until_ms)
    lengths = timeline_of(found).lengths_ms(0, time_ms) if inside else {}
    assert sum(lengths.values()) == (time_ms if inside else 0)


@pytest.mark.parametrize("ended", [None, 50])
def test_no_recording_no_attempt(ended: int | None) -> None:
    assert attempts_of([]) == []
    assert len(attempts([recording(1, end=ended)], {}, {})) == 1
