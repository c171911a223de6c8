"""From readings to windows of one second: the reduction that everything downstream is built on.

Pure: a `WindowBuilder` takes the readings of one device in order and gives back windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from carbontrack.ledger.window import Flag, Window
from carbontrack.meters.base import Device, Reading, Vitals
from carbontrack.record.clock import Clock
from carbontrack.record.doubts import Finding, SensorCheck
from carbontrack.record.energy import EnergyTrack
from carbontrack.record.seconds import Seconds
from carbontrack.units import NS_PER_S
from carbontrack.vocabulary import Quality

# Between the job's start and the first reading (the recorder's own start-up), and between the last
# reading and the job's end, the nearest power is taken, up to this long.
MAX_EDGE_NS = 2 * NS_PER_S
# The power before the first reading is the mean of as long after it, at least of this.
EDGE_LOOK_NS = NS_PER_S // 4


class WindowBuilder:
    """Reduces the readings of one device, in order of time, to windows of one second.

    Readings come every `period_ns` or thereabouts; what lies between two of them is the
    `EnergyTrack`'s.
    """

    def __init__(
        self, device: Device, clock: Clock, *, start_ns: int, period_ns: int = NS_PER_S // 10
    ) -> None:
        base = Flag(0)
        if device.quality is Quality.ESTIMATE:
            base |= Flag.ESTIMATE
        if device.quality is Quality.SIMULATED:
            base |= Flag.SIMULATED
        if device.mig_parent is not None:
            base |= Flag.APPORTIONED
        self._seconds = Seconds(wall_ns=clock.wall_ns(0), share=device.share, base=base)
        self._check = SensorCheck(device)
        self._start_ns = start_ns
        self._energy = EnergyTrack(
            self._seconds, self._check, start_ns=start_ns, period_ns=period_ns
        )
        self._begun = False
        self._first: list[Reading | Vitals] = []  # until they say what came before them
        self._to_flag = False  # the next second that is reached
        self._noted_ns = -1

    def add(self, reading: Reading) -> list[Window]:
        """Take the next reading; give the seconds that it completes."""
        if self._begun:
            self._account(reading)
        elif reading.is_known:
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
        self._energy.until_ns = end_ns
        if last is not None:
            last, _ = self._check.reading(last)
            if last.is_known:
                self._energy.advance(last, last.placed_ns)
        if (known := self._energy.finish()) is not None:
            known_ns, power_w = known
            self._bridge(known_ns, end_ns, power_w)
        self._check.finish(end_ns)
        self._seconds.close()
        return self._seconds.take()

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
        known = [reading for reading in known if reading.is_known]
        power_w = self._check.mean_power_w(known)
        if power_w is not None:
            self._bridge(self._start_ns, min(known[0].placed_ns, until_ns), power_w)
        for item in first:
            if isinstance(item, Vitals):
                self._seconds.add_vitals(self._check.vitals(item))
            else:
                self._account(item)

    def _bridge(self, start_ns: int, end_ns: int, power_w: float) -> None:
        if 0 < end_ns - start_ns <= max(MAX_EDGE_NS, self._energy.hold_ns):
            self._energy.spread(start_ns, end_ns, power_w, Flag.BRIDGED | Flag.INTEGRAL)

    def _account(self, reading: Reading) -> None:
        reading, rejected = self._check.reading(reading)
        self._to_flag |= rejected or self._check.odd
        at_ns = reading.placed_ns
        if reading.is_known:  # else it failed; the next one is measured against the one before
            self._energy.advance(reading, at_ns)
            # A sample counts where its energy is, so that seconds are filled in order, and once.
            if reading.time_ns != self._noted_ns and at_ns >= self._start_ns:
                self._noted_ns = reading.time_ns
                self._seconds.note(at_ns, reading.power_w)
        elif not rejected or not self._energy.has_ended(reading.time_ns):
            return  # what lies before it may still be filled
        if self._to_flag and at_ns >= self._start_ns:
            self._seconds.flag(at_ns, Flag.IMPLAUSIBLE)
            self._to_flag = False


def _readings(items: Iterable[Reading | Vitals]) -> list[Reading]:
    return [item for item in items if isinstance(item, Reading)]
