"""Values that a device cannot have, and sensors that contradict each other: what is believed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbontrack.ledger.window import Flag, Window
from carbontrack.meters.base import Device, Reading, Vitals
from carbontrack.record.clock import Clock
from carbontrack.record.doubts import Finding
from carbontrack.record.plausible import (
    SPAN_RULES,
    STRETCH_RULES,
    Belief,
    Limits,
    Span,
    Stretch,
    agree,
    broken_rule,
    broken_span_rule,
    energy_fault,
    limits_of,
    possible_vitals,
    power_fault,
)
from carbontrack.record.reduce import WindowBuilder
from carbontrack.units import NS_PER_MS, NS_PER_S
from carbontrack.vocabulary import DeviceKind, Quality

START_NS = 5 * NS_PER_S
GPU = Device(
    uuid="GPU-1",
    kind=DeviceKind.GPU,
    name="test",
    meter="test",
    quality=Quality.COUNTER,
    field="test",
    scope="gpu",
    rated_power_w=400.0,
    power_limit_w=400.0,
)
LIMITS = Limits(DeviceKind.GPU, 400.0)
BUSY = Vitals(util_pct=97.0)

Sensor = Callable[[float], float | None]  # of seconds since the start


def record(
    counter: Sensor,
    power: Sensor,
    seconds: float = 3.0,
    vitals: Vitals = BUSY,
    device: Device = GPU,
    late_s: float = 0.0,
) -> tuple[list[Window], list[Finding]]:
    """Ten polls a second, vitals each second, the first so long after the job's start."""
    begun_ns = START_NS - round(late_s * NS_PER_S)
    builder = WindowBuilder(device, Clock(1_700_000_000_000, START_NS), start_ns=begun_ns)
    windows: list[Window] = []
    last = None
    for i in range(round(seconds * 10) + 1):
        last = Reading(START_NS + i * 100 * NS_PER_MS, counter(i / 10), power(i / 10))
        if i < seconds * 10:
            windows += builder.add(last)
        if i % 10 == 0:
            builder.add_vitals(vitals)
    windows += builder.finish(START_NS + round(seconds * NS_PER_S), last)
    return windows, list(builder.findings())


def total_j(windows: Sequence[Window]) -> float:
    return sum(w.energy_j for w in windows if w.energy_j is not None)


def rules(findings: Sequence[Finding]) -> list[str]:
    return [finding.rule for finding in findings]


def watts(power_w: float) -> Sensor:
    return lambda _: power_w


def counts(power_w: float, origin_j: float = 1e6) -> Sensor:
    return lambda at_s: origin_j + power_w * at_s


def nothing(_: float) -> None:
    return None


def test_healthy_sensors_are_believed_and_nothing_is_said() -> None:
    windows, findings = record(counts(310.0), watts(300.0), 30.0)
    assert total_j(windows) == pytest.approx(310.0 * 30)
    assert findings == []
    assert {w.flags for w in windows} == {Flag.COUNTER}


def test_a_sample_far_above_the_limit_is_unknown() -> None:
    """3.7 MW for 150 ms in 3 s of 300 W, on a device without a counter."""
    windows, findings = record(nothing, lambda at_s: 3.7e6 if 1.0 <= at_s < 1.15 else 300.0)
    assert total_j(windows) == pytest.approx(900.0)
    assert max(w.power_max_w or 0 for w in windows) == 300.0
    assert rules(findings) == ["power-impossible"]
    assert "3,700,000 W" in findings[0].message
    assert [Flag.IMPLAUSIBLE in w.flags for w in windows] == [False, True, False]


def test_a_steady_power_above_what_the_device_can_draw_is_unknown() -> None:
    """593 W on a laptop's GPU that is limited to 150 W, at 0 % utilisation."""
    laptop = replace(GPU, quality=Quality.POWER, rated_power_w=150.0, power_limit_w=150.0)
    windows, findings = record(nothing, watts(593.0), 5.0, Vitals(util_pct=0.0), laptop)
    assert all(w.energy_j is None for w in windows)
    assert sum(w.sampled_s for w in windows) == 0
    assert any(Flag.IMPLAUSIBLE in w.flags for w in windows)
    assert rules(findings) == ["power-impossible"]


def test_a_counter_beside_an_impossible_power_is_believed() -> None:
    windows, findings = record(counts(250.0), watts(5000.0))
    assert total_j(windows) == pytest.approx(750.0)
    assert all(w.power_max_w == pytest.approx(250.0) for w in windows)
    assert rules(findings) == ["power-impossible"]


def test_a_counter_that_never_moves_is_not_believed_while_power_is_drawn() -> None:
    windows, findings = record(lambda _: 1e6, watts(300.0))
    assert total_j(windows) == pytest.approx(900.0)  # 250 mWh
    assert all(Flag.INTEGRAL | Flag.IMPLAUSIBLE in w.flags for w in windows)
    assert sum(w.sampled_s for w in windows) == pytest.approx(3.0)
    assert rules(findings) == ["counter-frozen"]


def test_a_counter_that_freezes_for_good_costs_no_energy() -> None:
    windows, findings = record(lambda at_s: 1e6 + 300.0 * min(at_s, 70.0), watts(300.0), 200.0)
    assert total_j(windows) == pytest.approx(300.0 * 200)
    assert rules(findings) == ["counter-frozen"]


def test_a_counter_that_thaws_is_believed_again() -> None:
    """It stood still for 20 s, and then went on as if it had not."""
    frozen: Sensor = lambda at_s: 1e6 + 300.0 * (at_s if not 5 < at_s < 25 else 5.0)  # noqa: E731
    windows, findings = record(frozen, watts(280.0), 60.0)
    assert total_j(windows) == pytest.approx(300.0 * 60)
    assert [(f.rule, f.ended) for f in findings] == [
        ("counter-frozen", False),
        ("counter-frozen", True),
    ]


@pytest.mark.parametrize("power", [nothing, watts(0.0)], ids=["no power", "0 W while busy"])
def test_a_counter_that_never_moves_alone_says_nothing(power: Sensor) -> None:
    windows, findings = record(lambda _: 1e6, power, 6.0, late_s=0.2)
    assert [w.energy_j for w in windows if w.energy_j is not None] == []
    assert sum(w.sampled_s for w in windows) == 0
    assert "counter-still" in rules(findings)


def test_a_counter_alone_that_thaws_has_counted_meanwhile() -> None:
    """It stood still for 3 s, and then went on as if it had not: what lay there is a gap."""
    frozen: Sensor = lambda at_s: 1e6 + 300.0 * (at_s if not 2 < at_s < 5 else 2.0)  # noqa: E731
    windows, findings = record(frozen, nothing, 10.0)
    assert total_j(windows) == pytest.approx(300.0 * 10)
    assert 6.5 < sum(w.sampled_s for w in windows) < 7.5
    assert rules(findings) == ["counter-still"]


def test_a_counter_alone_that_refreshes_each_second_is_watched() -> None:
    windows, findings = record(lambda at_s: 1e6 + 300.0 * (at_s // 1), nothing, 10.0)
    assert total_j(windows) == pytest.approx(300.0 * 10)
    assert sum(w.sampled_s for w in windows) == pytest.approx(10.0)
    assert findings == []


@pytest.mark.parametrize("period_s", [2.0, 4.0])
@pytest.mark.parametrize("seconds", [4.0, 6.0, 9.0])
def test_a_power_that_sticks_does_not_overrule_a_counter_that_was_right(
    period_s: float, seconds: float
) -> None:
    """350 W and 50 W in turn; power stays at 350 W from the first fall on, also at the end."""

    def true_w(at_s: float) -> float:
        return 350.0 if at_s % period_s < period_s / 2 else 50.0

    def counter(at_s: float) -> float:
        return 1e6 + sum(true_w(tenth / 10) for tenth in range(round(at_s * 10))) / 10

    stuck: Sensor = lambda at_s: true_w(at_s) if at_s < period_s / 2 else 350.0  # noqa: E731
    windows, _ = record(counter, stuck, seconds)
    assert total_j(windows) == pytest.approx(counter(seconds) - 1e6)


def test_a_counter_that_does_not_move_at_zero_power_is_believed() -> None:
    windows, findings = record(lambda _: 1e6, watts(0.0), vitals=Vitals(util_pct=0.0))
    assert total_j(windows) == 0
    assert {w.flags for w in windows} == {Flag.COUNTER}
    assert findings == []


def test_a_counter_that_jumps_forward_is_bridged_by_power() -> None:
    windows, findings = record(
        lambda at_s: 1e6 + 300.0 * at_s + (1e6 if at_s >= 1.5 else 0), watts(300.0)
    )
    assert total_j(windows) == pytest.approx(900.0)
    assert rules(findings) == ["counter-jump"]
    assert [Flag.IMPLAUSIBLE in w.flags for w in windows] == [False, True, False]


@pytest.mark.parametrize("factor", [1e3, 1e-3], ids=["a thousand times", "a thousandth"])
def test_a_counter_in_other_units_is_not_believed(factor: float) -> None:
    windows, findings = record(counts(300.0 * factor), watts(290.0), 30.0)
    assert total_j(windows) == pytest.approx(290.0 * 30)
    assert rules(findings) == (["counter-jump", "counter-fast"] if factor > 1 else ["counter-slow"])


def test_a_glitch_of_the_counter_costs_nothing() -> None:
    for glitch in (0.0, 1e12, -5.0, math.nan):
        windows, findings = record(
            lambda at_s, value=glitch: value if at_s == 1.5 else 1e6 + 300.0 * at_s, watts(300.0)
        )
        assert total_j(windows) == pytest.approx(900.0), glitch
        assert findings, glitch


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -40.0])
def test_a_power_that_is_no_power_is_unknown(value: float) -> None:
    windows, findings = record(nothing, lambda at_s: value if at_s == 1.5 else 300.0)
    assert total_j(windows) == pytest.approx(900.0)
    assert rules(findings) == ["power-impossible"]


def test_a_power_that_stands_still_while_the_counter_moves_is_said() -> None:
    windows, findings = record(
        lambda at_s: 1e6 + 150.0 * at_s + 50 * math.sin(at_s), watts(300.0), 25.0
    )
    assert total_j(windows) == pytest.approx(150.0 * 25 + 50 * math.sin(25.0))
    assert rules(findings) == ["power-frozen"]
    assert Flag.IMPLAUSIBLE in windows[-1].flags


@pytest.mark.parametrize("counter", [0.5, 0.6, 1.6, 1.9])
@pytest.mark.parametrize("seconds", [25.0, 6.0])
def test_sensors_that_differ_by_much_for_long_are_said(counter: float, seconds: float) -> None:
    """As a counter in other units than power's: nobody knows which is right."""
    power = 190.0
    windows, findings = record(
        counts(counter * power), lambda at_s: power - 0.5 + (at_s % 1), seconds
    )
    assert total_j(windows) == pytest.approx(counter * power * seconds)
    assert rules(findings) == ["sensors-disagree"]


@pytest.mark.parametrize("counter", [0.75, 1.0, 1.3])
def test_sensors_that_differ_as_honest_ones_do_are_not_said(counter: float) -> None:
    _, findings = record(counts(counter * 190.0), lambda at_s: 189.5 + (at_s % 1), 25.0)
    assert findings == []


def test_a_power_above_the_limit_for_long_is_said_and_believed() -> None:
    windows, findings = record(counts(600.0), watts(600.0), 25.0)
    assert total_j(windows) == pytest.approx(15_000.0)
    assert rules(findings) == ["above-limit"]


def test_a_limit_that_is_raised_while_the_job_runs_is_used() -> None:
    builder = WindowBuilder(GPU, Clock(0, START_NS), start_ns=START_NS)
    for i in range(50):
        if i == 20:
            builder.use_limits(replace(GPU, power_limit_w=700.0))
        builder.add(Reading(START_NS + i * 100 * NS_PER_MS, None, 900.0))
    assert rules(builder.findings()) == ["power-impossible"]
    windows = builder.finish(START_NS + 5 * NS_PER_S)
    assert windows[-1].energy_j == pytest.approx(900.0)


def test_time_that_goes_backwards_counts_once() -> None:
    builder = WindowBuilder(GPU, Clock(0, 0), start_ns=0)
    windows: list[Window] = []
    for i in [*range(20), 12, 13, 5, *range(20, 31)]:
        windows += builder.add(Reading(i * 100 * NS_PER_MS, 1e6 + 30.0 * i, 300.0))
    windows += builder.finish(3 * NS_PER_S)
    assert total_j(windows) == pytest.approx(900.0)
    assert [w.start_ms for w in windows] == sorted({w.start_ms for w in windows})


def test_a_device_that_is_swapped_for_another_is_a_reset_or_a_jump() -> None:
    for other_j in (5e3, 9e9):
        windows, findings = record(
            lambda at_s, other=other_j: (1e6 if at_s < 1.5 else other) + 300.0 * at_s, watts(300.0)
        )
        assert total_j(windows) == pytest.approx(900.0)
        assert rules(findings) == ["counter-reset" if other_j < 1e6 else "counter-jump"]


def test_what_is_simulated_or_estimated_is_taken_as_it_is() -> None:
    for quality in (Quality.SIMULATED, Quality.ESTIMATE):
        device = replace(GPU, quality=quality)
        assert limits_of(device) is None
        windows, findings = record(counts(1e6), watts(1e6), device=device)
        assert total_j(windows) == pytest.approx(3e6)
        assert findings == []


def test_the_limits_of_a_share_are_those_of_the_whole_device() -> None:
    mig = replace(GPU, share=2 / 7, mig_parent="GPU-0", power_limit_w=400 * 2 / 7)
    shared = limits_of(mig)
    assert shared is not None
    assert shared.limit_w == pytest.approx(400.0)
    assert limits_of(replace(GPU, power_limit_w=None, rated_power_w=None)) == Limits(DeviceKind.GPU)


def test_a_rule_that_applies_at_every_poll_is_said_once() -> None:
    _, findings = record(nothing, lambda at_s: 9e6 if round(10 * at_s) % 5 == 1 else 300.0, 300.0)
    assert rules(findings) == ["power-impossible"]


def test_vitals_that_cannot_be_are_unknown() -> None:
    odd = Vitals(300.0, 2**60, 65_535.0, -1.0, throttle=4)
    assert possible_vitals(odd) == Vitals(throttle=4)
    fine = Vitals(97.0, 60 * 2**30, 61.0, 1410.0, throttle=4)
    assert possible_vitals(fine) == fine
    assert possible_vitals(Vitals(util_pct=math.nan)) == Vitals()


# ---- the rules, for any values -------------------------------------------------------------------

positive = st.floats(0, 1e9, allow_nan=False)
stretches = st.builds(
    Stretch,
    length_ns=st.integers(NS_PER_MS, 100 * NS_PER_S),
    counted_j=st.floats(allow_nan=True),
    held_j=st.none() | positive,
    util_pct=st.none() | st.floats(0, 100),
    slack_ns=st.sampled_from([0, NS_PER_S]),
)
limits = st.builds(Limits, st.sampled_from(list(DeviceKind)), st.none() | st.floats(1, 3000))


@given(limits, stretches)
def test_what_is_believed_of_the_counter_is_possible(of: Limits, stretch: Stretch) -> None:
    rule = broken_rule(of, stretch)
    if rule is None:
        longest_s = (stretch.length_ns + stretch.slack_ns) / NS_PER_S
        assert 0 <= stretch.counted_j <= of.ceiling_w * longest_s
        assert stretch.counted_j > 0 or not stretch.held_j
    else:
        assert rule in STRETCH_RULES
        if rule.belief is Belief.COUNTER:
            assert (
                0 < stretch.counted_j <= of.ceiling_w * (stretch.length_ns + stretch.slack_ns) / 1e9
            )


@given(limits, stretches)
def test_the_quick_look_never_believes_what_a_rule_refuses(of: Limits, stretch: Stretch) -> None:
    if agree(of, stretch.length_ns, stretch.counted_j, stretch.held_j):
        assert broken_rule(of, stretch) is None


@given(limits, st.floats(allow_nan=True), st.none() | st.floats(0, 100))
def test_what_is_believed_of_power_is_possible(
    of: Limits, power_w: float, util_pct: float | None
) -> None:
    if power_fault(of, power_w, util_pct) is None:
        assert 0 <= power_w <= of.ceiling_w


@given(st.floats(allow_nan=True))
def test_what_is_believed_of_a_counter_is_a_number_from_0(energy_j: float) -> None:
    assert (energy_fault(energy_j) is None) == (0 <= energy_j < math.inf)


@given(limits, st.integers(0, 100 * NS_PER_S), positive, positive, positive)
def test_sensors_that_say_the_same_break_no_rule_of_contradiction(
    of: Limits, length_ns: int, energy_j: float, low_w: float, high_w: float
) -> None:
    span = Span(length_ns, energy_j, length_ns, energy_j, energy_j, low_w, high_w)
    rule = broken_span_rule(of, span)
    assert rule is None or rule is SPAN_RULES[-1]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["fine", "fine", "fine", "reset", "jump", "frozen", "missing", "nan"]),
            st.sampled_from(["fine", "fine", "fine", "huge", "negative", "missing", "nan"]),
        ),
        min_size=2,
        max_size=60,
    )
)
def test_no_fault_of_a_sensor_makes_energy_that_cannot_be(faults: list[tuple[str, str]]) -> None:
    """Whatever both sensors do, no window is negative, or above what the device can draw."""
    builder = WindowBuilder(GPU, Clock(0, 0), start_ns=0)
    windows: list[Window] = []
    origin_j, frozen_j = 1e6, None
    for i, (counter, power) in enumerate(faults):
        origin_j += {"reset": -9e5, "jump": 1e6}.get(counter, 0.0)
        energy_j: float | None = max(origin_j, 0.0) + 30.0 * i
        if counter == "frozen":
            energy_j = frozen_j if frozen_j is not None else energy_j
        frozen_j = energy_j
        energy_j = {"missing": None, "nan": math.nan}.get(counter, energy_j)
        power_w = {"huge": 1e7, "negative": -3.0, "missing": None, "nan": math.nan}.get(
            power, 300.0
        )
        windows += builder.add(Reading(i * 100 * NS_PER_MS, energy_j, power_w))
    windows += builder.finish(len(faults) * 100 * NS_PER_MS)
    for window in windows:
        assert 0 <= window.energy_s <= 1 + 1e-9
        # A counter without a time of its own may be as much as a second late.
        assert 0 <= (window.energy_j or 0.0) <= 2 * LIMITS.ceiling_w
    assert all(a.start_ms < b.start_ms for a, b in pairwise(windows))
