"""From readings to windows of one second: the reduction that everything downstream is built on.

Pure: a `WindowBuilder` takes the readings of one device in order and gives back windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from carbontrack.ledger.window import Flag, Window
from carbontrack.meters.base import Device, Reading, Vitals
from carbontrack.record.doubts import Finding, SensorCheck
from carbontrack.record.means import Means
from carbontrack.record.plausible import RESET, Belief, Stretch
from carbontrack.record.seconds import Seconds
from carbontrack.units import NS_PER_MS, NS_PER_S
from carbontrack.vocabulary import Quality

# Two readings farther apart than this, and than some periods of a slow sampling, are a gap: power
# is not held across it.
MAX_HOLD_NS = 1 * NS_PER_S
_HELD_PERIODS = 2.5
# Where there is a counter: its difference is the energy however long it did not answer; a time
# without any answer that is longer than this, and than so many periods, was not watched.
MAX_HOLE_NS = 2 * NS_PER_S
_HOLE_PERIODS = 20
# How long energy may wait for a counter that does not answer while power does, or that is not
# believed. Then the integral of power stands.
MAX_WAIT_NS = 60 * NS_PER_S
_WAIT_PERIODS = 60
# Between the job's start and the first reading (the recorder's own start-up), and between the last
# reading and the job's end, the nearest power is taken, up to this long.
MAX_EDGE_NS = 2 * NS_PER_S
# The power before the first reading is the mean of as long after it, at least of this.
EDGE_LOOK_NS = NS_PER_S // 4
# How old a counter's value may be: with the driver's own time of it, and without.
_STAMPED_SLACK_NS = 100 * NS_PER_MS
_UNSTAMPED_SLACK_NS = 1 * NS_PER_S
_NO_FLAG, _COUNTER = Flag(0), Flag.COUNTER  # to make or to look up one takes a while


@dataclass(frozen=True, slots=True)
class Clock:
    """Wall-clock time anchored once: later steps of the system clock do not move the windows."""

    anchor_ms: int
    anchor_ns: int

    def wall_ns(self, monotonic_ns: int) -> int:
        return self.anchor_ms * NS_PER_MS + monotonic_ns - self.anchor_ns


class WindowBuilder:
    """Reduces the readings of one device, in order of time, to windows of one second.

    Readings come every `period_ns` or thereabouts. Where the counter answers, energy is its
    difference since it last answered, however many polls failed in between, and it lies there as
    power did. Else it is the earlier power held until the later reading, or, of a reading that is a
    mean over its span, that mean.
    """

    def __init__(
        self, device: Device, clock: Clock, *, start_ns: int, period_ns: int = NS_PER_S // 10
    ) -> None:
        base = _NO_FLAG
        if device.quality is Quality.ESTIMATE:
            base |= Flag.ESTIMATE
        if device.quality is Quality.SIMULATED:
            base |= Flag.SIMULATED
        if device.mig_parent is not None:
            base |= Flag.APPORTIONED
        self._seconds = Seconds(wall_ns=clock.wall_ns(0), share=device.share, base=base)
        self._check = SensorCheck(device)
        self._start_ns = start_ns
        self._until_ns: int | None = None  # the job's end, once it is known
        self._hold_ns = max(MAX_HOLD_NS, round(_HELD_PERIODS * period_ns))
        self._hole_ns = max(MAX_HOLE_NS, _HOLE_PERIODS * period_ns)
        self._wait_ns = max(MAX_WAIT_NS, _WAIT_PERIODS * period_ns)
        self._begun = False
        self._first: list[Reading | Vitals] = []  # until they say what came before them
        self._known_ns: int | None = None  # up to here energy is known, or waits
        self._power_w: float | None = None  # from there on
        self._power_ns = 0  # when it was read
        self._counter_ns = 0  # when the counter last answered
        self._counter_j: float | None = None
        self._implausible = _NO_FLAG  # of what waits
        self._to_flag = False  # the next second that is reached
        self._noted_ns = -1
        self._means = Means()

    def add(self, reading: Reading) -> list[Window]:
        """Take the next reading; give the seconds that it completes."""
        if self._begun:
            self._account(reading)
        elif _is_known(reading):
            self._first.append(reading)
            first_ns = _readings(self._first)[0].placed_ns
            if reading.time_ns - first_ns >= max(EDGE_LOOK_NS, first_ns - self._start_ns):
                self._begin(reading.time_ns)
        return self._seconds.take()

    def use_limits(self, device: Device) -> None:
        """Judge what comes by the limits that the device has now."""
        self._check.limits(device)

    def add_vitals(self, vitals: Vitals) -> None:
        """Keep vitals with the newest reading's second."""
        if self._begun:
            self._seconds.add_vitals(self._check.vitals(vitals))
        else:
            self._first.append(vitals)

    @property
    def complete_ns(self) -> int | None:
        """Up to when the seconds are complete; None before the first."""
        return self._seconds.complete_ns

    def waiting(self) -> tuple[list[Window], list[Window]]:
        """The complete seconds whose energy still waits for the counter, with power's integral
        instead; and those of them that were not given like that before.
        """
        return self._seconds.waiting_windows()

    def findings(self) -> Sequence[Finding]:
        """What was found wrong with a sensor since the last call."""
        return self._check.findings()

    def finish(self, end_ns: int, last: Reading | None = None) -> list[Window]:
        """End at `end_ns` (the job's end), with one reading at or after it if there is one."""
        if not self._begun:
            self._begin(end_ns, last)
        self._until_ns = end_ns
        if last is not None:
            self._advance(self._check.reading(last)[0])
        if self._seconds.waiting:
            self._settle_by_power()
        self._bridge_end(end_ns)
        self._known_ns = None
        self._seconds.close()
        return self._seconds.take()

    # ---- edges --------------------------------------------------------------------------------

    def _begin(self, until_ns: int, last: Reading | None = None) -> None:
        """Fill the recorder's start-up with the mean power of the first readings, then go on.

        One power sample would not do: many sensors see a quarter of the time, or less.
        """
        self._begun = True
        first, self._first = self._first, []
        for item in first:
            if isinstance(item, Vitals):
                self._check.vitals(item)
        known = [self._check.reading(r)[0] for r in _readings([*first, *([last] if last else [])])]
        known = [reading for reading in known if _is_known(reading)]
        power_w = self._check.mean_power_w(known)
        if power_w is not None:
            self._bridge(self._start_ns, min(known[0].placed_ns, until_ns), power_w)
        for item in first:
            if isinstance(item, Vitals):
                self._seconds.add_vitals(self._check.vitals(item))
            else:
                self._account(item)

    def _bridge_end(self, end_ns: int) -> None:
        """Fill what lies between the last known energy and the job's end."""
        if self._known_ns is None or self._power_w is None:
            return
        rest = self._means.rest()
        if rest is not None and rest[0] > self._known_ns:
            newest_ns, self._power_w = rest
            self._spread(self._known_ns, newest_ns, self._power_w, Flag.INTEGRAL)
            self._known_ns = newest_ns
        self._bridge(self._known_ns, end_ns, self._power_w)

    def _bridge(self, start_ns: int, end_ns: int, power_w: float) -> None:
        if 0 < end_ns - start_ns <= max(MAX_EDGE_NS, self._hold_ns):
            self._spread(start_ns, end_ns, power_w, Flag.BRIDGED | Flag.INTEGRAL)

    # ---- between two readings -----------------------------------------------------------------

    def _account(self, reading: Reading) -> None:
        reading, rejected = self._check.reading(reading)
        self._to_flag |= rejected or self._check.odd
        if _is_known(reading):  # else it failed; the next one is measured against the one before
            self._advance(reading)
            self._note_power(reading)
        elif not rejected or not self._has_ended(reading.time_ns):
            return  # what lies before it may still be filled
        if self._to_flag and reading.placed_ns >= self._start_ns:
            self._seconds.flag(reading.placed_ns, Flag.IMPLAUSIBLE)
            self._to_flag = False

    def _has_ended(self, at_ns: int) -> bool:
        """Whether nothing before this time can be known any more: the values since are refused."""
        if self._counter_j is None and at_ns - (self._known_ns or 0) > self._hold_ns:
            self._known_ns = None
        return self._known_ns is None

    def _advance(self, reading: Reading) -> None:
        """Account for the time from what is known to this reading, or let it wait."""
        if not _is_known(reading):
            return
        at_ns = reading.placed_ns
        if self._counter_j is None:
            self._advance_by_power(reading, at_ns)
        elif reading.energy_j is None:
            self._advance_without_counter(reading, at_ns)
        else:
            self._advance_by_counter(reading, at_ns, self._counter_j)

    def _advance_by_power(self, reading: Reading, at_ns: int) -> None:
        """There is no counter, or it has not answered yet."""
        if reading.span_ns:
            self._advance_by_mean(reading, at_ns)
        elif self._known_ns is None or at_ns > self._known_ns:
            if (power_w := self._power_until(at_ns, self._hold_ns)) is not None:
                self._integrate(at_ns, power_w)
            self._know(reading, at_ns)
        if reading.energy_j is not None:
            ahead_j = (self._power_w or 0.0) * (self._known - at_ns) / NS_PER_S
            self._counter_j, self._counter_ns = reading.energy_j + ahead_j, self._known

    def _advance_by_mean(self, reading: Reading, middle_ns: int) -> None:
        """A power that is the mean over a span: its energy lies there if the spans follow each
        other; if they overlap, it is one point of a line through the middles of the spans.
        """
        span_ns, power_w = reading.span_ns, reading.power_w
        begin_ns, end_ns = middle_ns - span_ns // 2, middle_ns + span_ns // 2
        if power_w is None:
            return
        if self._known_ns is not None and begin_ns >= self._known_ns - span_ns // 8:
            self._means.clear()
            before_w = self._power_until(begin_ns, self._hold_ns)
            if before_w is not None and begin_ns > self._known_ns:
                self._integrate(begin_ns, before_w)
            self._known_ns = max(begin_ns, self._known_ns)
            self._integrate(end_ns, power_w)
            self._know(reading, end_ns)
        elif self._known_ns is None or middle_ns > self._known_ns:
            self._means.add(middle_ns, span_ns, power_w)
            self._integrate(middle_ns, ((self._power_w or power_w) + power_w) / 2)
            self._know(reading, middle_ns)

    def _integrate(self, to_ns: int, power_w: float) -> None:
        """Power from what is known up to here."""
        if self._known_ns is not None:
            self._spread(self._known_ns, to_ns, power_w, Flag.INTEGRAL)
            length_ns = to_ns - self._known_ns
            self._check.integral(to_ns, length_ns, power_w * length_ns / NS_PER_S)
            self._known_ns = to_ns

    def _advance_without_counter(self, reading: Reading, at_ns: int) -> None:
        """The counter does not answer, power does: its energy waits."""
        if at_ns <= self._known:
            return
        if at_ns - self._known <= self._wait_ns:
            self._hold(at_ns)
        if at_ns - self._counter_ns > self._wait_ns:
            self._check.silent(at_ns)
            self._settle_by_power()
            self._counter_j = None
        self._know(reading, at_ns)

    def _advance_by_counter(self, reading: Reading, at_ns: int, counter_j: float) -> None:
        if at_ns <= self._counter_ns:
            return  # the counter has not moved on since
        # It may be dated before what power has said already: power tells how it went on from there.
        to_ns = max(at_ns, self._known)
        ahead_j = (self._power_w or 0.0) * (to_ns - at_ns) / NS_PER_S
        energy_j = (reading.energy_j or 0.0) + ahead_j
        stamped = reading.energy_time_ns is not None
        slack_ns = _STAMPED_SLACK_NS if stamped else _UNSTAMPED_SLACK_NS
        length_ns = to_ns - self._counter_ns
        held_j = self._held_until(to_ns)
        counted_j = energy_j - counter_j
        rule = None
        if not self._check.agree(at_ns, length_ns, counted_j, held_j):
            rule = self._check.stretch(at_ns, Stretch(length_ns, counted_j, held_j, None, slack_ns))
        waits = rule is not None and rule.belief is Belief.WAIT and length_ns <= self._wait_ns
        if rule is None:
            self._settle_by_counter(counted_j, to_ns)
        else:
            self._hold(to_ns)
            if rule is RESET:
                self._implausible = Flag.COUNTER_RESET
            elif length_ns > slack_ns or not waits:
                self._implausible = Flag.IMPLAUSIBLE
        if not waits:
            if rule is not None:
                self._settle_by_power()
            self._counter_j, self._counter_ns = energy_j, to_ns
        self._know(reading, to_ns)

    def _settle_by_counter(self, counted_j: float, to_ns: int) -> None:
        if self._seconds.waiting:
            self._implausible = _NO_FLAG
            self._hold(to_ns)
            self._seconds.settle(counted_j, _COUNTER)
            return
        known_ns = self._known_ns or 0
        length_ns = to_ns - known_ns
        power_w = counted_j * NS_PER_S / length_ns
        if length_ns <= self._hole_ns:
            self._spread(known_ns, to_ns, power_w, _COUNTER)
        else:
            self._spread(known_ns, to_ns, power_w, Flag.COUNTER | Flag.GAP, sampled=False)

    def _settle_by_power(self) -> None:
        self._seconds.settle_by_power(Flag.INTEGRAL | self._implausible)
        self._implausible = _NO_FLAG

    def _held_until(self, to_ns: int) -> float | None:
        """The integral of power since the counter last answered; None if power is unknown."""
        waiting_j = self._seconds.held_j if self._seconds.waiting else None
        power_w = self._power_until(to_ns, self._hole_ns)
        if power_w is None:
            return waiting_j
        return (waiting_j or 0.0) + power_w * (to_ns - self._known) / NS_PER_S

    def _hold(self, to_ns: int) -> None:
        """Let the time up to here wait for the counter."""
        if to_ns <= self._known:
            return
        power_w = self._power_until(to_ns, self._hole_ns)
        begin_ns, end_ns = self._inside(self._known, to_ns)
        if end_ns > begin_ns:
            self._seconds.hold(begin_ns, end_ns, power_w)
        outside_ns = to_ns - self._known - max(end_ns - begin_ns, 0)
        if outside_ns:
            self._seconds.hold_outside(outside_ns, power_w)

    def _power_until(self, to_ns: int, longest_ns: int) -> float | None:
        """The power since the last known one; None if that is too long ago."""
        return self._power_w if to_ns - self._power_ns <= longest_ns else None

    def _know(self, reading: Reading, at_ns: int) -> None:
        """Go on from this reading."""
        self._known_ns = at_ns
        if reading.power_w is not None:
            self._power_w, self._power_ns = reading.power_w, at_ns

    @property
    def _known(self) -> int:
        assert self._known_ns is not None
        return self._known_ns

    def _inside(self, from_ns: int, to_ns: int) -> tuple[int, int]:
        """The part within the job: the first reading may be older than it, the last one newer."""
        if from_ns < self._start_ns:
            from_ns = self._start_ns
        if self._until_ns is not None and to_ns > self._until_ns:
            to_ns = self._until_ns
        return from_ns, to_ns

    def _spread(
        self, from_ns: int, to_ns: int, power_w: float, flag: Flag, *, sampled: bool = True
    ) -> None:
        begin_ns, end_ns = self._inside(from_ns, to_ns)
        if end_ns > begin_ns:
            energy_j = power_w * (end_ns - begin_ns) / NS_PER_S
            self._seconds.spread(begin_ns, end_ns, energy_j, flag, sampled=sampled)

    def _note_power(self, reading: Reading) -> None:
        """Count a sample, unless it repeats one that was counted."""
        if reading.time_ns != self._noted_ns and reading.placed_ns >= self._start_ns:
            self._noted_ns = reading.time_ns
            # Placed where its energy is, so that seconds are filled in order.
            self._seconds.note(reading.placed_ns, reading.power_w)


def _is_known(reading: Reading) -> bool:
    return reading.energy_j is not None or reading.power_w is not None


def _readings(items: Iterable[Reading | Vitals]) -> list[Reading]:
    return [item for item in items if isinstance(item, Reading)]
