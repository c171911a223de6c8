"""A counter that misses readings stays a counter: what lies between two good ones is known."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbontrack.ledger.window import LEVELS_S, Flag, Pyramid, Window
from carbontrack.meters.base import Device, Reading
from carbontrack.record.clock import Clock
from carbontrack.record.energy import MAX_WAIT_NS
from carbontrack.record.reduce import WindowBuilder
from carbontrack.units import NS_PER_MS, NS_PER_S
from carbontrack.vocabulary import DeviceKind, Quality
from tests.fixtures.nvml import Wave

START_NS = 5 * NS_PER_S
CLOCK = Clock(anchor_ms=1_700_000_000_250, anchor_ns=START_NS)
GPU = Device(
    uuid="GPU-1",
    kind=DeviceKind.GPU,
    name="test",
    meter="test",
    quality=Quality.COUNTER,
    field="test",
    scope="gpu",
    power_limit_w=400.0,
)
WAVE = Wave("square", 240.0, 140.0, 0.9, 0.13)  # 380 W and 100 W by turns


def true_j(seconds: float) -> float:
    return WAVE.energy_j(seconds) - WAVE.energy_j(0.0)


Fails = Callable[[int], tuple[bool, bool]]  # of poll number: the counter, the power


def polls(fails: Fails, seconds: float, hz: float = 10.0) -> Iterator[Reading]:
    """What a poll of an A100 gives: its counter refreshes every 20 ms, its power sensor sees 25 of
    every 100 ms.
    """
    for number in range(round(seconds * hz) + 1):
        at_s = number / hz
        counter_fails, power_fails = fails(number)
        counted_s, seen_s = at_s - at_s % 0.02, at_s - at_s % 0.1
        watts = (WAVE.energy_j(seen_s) - WAVE.energy_j(seen_s - 0.025)) / 0.025
        yield Reading(
            time_ns=START_NS + round(at_s * NS_PER_S),
            energy_j=None if counter_fails else 1e6 + WAVE.energy_j(counted_s),
            power_w=None if power_fails else watts,
            energy_time_ns=None if counter_fails else START_NS + round(counted_s * NS_PER_S),
        )


def windows_of(readings: list[Reading], device: Device = GPU, hz: float = 10.0) -> list[Window]:
    builder = WindowBuilder(device, CLOCK, start_ns=START_NS, period_ns=round(NS_PER_S / hz))
    windows = [window for reading in readings[:-1] for window in builder.add(reading)]
    return windows + builder.finish(readings[-1].time_ns, readings[-1])


def total_j(windows: list[Window]) -> float:
    return sum(window.energy_j or 0.0 for window in windows)


def by_chance(share: float, seed: int, what: str) -> Fails:
    """Failures of the counter's field, of power's, of both at once, or of both by turns."""
    chance = random.Random(seed)

    def fails(number: int) -> tuple[bool, bool]:
        hit = chance.random() < share and number > 0
        if what == "turns":
            return hit and number % 2 == 0, hit and number % 2 == 1
        return hit and what != "power", hit and what != "counter"

    return fails


@pytest.mark.parametrize("what", ["counter", "power", "call", "turns"])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_polls_that_fail_cost_neither_energy_nor_coverage(what: str, share: float) -> None:
    for seed in range(8):
        *readings, _ = polls(by_chance(share, seed, what), 20.1)
        *_, last = polls(lambda _: (False, False), 20.0)
        windows = windows_of([*readings[:-1], last])
        assert total_j(windows) == pytest.approx(true_j(20.0), rel=1e-3)
        assert sum(w.energy_s for w in windows) == pytest.approx(20.0)
        assert sum(w.sampled_s for w in windows) == pytest.approx(20.0)
        assert all(Flag.COUNTER in w.flags for w in windows)


def test_power_gives_the_shape_inside_the_hole() -> None:
    """Two seconds at 100 W, two at 300 W, and the counter answers before and after."""
    readings = [
        Reading(
            START_NS + i * 100 * NS_PER_MS,
            {0: 50.0, 40: 50.0 + 1.1 * 800}.get(i),  # its own gain: 10 % above the power sensor
            100.0 if i < 20 else 300.0,
        )
        for i in range(41)
    ]
    windows = windows_of(readings)
    assert total_j(windows) == pytest.approx(880.0)
    assert windows[1].power_mean_w == pytest.approx(110.0)
    assert windows[3].power_mean_w == pytest.approx(330.0)


def test_a_second_that_waits_is_written_with_powers_integral_and_again_when_it_is_known() -> None:
    builder = WindowBuilder(GPU, CLOCK, start_ns=START_NS)
    for i in range(46):
        counter = 250.0 * i / 10 if i <= 10 else None
        builder.add(Reading(START_NS + i * 100 * NS_PER_MS, counter, 200.0))
    known, fresh = builder.waiting()
    assert [w.start_ms - known[0].start_ms for w in known] == [0, 1000, 2000]
    assert fresh == known
    assert known[1].energy_j == pytest.approx(200.0)
    assert Flag.INTEGRAL in known[1].flags
    assert builder.waiting() == (known, []), "and not once more while nothing is new"
    (*_, second) = builder.add(Reading(START_NS + 4600 * NS_PER_MS, 1150.0, 200.0))
    assert second.energy_j == pytest.approx(250.0)
    assert second.flags == Flag.COUNTER
    assert builder.waiting() == ([], [])


def test_a_counter_that_never_comes_back_is_waited_for_only_so_long() -> None:
    builder = WindowBuilder(GPU, CLOCK, start_ns=START_NS)
    windows = []
    seconds = 3 * MAX_WAIT_NS // NS_PER_S
    for i in range(seconds * 10 + 1):
        counter = 20.0 * i if i < 10 else None
        windows += builder.add(Reading(START_NS + i * 100 * NS_PER_MS, counter, 200.0))
        assert len(builder.waiting()[0]) <= MAX_WAIT_NS // NS_PER_S + 1
    assert [finding.rule for finding in builder.findings()] == ["counter-silent"]
    windows += builder.finish(START_NS + seconds * NS_PER_S)
    assert total_j(windows) == pytest.approx(200.0 * seconds)
    assert sum(w.sampled_s for w in windows) == pytest.approx(seconds)


def test_a_job_that_ends_in_a_hole_has_powers_integral_there() -> None:
    readings = [
        Reading(START_NS + i * 100 * NS_PER_MS, 25.0 * i if i <= 15 else None, 200.0)
        for i in range(31)
    ]
    windows = windows_of(readings)
    assert total_j(windows) == pytest.approx(25.0 * 15 + 200.0 * 1.5)
    assert Flag.INTEGRAL in windows[-1].flags


def test_slow_sampling_misses_readings_too() -> None:
    for seed in range(4):
        *readings, _ = polls(by_chance(0.5, seed, "call"), 202, hz=0.5)
        *_, last = polls(lambda _: (False, False), 200, hz=0.5)
        windows = windows_of([*readings[:-1], last], hz=0.5)
        assert total_j(windows) == pytest.approx(true_j(200.0), rel=1e-3)
        assert sum(w.sampled_s for w in windows) == pytest.approx(200.0)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(0.02, 3.0)), min_size=3))
def test_between_two_good_readings_energy_is_the_difference(
    spec: list[tuple[bool, bool, float]],
) -> None:
    """Whatever failed in between, and at whatever distance the polls came."""
    at_s, readings = 0.0, [Reading(START_NS, 0.0, 240.0)]
    for counter_fails, power_fails, length_s in spec:
        at_s += length_s
        energy_j = None if counter_fails else true_j(at_s)
        power_w = None if power_fails else 240.0
        readings.append(Reading(START_NS + round(at_s * NS_PER_S), energy_j, power_w))
    at_s += 0.1
    end_j = true_j(at_s)
    readings.append(Reading(START_NS + round(at_s * NS_PER_S), end_j, 240.0))
    windows = windows_of(readings)
    assert total_j(windows) == pytest.approx(end_j, abs=6e-4)
    assert sum(w.energy_s for w in windows) == pytest.approx(at_s, abs=6e-4)
    starts = [w.start_ms for w in windows]
    assert starts == sorted(set(starts)), "no window overlaps another"
    assert all(0 <= w.energy_s <= 1 + 1e-9 for w in windows)
    for window in windows:
        if window.power_mean_w is not None:
            assert window.power_min_w is not None
            assert window.power_min_w <= window.power_mean_w * (1 + 1e-9)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.booleans(), min_size=20, max_size=300), st.integers(1, 40))
def test_every_level_has_the_same_total_at_every_commit(fails: list[bool], every: int) -> None:
    """Also while seconds wait: they are written, and again, with their minutes and hours."""
    builder = WindowBuilder(GPU, Clock(1_700_003_990_000, START_NS), start_ns=START_NS)
    pyramid, ledger = Pyramid(), {}
    for i, counter_fails in enumerate(fails):
        energy_j = None if counter_fails and i else 23.0 * i
        for second in builder.add(Reading(START_NS + i * 100 * NS_PER_MS, energy_j, 200.0)):
            pyramid.add(second)
            ledger[1, second.start_ms] = second
        if i % every == 0:
            known, fresh = builder.waiting()
            ledger |= {(1, second.start_ms): second for second in fresh}
            ledger |= {(w.level_s, w.start_ms): w for w in pyramid.take_changed(known)}
            totals = [
                sum(w.energy_j or 0.0 for w in ledger.values() if w.level_s == level_s)
                for level_s in LEVELS_S
            ]
            assert totals == pytest.approx([totals[0]] * len(LEVELS_S))
            samples = {
                sum(w.samples for w in ledger.values() if w.level_s == level_s)
                for level_s in LEVELS_S
            }
            assert len(samples) == 1
