"""The edges of a job: what its first and last moments used, where the driver knows it."""

from __future__ import annotations

import pytest

from carbontrack.ledger.window import Flag, Window
from carbontrack.meters.base import Device, Reading
from carbontrack.record.clock import Clock
from carbontrack.record.reduce import WindowBuilder
from carbontrack.units import NS_PER_MS, NS_PER_S
from carbontrack.vocabulary import DeviceKind, Quality
from tests.fixtures.nvml import Wave

CLOCK = Clock(1_700_000_000_000, 0)
AVERAGE_S = 1.0
SAMPLE_S = 0.02


def device(quality: Quality) -> Device:
    return Device(
        uuid="GPU-1",
        kind=DeviceKind.GPU,
        name="test",
        meter="test",
        quality=quality,
        field="test",
        scope="gpu",
        power_limit_w=700.0,
    )


def ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)


def mean_w(wave: Wave, from_s: float, to_s: float) -> float:
    return (wave.energy_j(to_s) - wave.energy_j(from_s)) / (to_s - from_s)


def samples(wave: Wave, from_s: float, to_s: float) -> list[Reading]:
    """The driver's own, of 20 ms each."""
    first, last = round(from_s / SAMPLE_S), round(to_s / SAMPLE_S - 0.5)
    return [
        Reading(
            ns(i * SAMPLE_S),
            None,
            mean_w(wave, (i - 1) * SAMPLE_S, i * SAMPLE_S),
            span_ns=ns(SAMPLE_S),
        )
        for i in range(first, last + 1)
    ]


def counted(wave: Wave, at_s: float) -> Reading:
    """A poll of an A100: counter of 20 ms, and 25 ms of every 100 of power."""
    counter_s, power_s = at_s - at_s % 0.02, at_s - at_s % 0.1
    return Reading(
        ns(at_s),
        1e6 + wave.energy_j(counter_s),
        mean_w(wave, power_s - 0.025, power_s),
        ns(counter_s),
    )


def averaged(wave: Wave, at_s: float) -> Reading:
    """A poll of an H100 without a counter: the mean over a second, given ten times in it."""
    stamp_s = at_s - at_s % 0.1
    watts = mean_w(wave, stamp_s - AVERAGE_S, stamp_s)
    return Reading(ns(at_s), None, watts, ns(stamp_s), ns(AVERAGE_S))


def windows_of(
    quality: Quality, readings: list[Reading], start_s: float, end_s: float
) -> list[Window]:
    builder = WindowBuilder(device(quality), CLOCK, start_ns=ns(start_s))
    windows: list[Window] = []
    for reading in readings:
        if reading.time_ns >= ns(end_s):
            return windows + builder.finish(ns(end_s), reading)
        windows += builder.add(reading)
    return windows + builder.finish(ns(end_s))


def error(wave: Wave, windows: list[Window], start_s: float, end_s: float) -> float:
    true_j = wave.energy_j(end_s) - wave.energy_j(start_s)
    return sum(w.energy_j or 0.0 for w in windows) / true_j - 1


PHASES = [i / 23 for i in range(23)]


def polls(start_s: float, end_s: float) -> list[float]:
    """Ten a second, the first when a recorder has started, the last just after the end."""
    count = int((end_s - start_s - 0.23) / 0.1) + 1
    return [*(start_s + 0.23 + i / 10 for i in range(count)), end_s + 0.004]


@pytest.mark.parametrize("phase", PHASES)
def test_what_came_before_the_first_poll_is_read_from_the_drivers_samples(phase: float) -> None:
    """8 s under a wave of 0.9 s: bridged, its first quarter of a second errs by some per cent."""
    wave = Wave("square", 250.0, 150.0, 0.9, 0.9 * phase)
    start_s, end_s = 7.313 + phase, 15.313 + phase
    before = samples(wave, start_s - 2.1, start_s + 0.23)
    readings = [*before, *(counted(wave, at_s) for at_s in polls(start_s, end_s))]
    windows = windows_of(Quality.COUNTER, readings, start_s, end_s)
    # The counter's last refresh before the end is up to 20 ms old: 0.15 % of 8 s at most.
    assert error(wave, windows, start_s, end_s) == pytest.approx(0, abs=0.0025)
    assert Flag.BRIDGED not in windows[0].flags
    assert windows[0].start_ms == 1_700_000_000_000 + int(start_s) * 1000
    assert sum(w.sampled_s for w in windows) == pytest.approx(8.0)


@pytest.mark.parametrize("phase", PHASES)
def test_without_a_counter_the_drivers_samples_are_the_energy(phase: float) -> None:
    wave = Wave("square", 250.0, 150.0, 0.13, 0.13 * phase)
    start_s, end_s = 7.313 + phase, 15.313 + phase
    readings = samples(wave, start_s - 2.1, end_s + 0.02)
    windows = windows_of(Quality.POWER, readings, start_s, end_s)
    assert error(wave, windows, start_s, end_s) == pytest.approx(0, abs=0.002)
    assert {w.samples for w in windows[1:-1]} == {50}


@pytest.mark.parametrize("phase", PHASES)
def test_a_mean_over_a_second_is_placed_in_the_second_before_its_stamp(phase: float) -> None:
    wave = Wave("square", 250.0, 150.0, 17.0, 17.0 * phase)
    start_s, end_s = 7.313, 47.313
    readings = [averaged(wave, at_s) for at_s in polls(start_s, end_s)]
    windows = windows_of(Quality.POWER, readings, start_s, end_s)
    assert error(wave, windows, start_s, end_s) == pytest.approx(0, abs=0.003)
    assert sum(w.sampled_s for w in windows) == pytest.approx(40.0)


def test_a_step_of_power_is_found_where_it_was() -> None:
    """100 W until 20 s and 400 W from there: a held mean would be half a second late."""
    wave = Wave("square", 250.0, -150.0, 40.0)
    readings = [averaged(wave, at_s) for at_s in polls(3.0, 30.0)]
    windows = windows_of(Quality.POWER, readings, 3.0, 30.0)
    energies = {(w.start_ms - 1_700_000_000_000) // 1000: w.energy_j for w in windows}
    assert energies[18] == pytest.approx(100.0)
    assert (energies[19] or 0) + (energies[20] or 0) == pytest.approx(500.0, abs=1)
    assert energies[21] == pytest.approx(400.0)


def test_samples_that_stop_are_a_gap() -> None:
    wave = Wave("constant", 250.0, 0.0, 1.0)
    readings = [*samples(wave, 0.5, 4.0), *samples(wave, 7.0, 9.0)]
    windows = windows_of(Quality.POWER, readings, 1.0, 9.0)
    assert sum(w.energy_j or 0.0 for w in windows) == pytest.approx(250.0 * 5, abs=10)
    assert sum(w.sampled_s for w in windows) == pytest.approx(5.0, abs=0.05)


def test_samples_may_reach_beyond_the_counters_first_refresh() -> None:
    """The counter is as old as its refresh; what the samples know since is not counted twice."""
    wave = Wave("constant", 250.0, 0.0, 1.0)
    readings = samples(wave, 0.0, 1.2)
    for i in range(30):
        at_s = 1.2 + i / 10
        readings.append(Reading(ns(at_s), 250.0 * (at_s - 0.09), 250.0, ns(at_s - 0.09)))
    windows = windows_of(Quality.COUNTER, readings, 1.0, 4.1)
    assert sum(w.energy_j or 0.0 for w in windows) == pytest.approx(250.0 * 3.1)
    assert all(w.energy_s <= 1 + 1e-9 for w in windows)


def test_a_job_of_an_instant_is_read_from_the_samples_alone() -> None:
    wave = Wave("square", 250.0, 150.0, 0.1)
    readings = [*samples(wave, 0.0, 3.0), counted(wave, 3.01)]
    windows = windows_of(Quality.COUNTER, readings, 2.9, 3.0 - 1 / NS_PER_MS)
    assert error(wave, windows, 2.9, 3.0) == pytest.approx(0, abs=0.02)
