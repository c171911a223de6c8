"""The energy between two readings of a device: the counter's difference, or the integral of power.

Pure: an `EnergyTrack` puts the energy of each stretch into `Seconds`, or lets it wait there.
"""

from __future__ import annotations

from carbontrack.ledger.window import Flag
from carbontrack.meters.base import Reading
from carbontrack.record.doubts import SensorCheck
from carbontrack.record.means import Means
from carbontrack.record.plausible import RESET, Belief, Stretch
from carbontrack.record.seconds import Seconds
from carbontrack.units import NS_PER_MS, NS_PER_S

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
# How old a counter's value may be: with the driver's own time of it, and without.
_STAMPED_SLACK_NS = 100 * NS_PER_MS
_UNSTAMPED_SLACK_NS = 1 * NS_PER_S
_NO_FLAG, _COUNTER = Flag(0), Flag.COUNTER  # to make or to look up one takes a while


class EnergyTrack:
    """Accounts for the time of one device, reading by reading, in order.

    Where the counter answers, energy is its difference since it last answered, however many polls
    failed in between, and it lies there as power did. Else it is the earlier power held until the
    later reading, or, of a reading that is a mean over its span, that mean.
    """

    def __init__(
        self, seconds: Seconds, check: SensorCheck, *, start_ns: int, period_ns: int
    ) -> None:
        self._seconds = seconds
        self._check = check
        self._start_ns = start_ns
        self.until_ns: int | None = None  # the job's end, once it is known
        self.hold_ns = max(MAX_HOLD_NS, round(_HELD_PERIODS * period_ns))
        self._hole_ns = max(MAX_HOLE_NS, _HOLE_PERIODS * period_ns)
        self._wait_ns = max(MAX_WAIT_NS, _WAIT_PERIODS * period_ns)
        self.known_ns: int | None = None  # up to here energy is known, or waits
        self._power_w: float | None = None  # from there on
        self._power_ns = 0  # when it was read
        self._counter_ns = 0  # when the counter last answered
        self._counter_j: float | None = None
        self._implausible = _NO_FLAG  # of what waits
        self._means = Means()

    def has_ended(self, at_ns: int) -> bool:
        """Whether nothing before this time can be known any more: the values since are refused."""
        if self._counter_j is None and at_ns - (self.known_ns or 0) > self.hold_ns:
            self.known_ns = None
        return self.known_ns is None

    def finish(self) -> tuple[int, float] | None:
        """What waits is settled by power, for no counter comes any more. Gives the end of what is
        known, and the power there; None if nothing is.
        """
        if self._seconds.waiting:
            self.settle_by_power()
        rest = self._means.rest()
        if rest is not None and self.known_ns is not None and rest[0] > self.known_ns:
            newest_ns, self._power_w = rest
            self.spread(self.known_ns, newest_ns, self._power_w, Flag.INTEGRAL)
            self.known_ns = newest_ns
        if self.known_ns is None or self._power_w is None:
            return None
        return self.known_ns, self._power_w

    def advance(self, reading: Reading, at_ns: int) -> None:
        """Account for the time from what is known to this reading, which is known and lies at
        `at_ns`, or let it wait.
        """
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
        elif self.known_ns is None or at_ns > self.known_ns:
            if (power_w := self._power_until(at_ns, self.hold_ns)) is not None:
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
        if self.known_ns is not None and begin_ns >= self.known_ns - span_ns // 8:
            self._means.clear()
            before_w = self._power_until(begin_ns, self.hold_ns)
            if before_w is not None and begin_ns > self.known_ns:
                self._integrate(begin_ns, before_w)
            self.known_ns = max(begin_ns, self.known_ns)
            self._integrate(end_ns, power_w)
            self._know(reading, end_ns)
        elif self.known_ns is None or middle_ns > self.known_ns:
            self._means.add(middle_ns, span_ns, power_w)
            self._integrate(middle_ns, ((self._power_w or power_w) + power_w) / 2)
            self._know(reading, middle_ns)

    def _integrate(self, to_ns: int, power_w: float) -> None:
        """Power from what is known up to here."""
        if self.known_ns is not None:
            self.spread(self.known_ns, to_ns, power_w, Flag.INTEGRAL)
            length_ns = to_ns - self.known_ns
            self._check.integral(to_ns, length_ns, power_w * length_ns / NS_PER_S)
            self.known_ns = to_ns

    def _advance_without_counter(self, reading: Reading, at_ns: int) -> None:
        """The counter does not answer, power does: its energy waits."""
        if at_ns <= self._known:
            return
        if at_ns - self._known <= self._wait_ns:
            self._hold(at_ns)
        if at_ns - self._counter_ns > self._wait_ns:
            self._check.silent(at_ns)
            self.settle_by_power()
            self._counter_j = None
        self._know(reading, at_ns)

    def _advance_by_counter(self, reading: Reading, at_ns: int, counter_j: float) -> None:
        if at_ns <= self._counter_ns:
            return  # the counter has not moved on since
        # It may be dated before what power has said already: power says how it went on from there.
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
            stretch = Stretch(length_ns, counted_j, held_j, None, slack_ns)
            if self._check.still(at_ns, stretch):
                return  # what it says when it moves is the energy since it last did
            rule = self._check.stretch(at_ns, stretch)
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
                self.settle_by_power()
            self._counter_j, self._counter_ns = energy_j, to_ns
        self._know(reading, to_ns)

    def _settle_by_counter(self, counted_j: float, to_ns: int) -> None:
        if self._seconds.waiting:
            self._implausible = _NO_FLAG
            self._hold(to_ns)
            self._seconds.settle(counted_j, _COUNTER)
            return
        known_ns = self.known_ns or 0
        length_ns = to_ns - known_ns
        power_w = counted_j * NS_PER_S / length_ns
        if length_ns <= self._hole_ns:
            self.spread(known_ns, to_ns, power_w, _COUNTER)
        else:
            self.spread(known_ns, to_ns, power_w, Flag.COUNTER | Flag.GAP, sampled=False)

    def settle_by_power(self) -> None:
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
        self.known_ns = at_ns
        if reading.power_w is not None:
            self._power_w, self._power_ns = reading.power_w, at_ns

    @property
    def _known(self) -> int:
        assert self.known_ns is not None
        return self.known_ns

    def _inside(self, from_ns: int, to_ns: int) -> tuple[int, int]:
        """The part within the job: the first reading may be older than it, the last one newer."""
        if from_ns < self._start_ns:
            from_ns = self._start_ns
        if self.until_ns is not None and to_ns > self.until_ns:
            to_ns = self.until_ns
        return from_ns, to_ns

    def spread(
        self, from_ns: int, to_ns: int, power_w: float, flag: Flag, *, sampled: bool = True
    ) -> None:
        begin_ns, end_ns = self._inside(from_ns, to_ns)
        if end_ns > begin_ns:
            energy_j = power_w * (end_ns - begin_ns) / NS_PER_S
            self._seconds.spread(begin_ns, end_ns, energy_j, flag, sampled=sampled)
