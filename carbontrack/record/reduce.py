"""From readings to windows of one second: the reduction that everything downstream is built on.

Pure: a `WindowBuilder` takes the readings of one device in order and gives back windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from carbontrack.ledger.window import Flag, Window
from carbontrack.meters.base import Device, Quality, Reading, Vitals
from carbontrack.units import MS_PER_S, NS_PER_MS, NS_PER_S

# Two readings farther apart than this, and than some periods of a slow sampling, are a gap: power
# is not held across it.
MAX_HOLD_NS = 1 * NS_PER_S
_HELD_PERIODS = 2.5
# Between the job's start and the first reading (the recorder's own start-up), and between the last
# reading and the job's end, the nearest power is taken, up to this long.
MAX_EDGE_NS = 2 * NS_PER_S
# The power before the first reading is the mean of as long after it, at least of this.
EDGE_LOOK_NS = NS_PER_S // 4


@dataclass(frozen=True, slots=True)
class Clock:
    """Wall-clock time anchored once: later steps of the system clock do not move the windows."""

    anchor_ms: int
    anchor_ns: int

    def wall_ns(self, monotonic_ns: int) -> int:
        return self.anchor_ms * NS_PER_MS + monotonic_ns - self.anchor_ns


class _OpenSecond:
    """The second being filled."""

    def __init__(self, second: int) -> None:
        self.second = second
        self.energy_j: float | None = None
        self.energy_ns = 0
        self.sampled_ns = 0
        self.powers_w: list[float] = []
        self.samples = 0
        self.vitals: list[Vitals] = []
        self.flags = Flag(0)

    def close(self, base: Flag) -> Window:
        utils = [v.util_pct for v in self.vitals if v.util_pct is not None]
        memories = [v.memory_used_bytes for v in self.vitals if v.memory_used_bytes is not None]
        temperatures = [v.temperature_c for v in self.vitals if v.temperature_c is not None]
        clocks = [v.sm_clock_mhz for v in self.vitals if v.sm_clock_mhz is not None]
        throttle = 0
        for v in self.vitals:
            throttle |= v.throttle
        if self.energy_j is not None and self.energy_ns > 0:
            # A mean is a bound of both extremes, and the counter may know of more than the samples.
            self.powers_w.append(self.energy_j * NS_PER_S / self.energy_ns)
        return Window(
            start_ms=self.second * MS_PER_S,
            level_s=1,
            energy_j=self.energy_j,
            energy_s=self.energy_ns / NS_PER_S,
            sampled_s=self.sampled_ns / NS_PER_S,
            samples=self.samples,
            power_min_w=min(self.powers_w, default=None),
            power_max_w=max(self.powers_w, default=None),
            vitals=len(self.vitals),
            util_pct=sum(utils) / len(utils) if utils else None,
            memory_max_bytes=max(memories, default=None),
            temperature_max_c=max(temperatures, default=None),
            sm_clock_mhz=sum(clocks) / len(clocks) if clocks else None,
            throttle=throttle,
            flags=self.flags | base,
        )


class WindowBuilder:
    """Reduces the readings of one device, in order of time, to windows of one second.

    Readings come every `period_ns` or thereabouts. Energy between two of them is the counter's
    difference where both have one, else the earlier power held until the later reading. It is
    spread evenly over the time between them, so a window boundary inside an interval divides it in
    proportion.
    """

    def __init__(
        self, device: Device, clock: Clock, *, start_ns: int, period_ns: int = NS_PER_S // 10
    ) -> None:
        self._wall_ns = clock.wall_ns(0)  # how far ahead of the monotonic clock
        self._share = device.share
        self._base = Flag(0)
        if device.quality is Quality.ESTIMATE:
            self._base |= Flag.ESTIMATE
        if device.quality is Quality.SIMULATED:
            self._base |= Flag.SIMULATED
        if device.mig_parent is not None:
            self._base |= Flag.APPORTIONED
        self._start_ns = start_ns
        self._hold_ns = max(MAX_HOLD_NS, round(_HELD_PERIODS * period_ns))
        self._begun = False
        self._first: list[Reading | Vitals] = []  # until they say what came before them
        self._last: Reading | None = None
        self._last_ns = 0  # when its energy was true
        self._noted_ns = -1
        self._current: _OpenSecond | None = None
        self._closed: list[Window] = []
        self.counter_resets = 0

    def add(self, reading: Reading) -> list[Window]:
        """Take the next reading; give the seconds that it completes."""
        if self._begun:
            self._account(reading)
        elif reading.energy_j is not None or reading.power_w is not None:
            self._first.append(reading)
            first_ns = _readings(self._first)[0].time_ns
            if reading.time_ns - first_ns >= max(EDGE_LOOK_NS, first_ns - self._start_ns):
                self._begin(reading.time_ns)
        return self._take()

    def add_vitals(self, vitals: Vitals) -> None:
        """Keep vitals with the newest reading's second."""
        if not self._begun:
            self._first.append(vitals)
        elif self._current is not None:
            self._current.vitals.append(vitals)

    def finish(self, end_ns: int, last: Reading | None = None) -> list[Window]:
        """End at `end_ns` (the job's end), with one reading at or after it if there is one."""
        if not self._begun:
            self._begin(end_ns, last)
        if last is not None:
            self._advance(last, end_ns)
        self._bridge_end(end_ns)
        self._last = None
        if self._current is not None:
            self._closed.append(self._current.close(self._base))
            self._current = None
        return self._take()

    def _advance(self, reading: Reading, until_ns: int) -> None:
        """Account for the time from the last reading to this one, at most to `until_ns`."""
        if reading.energy_j is None and reading.power_w is None:
            return  # it failed; the next one is measured against the one before
        last, last_ns, at_ns = self._last, self._last_ns, energy_time_ns(reading)
        length_ns = at_ns - last_ns
        if last is not None and length_ns <= 0:
            return  # the counter has not moved on since
        self._last, self._last_ns = reading, at_ns
        if last is None:
            return
        energy_j, flag = self._energy_between(last, reading, length_ns)
        if length_ns > self._hold_ns:
            if flag is not Flag.COUNTER:
                return  # power is not held across a gap: what is not known stays NULL
            flag |= Flag.GAP
        if energy_j is None:
            return
        # The first reading may be older than the job, the last one newer.
        begin_ns, end_ns = max(last_ns, self._start_ns), min(at_ns, until_ns)
        if end_ns > begin_ns:
            self._spread(begin_ns, end_ns, energy_j * (end_ns - begin_ns) / length_ns, flag)

    def _energy_between(
        self, last: Reading, reading: Reading, length_ns: int
    ) -> tuple[float | None, Flag]:
        held_j = None if last.power_w is None else last.power_w * length_ns / NS_PER_S
        if last.energy_j is None or reading.energy_j is None:
            return held_j, Flag.INTEGRAL
        if reading.energy_j < last.energy_j:
            self.counter_resets += 1
            return held_j, Flag.INTEGRAL | Flag.COUNTER_RESET
        return reading.energy_j - last.energy_j, Flag.COUNTER

    def _account(self, reading: Reading) -> None:
        self._advance(reading, reading.time_ns)
        self._note_power(reading)

    def _begin(self, until_ns: int, last: Reading | None = None) -> None:
        """Fill the recorder's start-up with the mean power of the first readings, then go on.

        One power sample would not do: many sensors see a quarter of the time, or less.
        """
        self._begun = True
        first, self._first = self._first, []
        known = _readings(first if last is None else [*first, last])
        power_w = _mean_power_w(known)
        if power_w is not None:
            self._bridge(self._start_ns, min(energy_time_ns(known[0]), until_ns), power_w)
        for item in first:
            if isinstance(item, Vitals):
                self.add_vitals(item)
            else:
                self._account(item)

    def _bridge_end(self, end_ns: int) -> None:
        """Fill what lies between the last known energy and the job's end."""
        if self._last is not None and self._last.power_w is not None:
            self._bridge(self._last_ns, end_ns, self._last.power_w)

    def _bridge(self, start_ns: int, end_ns: int, power_w: float) -> None:
        if 0 < end_ns - start_ns <= max(MAX_EDGE_NS, self._hold_ns):
            energy_j = power_w * (end_ns - start_ns) / NS_PER_S
            self._spread(start_ns, end_ns, energy_j, Flag.BRIDGED | Flag.INTEGRAL)

    def _spread(self, start_ns: int, end_ns: int, energy_j: float, flag: Flag) -> None:
        j_per_ns = energy_j * self._share / (end_ns - start_ns)
        at_ns, wall_end_ns = start_ns + self._wall_ns, end_ns + self._wall_ns
        sampled = flag is Flag.COUNTER or Flag.GAP not in flag
        while at_ns < wall_end_ns:
            second = self._second_at(at_ns)
            next_ns = min(wall_end_ns, (second.second + 1) * NS_PER_S)
            part_ns = next_ns - at_ns
            second.energy_j = (second.energy_j or 0.0) + j_per_ns * part_ns
            second.energy_ns += part_ns
            if sampled:
                second.sampled_ns += part_ns
            if second.flags is not flag:  # nearly always it is, and to unite two takes a while
                second.flags |= flag
            at_ns = next_ns

    def _note_power(self, reading: Reading) -> None:
        """Count a sample, unless it failed or repeats one that was counted."""
        known = reading.energy_j is not None or reading.power_w is not None
        if not known or reading.time_ns == self._noted_ns:
            return
        self._noted_ns = reading.time_ns
        # Placed where its energy is, so that seconds are filled in order.
        second = self._second_at(energy_time_ns(reading) + self._wall_ns)
        second.samples += 1
        if reading.power_w is not None:
            second.powers_w.append(reading.power_w * self._share)

    def _second_at(self, wall_ns: int) -> _OpenSecond:
        second = wall_ns // NS_PER_S
        if self._current is None:
            self._current = _OpenSecond(second)
        elif second > self._current.second:
            self._closed.append(self._current.close(self._base))
            self._current = _OpenSecond(second)
        return self._current

    def _take(self) -> list[Window]:
        closed, self._closed = self._closed, []
        return closed


def _readings(items: Iterable[Reading | Vitals]) -> list[Reading]:
    return [item for item in items if isinstance(item, Reading)]


def _mean_power_w(readings: Sequence[Reading]) -> float | None:
    """By the counter where it rose all the while, else of the samples; None if nothing is known."""
    counted = [r for r in readings if r.energy_j is not None]
    energies_j = [r.energy_j or 0.0 for r in counted]
    if len(counted) > 1 and energies_j == sorted(energies_j):
        length_ns = energy_time_ns(counted[-1]) - energy_time_ns(counted[0])
        if length_ns > 0:
            return (energies_j[-1] - energies_j[0]) * NS_PER_S / length_ns
    powers_w = [r.power_w for r in readings if r.power_w is not None]
    return sum(powers_w) / len(powers_w) if powers_w else None


def energy_time_ns(reading: Reading) -> int:
    """When the energy of a reading was true: the driver's own time where it gives one."""
    return reading.time_ns if reading.energy_time_ns is None else reading.energy_time_ns
