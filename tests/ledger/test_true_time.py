"""True times of what a clock wrote that was off: each once, by whole seconds, only above 1 s."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from carbontrack.ledger.recorded_rows import Shifts
from carbontrack.ledger.rows import ClockOffset
from carbontrack.ledger.true_time import (
    pieces_of,
    recorded_ms,
    recorded_spans,
    segments_of,
    shift_at,
    shifts_of,
    true_ms,
)
from carbontrack.ledger.window import LEVELS_S

T = 1_780_000_000_000
TIMES_MS = st.integers(T - 10_000_000, T + 10_000_000)
OFFSETS = st.builds(
    ClockOffset,
    time_ms=TIMES_MS,
    offset_ms=st.integers(-4_000_000, 4_000_000) | st.integers(-1_500, 1_500),
    error_ms=st.integers(0, 2_000),
)
SHIFTS = st.lists(OFFSETS, max_size=6).map(shifts_of)


@pytest.mark.parametrize(
    ("offset_ms", "error_ms", "shift_ms"),
    [
        (0, 0, 0),
        (1_000, 0, 0),
        (-1_000, 0, 0),
        (1_001, 0, 1_000),
        (-7_300, 50, -7_000),
        (7_600, 50, 8_000),
        (3_000, 3_000, 0),  # as much as it may be wrong by
        (3_001, 3_000, 3_000),
        (7_200_000, 5_000, 7_200_000),
    ],
)
def test_an_offset_above_a_second_is_corrected_by_whole_seconds(
    offset_ms: int, error_ms: int, shift_ms: int
) -> None:
    shifts = shifts_of([ClockOffset(T + 5, offset_ms, error_ms)])
    assert shift_at(shifts, T - 10**9) == shift_at(shifts, T + 10**9) == shift_ms
    assert bool(shifts) == bool(shift_ms)


@given(st.lists(st.builds(ClockOffset, TIMES_MS, st.integers(-1_000, 1_000), st.just(0))))
def test_offsets_of_a_second_or_less_are_left_alone(offsets: list[ClockOffset]) -> None:
    assert shifts_of(offsets) == ()


@given(st.lists(OFFSETS, min_size=1, max_size=6, unique_by=lambda one: one.time_ms // 1000))
def test_an_offset_holds_from_when_it_was_measured_to_the_next(offsets: list[ClockOffset]) -> None:
    shifts = shifts_of(offsets)
    ordered = sorted(offsets, key=lambda one: one.time_ms)
    assume(not any(agree(one, after) for one, after in pairwise(ordered)))
    for one, after in zip(ordered, [*ordered[1:], None], strict=True):
        alone = shift_at(shifts_of([one]), 0)
        from_ms = -(-one.time_ms // 1000) * 1000
        until_ms = from_ms + 10**6 if after is None else -(-after.time_ms // 1000) * 1000
        if from_ms < until_ms:
            assert shift_at(shifts, from_ms) == shift_at(shifts, until_ms - 1) == alone
    assert shift_at(shifts, T - 10**9) == shift_at(shifts_of(ordered[:1]), 0)


def agree(one: ClockOffset, other: ClockOffset) -> bool:
    return abs(one.offset_ms - other.offset_ms) <= one.error_ms + other.error_ms


@given(st.integers(-4_000_000, 4_000_000), st.permutations([10, 1_500, 4_000, 90_000]), st.data())
def test_of_measurements_that_agree_the_best_known_holds(
    offset_ms: int, errors_ms: list[int], data: st.DataObject
) -> None:
    """A clock that was not set has one offset, however busy the node and the network are."""
    wrong_ms = [data.draw(st.integers(-error_ms, error_ms)) for error_ms in errors_ms]
    measured = [
        ClockOffset(T + 60_000 * number, offset_ms + wrong, error_ms)
        for number, (wrong, error_ms) in enumerate(zip(wrong_ms, errors_ms, strict=True))
    ]
    (best,) = [one for one in measured if one.error_ms == 10]
    assert shifts_of(measured) == shifts_of([best])


@given(
    offset_ms=st.integers(-100_000, 100_000).filter(lambda ms: abs(ms) > 2_000),
    drift_ms=st.lists(st.integers(-400, 400), max_size=4),
    sets_ms=st.lists(
        st.integers(-10_000_000, 10_000_000).filter(lambda ms: abs(ms) > 5_000),
        max_size=3,
    ),
)
def test_a_recording_goes_on_by_the_clock_that_it_began_by(
    offset_ms: int, drift_ms: list[int], sets_ms: list[int]
) -> None:
    """That of the system is set, and each time its offset is another; what drifts is seen."""
    found = [ClockOffset(T, offset_ms, 0)]
    totals_ms = []
    for number, by_ms in enumerate(sets_ms, start=1):
        totals_ms.append(by_ms)
        at_ms = T + number * 10**8 + by_ms
        found.append(ClockOffset(at_ms, offset_ms - by_ms, 0))
    assert shifts_of(found, totals_ms) == shifts_of(found[:1])
    for number, by_ms in enumerate(drift_ms, start=len(found)):
        offset_ms += by_ms
        set_ms = totals_ms[-1] if totals_ms else 0
        found.append(ClockOffset(T + number * 10**8 + set_ms, offset_ms - set_ms, 0))
    at_end_ms = T + (len(found) + 1) * 10**8
    alone = shifts_of([ClockOffset(T, offset_ms, 0)])
    if all(abs(a - b) > 2_000 for a, b in combinations({0, *totals_ms}, 2)):
        assert shift_at(shifts_of(found, totals_ms), at_end_ms) == shift_at(alone, 0)


@given(SHIFTS)
def test_pieces_are_all_of_time_and_begin_on_whole_seconds(shifts: Shifts) -> None:
    pieces = pieces_of(shifts)
    assert all(a.to_ms == b.from_ms and a.shift_ms != b.shift_ms for a, b in pairwise(pieces))
    assert all(one.shift_ms % 1000 == 0 for one in pieces)
    assert all(one.from_ms % 1000 == 0 for one in pieces[1:])


@given(SHIFTS, TIMES_MS)
def test_a_recorded_time_is_found_again_by_its_true_one(shifts: Shifts, time_ms: int) -> None:
    at_ms = true_ms(shifts, time_ms)
    assert true_ms(shifts, recorded_ms(shifts, at_ms)) == at_ms
    if len(shifts) < 2:
        assert recorded_ms(shifts, at_ms) == time_ms


@given(SHIFTS, st.lists(TIMES_MS, min_size=2, max_size=4), TIMES_MS)
def test_spans_that_meet_have_each_recorded_time_once(
    shifts: Shifts, edges: list[int], time_ms: int
) -> None:
    """Where a clock was set back or forward, too."""
    edges.sort()
    at_ms = true_ms(shifts, time_ms)
    for first_ms, next_ms in pairwise(edges):
        spans = recorded_spans(shifts, (first_ms, next_ms))
        inside = sum(a <= time_ms < b for a, b in spans)
        assert inside == (first_ms <= at_ms < next_ms)


@given(SHIFTS.filter(bool), TIMES_MS, st.sampled_from(LEVELS_S))
def test_segments_are_all_of_a_window_each_in_one_true_window(
    shifts: Shifts, time_ms: int, level_s: int
) -> None:
    length_ms = level_s * 1000
    start_ms = time_ms // length_ms * length_ms
    segments = segments_of(shifts, start_ms, length_ms)
    assert (segments[0].from_ms, segments[-1].to_ms) == (start_ms, start_ms + length_ms)
    assert all(a.to_ms == b.from_ms for a, b in pairwise(segments))
    for one in segments:
        assert one.start_ms % length_ms == 0
        assert one.start_ms <= true_ms(shifts, one.from_ms) < one.start_ms + length_ms
        assert one.start_ms <= true_ms(shifts, one.to_ms - 1) < one.start_ms + length_ms
    if level_s == 1:
        assert [one.start_ms for one in segments] == [true_ms(shifts, start_ms)]
