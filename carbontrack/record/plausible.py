"""Which sensor values to believe: rules on one value, and on what both sensors say of one stretch.

Pure functions of the device's limits, both sensors, the utilisation and time. A driver may answer
"success" with a power that the device cannot draw, or with a counter that stands still; the tables
of rules below say what is believed then; `doubts.py` applies them to the readings of one device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple, TypeVar

from carbontrack.meters.base import Device, Vitals
from carbontrack.units import NS_PER_S
from carbontrack.vocabulary import DeviceKind, Doubt, Quality

T = TypeVar("T", int, float)

# No board draws more than this times its power limit for as long as a sensor can see.
_IMPOSSIBLE_TIMES = 2.0
# Where no limit is known: several times what any of the kind draws (a GB300 module: 2,900 W; a node
# of eight B200: 14.3 kW).
_CEILING_W = {
    DeviceKind.GPU: 20_000.0,
    DeviceKind.CPU: 5_000.0,
    DeviceKind.DRAM: 5_000.0,
    DeviceKind.NODE: 60_000.0,
}
# A counter and a power sensor read apart, and a sensor may see 25 of 100 ms: over a short time they
# differ honestly, but not by this factor.
_APART_TIMES = 5.0
_BUSY_PCT = 50.0
_ASLEEP_SHARE = 0.01  # of the power limit: less than any GPU draws that is powered
# The rules on a longer time.
SPAN_NS = 10 * NS_PER_S
LEAST_SPAN_NS = 3 * NS_PER_S  # of a job that is shorter
_DISAGREE_SHARE = 0.35
_FROZEN_SHARE = 0.25
_DISAGREE_W = 20.0  # idle sensors differ by much of little
_ABOVE_LIMIT_TIMES = 1.25
# A counter that stands still is named after this time: a slow one may only be about to refresh.
_CONFIRM_NS = 1 * NS_PER_S
_TEMPERATURE_C = (-50.0, 150.0)
_MAX_MEMORY_BYTES = 2**42
_MAX_CLOCK_MHZ = 10_000.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a device can draw, in W; for a MIG instance, the whole GPU. None if unknown."""

    kind: DeviceKind
    limit_w: float | None = None
    ceiling_w: float = field(init=False)  # no power above it is true, nor a counter that rose so

    def __post_init__(self) -> None:
        limited = self.kind is DeviceKind.GPU and self.limit_w is not None
        ceiling_w = _IMPOSSIBLE_TIMES * (self.limit_w or 0.0) if limited else _CEILING_W[self.kind]
        object.__setattr__(self, "ceiling_w", ceiling_w)


def limits_of(device: Device) -> Limits | None:
    """The limits of a device that is measured; None for an estimate or a simulation."""
    if device.quality not in (Quality.COUNTER, Quality.POWER):
        return None
    limit_w = device.power_limit_w or device.rated_power_w
    known = limit_w is not None and limit_w / device.share >= 1
    return Limits(device.kind, limit_w / device.share if known and limit_w else None)


class Belief(StrEnum):
    """What to take as the energy of a stretch. Nothing that is stored, printed or given."""

    COUNTER = "counter"
    POWER = "power"
    WAIT = "wait"  # for the counter to move on; if it never does, power


class Stretch(NamedTuple):
    """What both sensors say of the time between two readings of the counter, whole board."""

    length_ns: int
    counted_j: float  # the counter's difference
    held_j: float | None  # the integral of power; None if unknown
    util_pct: float | None = None
    slack_ns: int = 0  # by which the counter's refresh may be misdated
    power_still_ns: int = 0  # how long power has not changed by a mW
    has_agreed: bool = False  # whether both sensors ever said about the same

    @property
    def counted_w(self) -> float:
        return self.counted_j * NS_PER_S / max(self.length_ns, 1)


class Rule(NamedTuple):
    """When both sensors cannot be right, and which one is believed then."""

    name: Doubt
    applies: Callable[[Limits, Stretch], bool]
    belief: Belief
    message: str
    confirm_ns: int = 0  # said once it has applied for so long


def _reset(limits: Limits, stretch: Stretch) -> bool:
    return stretch.counted_j < 0


def _jump(limits: Limits, stretch: Stretch) -> bool:
    longest_s = (stretch.length_ns + stretch.slack_ns) / NS_PER_S
    return not stretch.counted_j <= limits.ceiling_w * longest_s


def _frozen(limits: Limits, stretch: Stretch) -> bool:
    return stretch.counted_j == 0 and (stretch.held_j or 0.0) > 0


def _power_stuck(limits: Limits, stretch: Stretch) -> bool:
    """Power and a counter that was right have parted, and it is power that does not move."""
    stuck = stretch.has_agreed and stretch.power_still_ns >= _CONFIRM_NS
    return stuck and _slow(limits, stretch)


def _slow(limits: Limits, stretch: Stretch) -> bool:
    """A fifth of what power says, on a device that is busy, or that could not even be on."""
    if (stretch.held_j or 0.0) <= _APART_TIMES * stretch.counted_j:
        return False
    busy = stretch.util_pct is not None and stretch.util_pct >= _BUSY_PCT
    return busy or stretch.counted_w < _ASLEEP_SHARE * (limits.limit_w or 0.0)


_POWER_STILL = "power stands still; the energy counter is believed"
# The first that applies decides; if none does, the counter is believed.
STRETCH_RULES = (
    Rule(
        Doubt.COUNTER_RESET,
        _reset,
        Belief.POWER,
        "energy counter went backwards; power filled in",
    ),
    Rule(
        Doubt.COUNTER_JUMP,
        _jump,
        Belief.POWER,
        "energy counter rose faster than the device can draw; power is believed",
    ),
    Rule(
        Doubt.COUNTER_FROZEN,
        _frozen,
        Belief.WAIT,
        "energy counter stands still while power is drawn; power is believed",
        _CONFIRM_NS,
    ),
    Rule(
        Doubt.POWER_FROZEN,
        _power_stuck,
        Belief.COUNTER,
        _POWER_STILL,
    ),
    Rule(
        Doubt.COUNTER_SLOW,
        _slow,
        Belief.WAIT,
        "energy counter rises by less than a fifth of what power says; power is believed",
        _CONFIRM_NS,
    ),
)
RESET, JUMP = STRETCH_RULES[:2]
# A counter that jumps once is believed afterwards; one that always does counts in other units.
FAST = Rule(
    Doubt.COUNTER_FAST,
    _jump,
    Belief.POWER,
    "energy counter always rises faster than the device can draw; power is believed",
    _CONFIRM_NS,
)
# What makes the energy of a device that of its power sensor for long, and so its quality.
BY_POWER = frozenset(
    {Doubt.COUNTER_FROZEN, Doubt.COUNTER_SLOW, Doubt.COUNTER_FAST, Doubt.COUNTER_SILENT}
)


STILL = Rule(
    Doubt.COUNTER_STILL,
    lambda limits, stretch: (
        limits.kind is DeviceKind.GPU and stretch.counted_j == 0 and stretch.held_j is None
    ),
    Belief.WAIT,
    "energy counter stands still and there is no power; what is drawn is unknown",
    2 * _CONFIRM_NS,
)
"""Alone, a counter that has not moved yet says nothing: no GPU that is on draws nothing."""


def agree(limits: Limits, length_ns: int, counted_j: float, held_j: float | None) -> bool:
    """Whether no rule can be broken, as nearly always: asked at every poll, so cheaply."""
    return (
        0 < counted_j <= limits.ceiling_w * length_ns / NS_PER_S
        and (held_j or 0.0) <= _APART_TIMES * counted_j
    )


def broken_rule(limits: Limits, stretch: Stretch) -> Rule | None:
    """The rule that the counter's difference breaks; None if it is believed."""
    return next((rule for rule in STRETCH_RULES if rule.applies(limits, stretch)), None)


class Span(NamedTuple):
    """What both sensors said of some seconds, and which powers were seen, whole board."""

    length_ns: int
    energy_j: float  # what was believed
    compared_ns: int = 0  # of it, where both sensors spoke
    counted_j: float = 0.0  # there, by the counter
    held_j: float = 0.0  # and by power
    power_min_w: float | None = None
    power_max_w: float | None = None


class SpanRule(NamedTuple):
    """What is odd over a longer time, though each reading was possible."""

    name: Doubt
    applies: Callable[[Limits, Span], bool]
    message: str


def _differ(span: Span, share: float) -> bool:
    apart_j = abs(span.counted_j - span.held_j)
    least_j = _DISAGREE_W * span.compared_ns / NS_PER_S
    return apart_j > max(share * max(span.counted_j, span.held_j), least_j)


def _power_frozen(limits: Limits, span: Span) -> bool:
    same = span.power_min_w is not None and span.power_min_w == span.power_max_w
    return same and _differ(span, _FROZEN_SHARE)


def _disagree(limits: Limits, span: Span) -> bool:
    return _differ(span, _DISAGREE_SHARE)


def _above_limit(limits: Limits, span: Span) -> bool:
    if limits.limit_w is None or limits.kind is not DeviceKind.GPU:
        return False
    return span.energy_j * NS_PER_S / span.length_ns > _ABOVE_LIMIT_TIMES * limits.limit_w


SPAN_RULES = (
    SpanRule(
        Doubt.POWER_FROZEN,
        _power_frozen,
        _POWER_STILL,
    ),
    SpanRule(Doubt.SENSORS_DISAGREE, _disagree, "energy counter and power differ by a "
             "third; the counter is believed"),
    SpanRule(Doubt.ABOVE_LIMIT, _above_limit, "draws more than its power limit for long; believed"),
)  # fmt: skip


def broken_span_rule(limits: Limits, span: Span) -> SpanRule | None:
    """The first rule that the span breaks; None if nothing is odd."""
    if span.length_ns <= 0:
        return None
    return next((rule for rule in SPAN_RULES if rule.applies(limits, span)), None)


def power_fault(limits: Limits, power_w: float, util_pct: float | None = None) -> str | None:
    """Why a power is not believed; None if it is."""
    if 0 < power_w <= limits.ceiling_w:
        return None
    if not math.isfinite(power_w):
        return "power is not a number; it counts as unknown"
    if power_w < 0:
        return "power is negative; it counts as unknown"
    if power_w > limits.ceiling_w:
        return f"power of {power_w:,.0f} W is more than the device can draw; it counts as unknown"
    if util_pct is not None and util_pct >= _BUSY_PCT:
        return "power is 0 W while the device is busy; it counts as unknown"
    return None


def energy_fault(energy_j: float) -> str | None:
    """Why the value of a counter is not believed; None if it is."""
    if energy_j >= 0 and math.isfinite(energy_j):
        return None
    return "energy counter is negative or not a number; it counts as unknown"


def possible_vitals(vitals: Vitals) -> Vitals:
    """The vitals, with None for what cannot be: 300 % busy, 65,535 °C, an exabyte."""
    return replace(
        vitals,
        util_pct=_within(vitals.util_pct, 0, 100),
        memory_used_bytes=_within(vitals.memory_used_bytes, 0, _MAX_MEMORY_BYTES),
        temperature_c=_within(vitals.temperature_c, *_TEMPERATURE_C),
        sm_clock_mhz=_within(vitals.sm_clock_mhz, 0, _MAX_CLOCK_MHZ),
    )


def _within(value: T | None, low: float, high: float) -> T | None:
    return value if value is not None and low <= value <= high else None
