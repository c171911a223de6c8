"""Which start of a job's processes a step is of."""

from __future__ import annotations

import pytest

from carbontrack.ledger.recorded_rows import Step
from carbontrack.record.logged import MAX_RESTARTS, LoggedLines, LoggedStep
from carbontrack.record.restarts import Restarts, launcher_restarts

Line = tuple[int, int, int | None, int]  # step, rank, process, the launcher's restarts


def numbers(*lines: Line, launcher: int = 0) -> tuple[list[int], list[tuple[int, int]]]:
    """The start of each line, and the events: when, and which start begins."""
    logged = [
        LoggedStep(Step(step, 1000 + place, restart=restarts), rank, None, pid)
        for place, (step, rank, pid, restarts) in enumerate(lines)
    ]
    taken = Restarts(launcher).take(LoggedLines(logged))
    events = [(event.time_ms, event.data["restart"]) for event in taken.events]
    return [one.step.restart for one in taken.steps], events


def test_steps_that_rise_are_one_start() -> None:
    assert numbers((1, 0, 7, 0), (2, 0, 7, 0), (2, 0, 7, 0), (9, 0, 7, 0)) == ([0] * 4, [])


def test_torchruns_restart_is_the_number() -> None:
    lines = [(1, 0, 7, 0), (2, 0, 7, 0), (2, 0, 8, 1), (3, 0, 8, 1), (3, 0, 9, 2)]
    assert numbers(*lines) == ([0, 0, 1, 1, 2], [(1002, 1), (1004, 2)])


@pytest.mark.parametrize("pids", [(7, 7), (7, 8), (None, None)])
def test_a_step_that_falls_back_begins_another(pids: tuple[int | None, int | None]) -> None:
    lines = [(4, 0, pids[0], 0), (5, 0, pids[0], 0), (3, 0, pids[1], 0), (4, 0, pids[1], 0)]
    assert numbers(*lines) == ([0, 0, 1, 1], [(1002, 1)])


def test_there_are_never_more_starts_than_can_be_stored() -> None:
    most = MAX_RESTARTS
    lines = [(10, 0, None, most), (5, 0, None, most), (4, 0, None, most)]
    assert numbers(*lines) == ([most] * 3, [(1000, most)])
    assert launcher_restarts("9" * 9) == most


def test_a_rank_that_is_behind_has_not_fallen_back() -> None:
    assert numbers((5, 0, 7, 0), (4, 1, 8, 0), (6, 0, 7, 0), (5, 1, 8, 0)) == ([0] * 4, [])


def test_all_ranks_begin_the_same_start() -> None:
    lines = [(5, 0, 7, 0), (5, 1, 8, 0), (3, 0, 9, 0), (3, 1, 10, 0), (4, 0, 9, 0)]
    assert numbers(*lines) == ([0, 0, 1, 1, 1], [(1002, 1)])


def test_processes_side_by_side_as_one_rank_are_two_starts_at_most() -> None:
    lines = [(step, 0, pid, 0) for step in range(5, 30) for pid in (7, 8)]
    starts, events = numbers((6, 0, 7, 0), *lines)
    assert set(starts) <= {0, 1, 2}
    assert len(events) <= 2


def test_a_wrapper_inside_the_launcher_begins_with_its_restarts() -> None:
    assert numbers((3, 0, 8, 2), launcher=2) == ([2], [])
    assert launcher_restarts("2") == 2
    assert [launcher_restarts(odd) for odd in ("", "-1", "many", "9" * 20)] == [0, 0, 0, 0]


def test_the_event_is_when_the_process_began() -> None:
    old = LoggedStep(Step(5, 1000), 0, None, 7, 100)
    new = LoggedStep(Step(3, 3000), 0, None, 8, 2000)
    (event,) = Restarts().take(LoggedLines([old, new])).events
    assert (event.time_ms, event.kind, event.data) == (2000, "restarted", {"restart": 1, "step": 3})
