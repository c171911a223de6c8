"""The reduction from readings to windows: energy is kept, time is kept, nothing is invented."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.ledger.window import LEVELS_S, Flag, Pyramid, Window, merge
from carbontrack.meters.base import Device, Reading, Vitals
from carbontrack.record.clock import Clock
from carbontrack.record.reduce import MAX_EDGE_NS, WindowBuilder
from carbontrack.units import NS_PER_S
from carbontrack.vocabulary import DeviceKind, Quality

START_NS = 5 * NS_PER_S
CLOCK = Clock(anchor_ms=1_700_000_000_250, anchor_ns=START_NS)  # a quarter second into a second


def device(quality: Quality = Quality.COUNTER, share: float = 1.0) -> Device:
    return Device(
        uuid="GPU-1",
        kind=DeviceKind.GPU,
        name="test",
        meter="test",
        quality=quality,
        field="test",
        scope="gpu",
        mig_parent="GPU-0" if share < 1 else None,
        share=share,
    )


def reading(at_s: float, power_w: float | None, energy_j: float | None = None) -> Reading:
    return Reading(time_ns=START_NS + round(at_s * NS_PER_S), energy_j=energy_j, power_w=power_w)


def windows_of(
    readings: Sequence[Reading], end_s: float, last: Reading | None = None, share: float = 1.0
) -> list[Window]:
    builder = WindowBuilder(device(share=share), CLOCK, start_ns=START_NS)
    windows = [window for r in readings for window in builder.add(r)]
    return windows + builder.finish(START_NS + round(end_s * NS_PER_S), last)


def total_j(windows: Sequence[Window]) -> float:
    return sum(w.energy_j for w in windows if w.energy_j is not None)


def test_windows_are_aligned_to_wall_clock_seconds() -> None:
    windows = windows_of([reading(i / 10, 100.0) for i in range(31)], 3.0)
    assert [w.start_ms % 1000 for w in windows] == [0] * len(windows)
    assert windows[0].start_ms == 1_700_000_000_000
    # The first holds only the three quarters of a second that belong to the run.
    assert windows[0].energy_s == pytest.approx(0.75)
    assert [w.energy_s for w in windows[1:-1]] == pytest.approx([1.0, 1.0])


def test_counter_difference_is_the_energy_whatever_the_samples_say() -> None:
    readings = [reading(i / 10, 500.0, energy_j=1e6 + 12.0 * i) for i in range(51)]
    windows = windows_of(readings, 5.0)
    assert total_j(windows) == pytest.approx(600.0)
    assert all(Flag.COUNTER in w.flags for w in windows)
    assert {w.power_max_w for w in windows} == {500.0}


def test_without_counter_power_is_held_not_interpolated() -> None:
    # A pulse that the sensor shows at one reading lasts until the next reading: 10 kW for 0.6 s.
    powers = [0.0, 10_000.0, 0.0, 0.0]
    windows = windows_of([reading(0.6 * i, p) for i, p in enumerate(powers)], 1.8)
    assert total_j(windows) == pytest.approx(6_000.0)
    assert all(Flag.INTEGRAL in w.flags for w in windows)


def test_repeated_sensor_values_count_for_as_long_as_they_are_shown() -> None:
    readings = [reading(i / 10, 100.0 if i < 20 else 300.0) for i in range(41)]
    assert total_j(windows_of(readings, 4.0)) == pytest.approx(100 * 2 + 300 * 2)


def test_counter_reset_is_bridged_by_power_and_flagged() -> None:
    counter = [1000.0, 1010.0, 1020.0, 4.0, 14.0]
    builder = WindowBuilder(device(), CLOCK, start_ns=START_NS)
    windows: list[Window] = []
    for i, energy_j in enumerate(counter):
        windows += builder.add(reading(i / 10, 100.0, energy_j))
    windows += builder.finish(START_NS + round(0.4 * NS_PER_S))
    assert total_j(windows) == pytest.approx(40.0)
    assert [f.rule for f in builder.findings()] == ["counter-reset"]
    assert any(Flag.COUNTER_RESET in w.flags for w in windows)


def test_gap_without_counter_is_unknown_not_zero() -> None:
    readings = [reading(i / 10, 100.0) for i in range(11)]
    readings += [reading(10 + i / 10, 100.0) for i in range(11)]
    windows = windows_of(readings, 11.0)
    assert total_j(windows) == pytest.approx(200.0)
    assert sum(w.sampled_s for w in windows) == pytest.approx(2.0)
    inside = [w for w in windows if 1_700_000_002_000 <= w.start_ms < 1_700_000_010_000]
    assert inside == []


def test_gap_with_counter_keeps_the_energy_but_not_the_coverage() -> None:
    readings = [reading(i / 10, 100.0, 10.0 * i) for i in range(11)]
    readings += [reading(10 + i / 10, 100.0, 1000.0 + 10.0 * i) for i in range(11)]
    windows = windows_of(readings, 11.0)
    assert total_j(windows) == pytest.approx(1100.0)
    assert sum(w.energy_s for w in windows) == pytest.approx(11.0)
    assert sum(w.sampled_s for w in windows) == pytest.approx(2.0)
    assert any(Flag.GAP in w.flags for w in windows)


def test_readings_without_a_value_make_no_energy() -> None:
    assert windows_of([reading(i / 10, None) for i in range(21)], 2.0) == []


def test_a_reading_that_fails_now_and_then_costs_nothing_with_a_counter() -> None:
    readings = [
        reading(i / 10, None if i % 3 == 1 else 100.0, None if i % 3 == 1 else 10.0 * i)
        for i in range(31)
    ]
    windows = windows_of(readings, 3.0)
    assert total_j(windows) == pytest.approx(300.0)
    assert all(Flag.COUNTER in w.flags for w in windows)


def test_the_counter_is_taken_at_the_drivers_time() -> None:
    # Refreshed every 100 ms, read 70 ms later: the energy up to the end is bridged with power.
    readings = [
        Reading(
            time_ns=START_NS + round((i / 10 + 0.07) * NS_PER_S),
            energy_j=30.0 * i,
            power_w=300.0,
            energy_time_ns=START_NS + round(i / 10 * NS_PER_S),
        )
        for i in range(21)
    ]
    windows = windows_of(readings[:-1], 2.07, readings[-1])
    assert total_j(windows) == pytest.approx(300.0 * 2.07)
    assert Flag.BRIDGED in windows[-1].flags


def test_a_counter_that_has_not_moved_on_waits_for_the_next_reading() -> None:
    readings = [
        Reading(
            START_NS + i * NS_PER_S // 10, 50.0 * (i // 5), 100.0, START_NS + i // 5 * NS_PER_S // 2
        )
        for i in range(21)
    ]
    assert total_j(windows_of(readings, 2.0)) == pytest.approx(200.0)


def test_start_and_end_are_bridged_and_flagged() -> None:
    windows = windows_of([reading(0.4 + i / 10, 200.0) for i in range(11)], 1.8)
    assert total_j(windows) == pytest.approx(200.0 * 1.8)
    assert Flag.BRIDGED in windows[0].flags
    assert Flag.BRIDGED in windows[-1].flags


def test_the_start_is_bridged_by_the_counter_and_not_by_one_sample() -> None:
    """A sensor that sees a quarter of the time may show the peak of a wave as its first sample."""
    readings = [reading(0.2 + i / 10, 400.0, 250.0 * i / 10) for i in range(21)]
    assert total_j(windows_of(readings, 2.2)) == pytest.approx(250.0 * 2.2)
    few = [reading(0.2, 400.0, 0.0)]  # a job of an instant: the reading at its end decides
    assert total_j(windows_of(few, 0.4, reading(0.4, 400.0, 50.0))) == pytest.approx(250.0 * 0.4)


def test_slow_sampling_is_no_gap_but_what_it_misses_is() -> None:
    builder = WindowBuilder(device(), CLOCK, start_ns=START_NS, period_ns=5 * NS_PER_S)
    windows = [w for at_s in (0, 5, 10, 15, 35) for w in builder.add(reading(at_s, 100.0))]
    windows += builder.finish(START_NS + 35 * NS_PER_S)
    assert total_j(windows) == pytest.approx(100.0 * 15)
    assert sum(w.sampled_s for w in windows) == pytest.approx(15)


def test_a_start_that_took_too_long_is_not_invented() -> None:
    late_s = MAX_EDGE_NS / NS_PER_S + 0.5
    windows = windows_of([reading(late_s + i / 10, 200.0) for i in range(11)], late_s + 1)
    assert total_j(windows) == pytest.approx(200.0)


def test_start_before_a_meter_that_first_gives_a_counter_only() -> None:
    windows = windows_of([reading(0.5 + i / 10, None, 7.0 * i) for i in range(11)], 1.5)
    assert total_j(windows) == pytest.approx(70.0 * 1.5)
    assert all(w.sampled_s <= 1.0 + 1e-9 for w in windows)


def test_the_last_reading_counts_only_up_to_the_end_of_the_job() -> None:
    last = reading(2.0, 100.0, 200.0)
    windows = windows_of([reading(i / 10, 100.0, 10.0 * i) for i in range(11)], 1.5, last)
    assert total_j(windows) == pytest.approx(150.0)


def test_a_share_of_a_parent_takes_its_part_of_everything() -> None:
    windows = windows_of([reading(i / 10, 700.0) for i in range(11)], 1.0, share=2 / 7)
    assert total_j(windows) == pytest.approx(200.0)
    assert windows[-1].power_max_w == pytest.approx(200.0)
    assert all(Flag.APPORTIONED in w.flags for w in windows)


@pytest.mark.parametrize(
    ("quality", "flag"),
    [(Quality.SIMULATED, Flag.SIMULATED), (Quality.ESTIMATE, Flag.ESTIMATE)],
)
def test_what_is_not_measured_says_so_in_every_window(quality: Quality, flag: Flag) -> None:
    builder = WindowBuilder(device(quality), CLOCK, start_ns=START_NS)
    windows = [w for i in range(31) for w in builder.add(reading(i / 10, 50.0, 5.0 * i))]
    assert windows
    assert all(flag in w.flags for w in windows)


def test_vitals_are_kept_once_a_second() -> None:
    builder = WindowBuilder(device(), CLOCK, start_ns=START_NS)
    builder.add(reading(0, 100.0))
    for util in (40.0, 60.0):
        vitals = Vitals(util_pct=util, memory_used_bytes=8 << 30, temperature_c=61.0, throttle=4)
        builder.add_vitals(vitals)
    (window,) = builder.finish(START_NS + NS_PER_S // 2)
    assert (window.util_pct, window.vitals, window.throttle) == (50.0, 2, 4)
    assert window.memory_max_bytes == 8 << 30
    assert window.sm_clock_mhz is None


steps_s = st.lists(st.floats(0.01, 0.9), min_size=2, max_size=60)
powers_w = st.floats(0, 1000)


@given(steps_s, st.data())
def test_energy_and_time_are_conserved(lengths_s: list[float], data: st.DataObject) -> None:
    at_s, expected_j, readings = 0.0, 0.0, []
    for length_s in lengths_s:
        power_w = data.draw(powers_w)
        readings.append(reading(at_s, power_w))
        expected_j += power_w * length_s
        at_s += length_s
    readings.append(reading(at_s, 0.0))
    windows = windows_of(readings, at_s)
    assert total_j(windows) == pytest.approx(expected_j, abs=6e-4)
    assert all(w.energy_j is None or w.energy_j == round(w.energy_j, 3) for w in windows)
    assert sum(w.energy_s for w in windows) == pytest.approx(at_s, abs=6e-4)
    starts = [w.start_ms for w in windows]
    assert starts == sorted(set(starts)), "no window overlaps another"
    assert all(0 <= w.energy_s <= 1 + 1e-9 for w in windows)


@given(st.lists(st.tuples(st.floats(0.01, 2.5), st.floats(0, 900)), min_size=2, max_size=40))
def test_the_mean_of_a_window_lies_between_its_extremes(steps: list[tuple[float, float]]) -> None:
    """Also where power is a counter's difference since a reading in an earlier second."""
    at_s = energy_j = 0.0
    readings = [reading(0.0, 0.0, 0.0)]
    for length_s, power_w in steps:
        at_s, energy_j = at_s + length_s, energy_j + power_w * length_s
        readings.append(reading(at_s, power_w, energy_j))
    for window in windows_of(readings, at_s):
        if window.power_mean_w is not None:
            assert window.power_min_w is not None
            assert window.power_max_w is not None
            assert window.power_min_w <= window.power_mean_w * (1 + 1e-9)
            assert window.power_mean_w <= window.power_max_w * (1 + 1e-9)


@given(st.lists(st.tuples(st.integers(0, 9_000), powers_w), min_size=1, max_size=80))
def test_every_level_of_the_pyramid_has_the_same_total(spec: list[tuple[int, float]]) -> None:
    pyramid = Pyramid()
    seconds = []
    for second, power_w in sorted(dict(spec).items()):
        builder = WindowBuilder(device(), Clock(second * 1000, 0), start_ns=0)
        builder.add(Reading(0, None, power_w))
        seconds += builder.finish(NS_PER_S)
    coarse: dict[tuple[int, int], Window] = {}
    for window in seconds:
        pyramid.add(window)
        coarse |= {(w.level_s, w.start_ms): w for w in pyramid.take_changed()}
    for level_s in LEVELS_S[1:]:
        level = [w for w in coarse.values() if w.level_s == level_s]
        assert total_j(level) == pytest.approx(total_j(seconds), rel=1e-12, abs=1e-9)
        assert sum(w.samples for w in level) == sum(w.samples for w in seconds)
        assert max(w.power_max_w or 0 for w in level) == max(w.power_max_w or 0 for w in seconds)


@given(st.lists(st.integers(0, 100), min_size=20, max_size=80))
def test_a_late_driver_timestamp_moves_no_energy_to_another_second(ages_ms: list[int]) -> None:
    readings = [
        Reading(
            time_ns=(at := START_NS + i * NS_PER_S // 10),
            energy_j=250.0 * (at - age * 1_000_000 - START_NS) / NS_PER_S,
            power_w=250.0,
            energy_time_ns=at - age * 1_000_000,
        )
        for i, age in enumerate(ages_ms)
    ]
    end_s = (len(ages_ms) - 1) / 10
    windows = windows_of(readings[:-1], end_s, readings[-1])
    assert total_j(windows) == pytest.approx(250.0 * end_s)
    assert all(w.energy_s <= 1 + 1e-9 for w in windows)
    assert all(w.power_mean_w == pytest.approx(250.0) for w in windows if w.energy_s > 0)


def test_merging_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing"):
        merge([], start_ms=0, level_s=60)
