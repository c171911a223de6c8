"""What was found wrong with the sensors of one device, as its readings pass by.

`SensorCheck` applies the rules of `plausible.py`: it takes out values that cannot be, says which
sensor to believe, and keeps a list of findings, one when a rule begins to apply and one when it no
longer does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from carbontrack.meters.base import Device, Reading, Vitals
from carbontrack.record.plausible import (
    FAST,
    JUMP,
    LEAST_SPAN_NS,
    RESET,
    SPAN_NS,
    STILL,
    Belief,
    Limits,
    Rule,
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
from carbontrack.record.seconds import PowerRange
from carbontrack.units import NS_PER_S
from carbontrack.vocabulary import Doubt

# A rule that has not applied for so long has ended.
_QUIET_NS = 15 * NS_PER_S


class Finding(NamedTuple):
    """A rule began to apply to a sensor, or no longer does."""

    rule: Doubt
    message: str
    at_ns: int
    ended: bool = False


@dataclass(slots=True)
class _Doubt:
    message: str
    since_ns: int
    seen_ns: int
    confirm_ns: int
    reported: bool = False


class _Doubts:
    """The rules that apply now, so that each is said once and not at every poll."""

    def __init__(self) -> None:
        self.active: dict[Doubt, _Doubt] = {}
        self.findings: list[Finding] = []

    def see(self, rule: Doubt, message: str, at_ns: int, *, confirm_ns: int = 0) -> None:
        """A rule applies at `at_ns`; it is said when it has applied for `confirm_ns`."""
        doubt = self.active.setdefault(rule, _Doubt(message, at_ns, at_ns, confirm_ns))
        doubt.seen_ns = at_ns
        if not doubt.reported and at_ns - doubt.since_ns >= doubt.confirm_ns:
            doubt.reported = True
            self.findings.append(Finding(rule, doubt.message, doubt.since_ns))

    def forget_unsaid(self) -> None:
        """What was seen but never confirmed turned out to be nothing."""
        self.active = {rule: doubt for rule, doubt in self.active.items() if doubt.reported}

    def review(self, now_ns: int) -> None:
        """End the rules that have not applied for a while."""
        for rule, doubt in list(self.active.items()):
            if now_ns - doubt.seen_ns >= _QUIET_NS:
                del self.active[rule]
                if doubt.reported and doubt.seen_ns > doubt.since_ns:  # more than a moment
                    self.findings.append(Finding(rule, "believed again", doubt.seen_ns, ended=True))


class _OpenSpan(PowerRange):
    """What both sensors say of the seconds since the last look at a longer time."""

    def __init__(self) -> None:
        super().__init__()
        self.length_ns = 0
        self.energy_j = 0.0
        self.compared_ns = 0
        self.counted_j = 0.0
        self.held_j = 0.0

    def add(self, length_ns: int, energy_j: float, held_j: float | None) -> None:
        self.length_ns += length_ns
        self.energy_j += energy_j
        if held_j is not None:
            self.compared_ns += length_ns
            self.counted_j += energy_j
            self.held_j += held_j

    def whole(self) -> Span:
        return Span(
            self.length_ns,
            self.energy_j,
            self.compared_ns,
            self.counted_j,
            self.held_j,
            self.power_min_w,
            self.power_max_w,
        )


class SensorCheck:
    """Checks the readings of one device, in order. A simulation or an estimate is taken as it is,
    except that a counter which goes backwards adds no energy.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._limits: Limits | None = limits_of(device)
        self._util_pct: float | None = None
        self._doubts = _Doubts()
        self._span = _OpenSpan()
        self._power_w: float | None = None  # the last one that was believed
        self._power_since_ns = 0  # since when it is that
        self._has_agreed = False  # whether both sensors have
        self.odd = False  # the last longer time broke a rule, though each value was possible

    def reading(self, reading: Reading) -> tuple[Reading, bool]:
        """The reading, with None for a value that cannot be; and whether there was one."""
        limits, doubts = self._limits, self._doubts
        if doubts.active:
            doubts.review(reading.time_ns)
        if limits is None:
            return reading, False
        faults = 0
        if reading.power_w is not None:
            fault = power_fault(limits, reading.power_w, self._util_pct)
            if fault is None:
                self._span.note(reading.power_w)
                if reading.power_w != self._power_w:
                    self._power_w, self._power_since_ns = reading.power_w, reading.time_ns
            else:
                faults += 1
                doubts.see(Doubt.POWER_IMPOSSIBLE, fault, reading.time_ns)
                reading = replace(reading, power_w=None)
        if reading.energy_j is not None and (fault := energy_fault(reading.energy_j)):
            faults += 1
            doubts.see(Doubt.COUNTER_IMPOSSIBLE, fault, reading.time_ns)
            reading = replace(reading, energy_j=None, energy_time_ns=None)
        return reading, faults > 0

    def limits(self, device: Device) -> None:
        """Use the limits that the device has now."""
        if device is not self._device:
            self._device, self._limits = device, limits_of(device)

    def vitals(self, vitals: Vitals) -> Vitals:
        """The vitals, with None for a value that cannot be."""
        if self._limits is None:
            return vitals
        possible = possible_vitals(vitals)
        self._util_pct = possible.util_pct
        return possible

    def agree(self, at_ns: int, length_ns: int, counted_j: float, held_j: float | None) -> bool:
        """Whether the counter's difference is to be believed without a look at the rules."""
        limits = self._limits
        if limits is None:
            return counted_j >= 0
        if not agree(limits, length_ns, counted_j, held_j):
            return False
        if self._doubts.active:
            self._doubts.forget_unsaid()
        self._has_agreed = self._has_agreed or held_j is not None
        self._watch(at_ns, length_ns, counted_j, held_j)
        return True

    def still(self, at_ns: int, stretch: Stretch) -> bool:
        """Whether the counter, which is alone, only has not moved yet."""
        if self._limits is None or not STILL.applies(self._limits, stretch):
            return False
        self._doubts.see(STILL.name, STILL.message, at_ns, confirm_ns=STILL.confirm_ns)
        return True

    def stretch(self, at_ns: int, stretch: Stretch) -> Rule | None:
        """The rule that the counter's difference breaks; None if it is to be believed."""
        if self._limits is None:
            return RESET if stretch.counted_j < 0 else None
        rule = broken_rule(
            self._limits,
            stretch._replace(
                util_pct=self._util_pct,
                power_still_ns=at_ns - self._power_since_ns,
                has_agreed=self._has_agreed,
            ),
        )
        if rule is not None:
            for seen in (rule, FAST) if rule is JUMP else (rule,):
                self._doubts.see(seen.name, seen.message, at_ns, confirm_ns=seen.confirm_ns)
        if rule is not None and rule.belief is not Belief.COUNTER:
            return rule
        self._doubts.forget_unsaid()
        self._watch(at_ns, stretch.length_ns, stretch.counted_j, stretch.held_j)
        return None

    def mean_power_w(self, readings: Sequence[Reading]) -> float | None:
        """By the counter where it is to be believed, else of the samples; None if unknown."""
        powers_w = [r.power_w for r in readings if r.power_w is not None]
        power_w = sum(powers_w) / len(powers_w) if powers_w else None
        counted = [(r.placed_ns, r.energy_j) for r in readings if r.energy_j is not None]
        rising = [energy_j for _, energy_j in counted]
        length_ns = counted[-1][0] - counted[0][0] if counted else 0
        if length_ns <= 0 or rising != sorted(rising):
            return power_w
        held_j = None if power_w is None else power_w * length_ns / NS_PER_S
        stretch = Stretch(length_ns, rising[-1] - rising[0], held_j, self._util_pct)
        of = self._limits
        if of is not None and (STILL.applies(of, stretch) or broken_rule(of, stretch) is not None):
            return power_w
        return stretch.counted_w

    def integral(self, at_ns: int, length_ns: int, held_j: float) -> None:
        """A stretch that has only power."""
        if self._limits is not None:
            self._watch(at_ns, length_ns, held_j, None)

    def silent(self, at_ns: int) -> None:
        """The counter has not answered for longer than energy waits for it."""
        message = "energy counter does not answer; power is believed"
        self._doubts.see(Doubt.COUNTER_SILENT, message, at_ns)

    def finish(self, at_ns: int) -> None:
        """There are no more readings: look at what there is of a longer time."""
        if self._span.length_ns >= LEAST_SPAN_NS:
            self._look(at_ns)

    def findings(self) -> Sequence[Finding]:
        """What was found since the last call."""
        found, self._doubts.findings = self._doubts.findings, []
        return found

    def _watch(self, at_ns: int, length_ns: int, energy_j: float, held_j: float | None) -> None:
        """Look at a longer time whenever one is full."""
        self._span.add(length_ns, energy_j, held_j)
        if self._span.length_ns >= SPAN_NS:
            self._look(at_ns)

    def _look(self, at_ns: int) -> None:
        span, self._span = self._span.whole(), _OpenSpan()
        rule = None if self._limits is None else broken_span_rule(self._limits, span)
        self.odd = rule is not None
        if rule is not None:
            self._doubts.see(rule.name, rule.message, at_ns)
