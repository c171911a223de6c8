"""Energy between samples, and in bins: whatever the blocks and levels, the total is the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.importers import bins as bins_module
from carbontrack.importers.bins import Bins
from carbontrack.importers.power import PowerSeries, counted
from carbontrack.importers.spans import Spans
from carbontrack.ledger.window import Flag

S = 10**9
samples = st.lists(st.tuples(st.integers(1, 3 * S), st.floats(0, 1000)), min_size=2, max_size=60)


def columns(found: list[tuple[int, float]]) -> tuple[np.ndarray, np.ndarray]:
    times = np.cumsum([1_700_000_000 * S, *(step for step, _ in found[1:])])
    return times.astype(np.int64), np.array([power for _, power in found])


@given(samples, st.integers(1, 59))
def test_the_blocks_of_a_file_change_nothing(found: list[tuple[int, float]], cut: int) -> None:
    times, powers = columns(found)
    whole, parts = PowerSeries(), PowerSeries()
    energy_j = whole.add(times, powers).energy_j.sum()
    if cut >= 2:  # the usual step is that of the first block
        apart = [parts.add(times[:cut], powers[:cut]), parts.add(times[cut:], powers[cut:])]
        held = whole._held_ns == parts._held_ns
        assert not held or math.isclose(
            sum(float(p.energy_j.sum()) for p in apart), energy_j, rel_tol=1e-9, abs_tol=1e-9
        )
    steps_s = np.diff(times) / S
    exact = float(((powers[:-1] + powers[1:]) / 2 * steps_s)[np.diff(times) <= 2 * S].sum())
    assert energy_j >= exact * (1 - 1e-9)


@given(samples, st.sampled_from([1, 60, 3600]))
def test_every_level_has_the_same_total(found: list[tuple[int, float]], level_s: int) -> None:
    spans = PowerSeries().add(*columns(found))
    bins = Bins()
    bins.add(spans)
    rows = list(bins.windows(level_s, Flag.INTEGRAL))
    total_j, total_s = sum(w.energy_j or 0 for w in rows), sum(w.energy_s for w in rows)
    assert math.isclose(total_j, spans.energy_j.sum(), rel_tol=1e-9, abs_tol=1e-6)
    assert math.isclose(total_s, (spans.end_ns - spans.start_ns).sum() / S, abs_tol=1e-6)
    for row in rows:
        assert row.level_s == level_s
        assert row.start_ms % (level_s * 1000) == 0
        assert row.energy_s <= level_s + 1e-9
        assert row.power_min_w is not None
        assert row.power_max_w is not None
        mean_w = row.power_mean_w or 0.0
        assert row.power_min_w - 1e-6 <= mean_w <= row.power_max_w + 1e-6


def test_a_missing_value_and_a_long_step_are_gaps() -> None:
    times = np.array([0, 1, 2, 3, 4, 40, 41], np.int64) * S
    powers = np.array([10, 10, np.nan, 10, 10, 10, 10.0])
    assert PowerSeries().add(times, powers).energy_j.tolist() == [10, 10, 10]


def test_a_counter_bridges_gaps_and_says_so() -> None:
    times = np.array([0, 1, 2, 100, 101, 102], np.int64) * S
    spans = counted(times, np.array([5, 6, np.nan, 106, 3, 4.0]))
    assert spans.energy_j.tolist() == [1, 100, 1]  # what lies before the reset is not known
    bins = Bins()
    bins.add(spans)
    rows = list(bins.windows(3600, Flag.COUNTER))
    assert rows[0].energy_s == 101
    assert rows[0].sampled_s == 2
    assert rows[0].flags == Flag.COUNTER | Flag.GAP


def test_bins_are_as_fine_as_the_data() -> None:
    for length_s, level_s in ((0.05, 1), (1, 1), (2, 60), (60, 60), (200, 3600), (9000, 3600)):
        bins = Bins()
        bins.add(Spans.of([(0, round(length_s * S), 1.0)]))
        assert bins.level_s == level_s


def test_many_seconds_become_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bins_module, "MAX_BINS", 100)
    bins = Bins()
    for hour in range(2):
        begin = hour * 3600
        bins.add(Spans.of([((begin + i) * S, (begin + i + 1) * S, 2.0) for i in range(3600)]))
    assert bins.level_s == 3600
    assert [w.energy_j for w in bins.windows(1, Flag(0))] == [7200, 7200]
    assert bins.energy_j == 14_400


def test_a_span_of_years_takes_hours_at_once() -> None:
    bins = Bins()
    bins.add(Spans.of([(0, 10**9 * S, 5.0)]))
    assert bins.level_s == 3600
    assert math.isclose(sum(w.energy_j or 0 for w in bins.windows(1, Flag(0))), 5.0)
