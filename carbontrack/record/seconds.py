"""The seconds of one device that are being filled: energy spread over them, or waiting for it.

Energy that is known is spread at once. While the counter does not answer, the integral of power is
held beside it, second by second; when the counter answers again, its difference is divided among
these seconds as power was. So what waits needs no more memory than the seconds it lies in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from carbontrack.ledger.rounded import Rounding
from carbontrack.ledger.window import Flag, Window
from carbontrack.meters.base import Vitals
from carbontrack.units import MS_PER_S, NS_PER_S

_NO_FLAG = Flag(0)


class PowerRange:
    """The lowest and the highest power in W that was noted; None if none was."""

    __slots__ = ("power_max_w", "power_min_w")

    def __init__(self) -> None:
        self.power_min_w: float | None = None
        self.power_max_w: float | None = None

    def note(self, power_w: float) -> None:
        if self.power_min_w is None or power_w < self.power_min_w:
            self.power_min_w = power_w
        if self.power_max_w is None or power_w > self.power_max_w:
            self.power_max_w = power_w


@dataclass(slots=True)
class _Second(PowerRange):
    """One second. `held_j` is the integral of power over the `held_ns` whose energy waits."""

    number: int
    energy_j: float | None = None
    energy_ns: int = 0
    sampled_ns: int = 0
    held_j: float = 0.0
    held_ns: int = 0
    silent_ns: int = 0  # waits as well, and power is not known either
    samples: int = 0
    vitals: list[Vitals] = field(default_factory=list)
    flags: Flag = _NO_FLAG
    written: bool = False  # as it is now, though it may still change

    def __post_init__(self) -> None:
        PowerRange.__init__(self)

    @property
    def waits(self) -> bool:
        return self.held_ns > 0 or self.silent_ns > 0

    def add_energy(self, energy_j: float, length_ns: int, flag: Flag, *, sampled: bool) -> None:
        self.energy_j = energy_j if self.energy_j is None else self.energy_j + energy_j
        self.energy_ns += length_ns
        if sampled:
            self.sampled_ns += length_ns
        if self.flags is not flag:  # nearly always it is, and to unite two takes a while
            self.flags |= flag

    def window(self, base: Flag) -> Window:
        """The row of this second; what waits counts as the integral of power."""
        energy_j, energy_ns, sampled_ns, flags = (
            self.energy_j,
            self.energy_ns,
            self.sampled_ns,
            self.flags | base,
        )
        if self.held_ns:
            energy_j = (energy_j or 0.0) + self.held_j
            energy_ns += self.held_ns
            sampled_ns += self.held_ns
            flags |= Flag.INTEGRAL
        utils = [v.util_pct for v in self.vitals if v.util_pct is not None]
        memories = [v.memory_used_bytes for v in self.vitals if v.memory_used_bytes is not None]
        temperatures = [v.temperature_c for v in self.vitals if v.temperature_c is not None]
        clocks = [v.sm_clock_mhz for v in self.vitals if v.sm_clock_mhz is not None]
        throttle = 0
        for v in self.vitals:
            throttle |= v.throttle
        return Window(
            start_ms=self.number * MS_PER_S,
            level_s=1,
            energy_j=energy_j,
            energy_s=energy_ns / NS_PER_S,
            sampled_s=sampled_ns / NS_PER_S,
            samples=self.samples,
            power_min_w=self.power_min_w,
            power_max_w=self.power_max_w,
            vitals=len(self.vitals),
            util_pct=sum(utils) / len(utils) if utils else None,
            memory_max_bytes=max(memories, default=None),
            temperature_max_c=max(temperatures, default=None),
            sm_clock_mhz=sum(clocks) / len(clocks) if clocks else None,
            throttle=throttle,
            flags=flags,
        )


class Seconds:
    """The open seconds of one device, in order. Times are monotonic ns, powers whole boards'."""

    def __init__(self, *, wall_ns: int, share: float, base: Flag) -> None:
        """`wall_ns` is how far wall-clock time is ahead; `base` flags every window."""
        self._wall_ns = wall_ns
        self._share = share
        self._base = base
        self._open: dict[int, _Second] = {}
        self._newest: _Second | None = None
        self._waiting = False
        self._outside_weight_j = 0.0  # of what waits: before the job's start or after its end
        self._outside_ns = 0
        self._closed: list[Window] = []
        self._rounding = Rounding()

    @property
    def waiting(self) -> bool:
        """Whether energy waits for the counter."""
        return self._waiting

    @property
    def complete_ns(self) -> int | None:
        """Before this time no second will begin any more: all are given, known or waiting."""
        return None if self._newest is None else self._newest.number * NS_PER_S - self._wall_ns

    @property
    def held_j(self) -> float:
        """The integral of power over what waits, whole board, in J."""
        held_j = sum(second.held_j for second in self._open.values())
        return held_j / self._share + self._outside_weight_j

    def spread(
        self, start_ns: int, end_ns: int, energy_j: float, flag: Flag, *, sampled: bool
    ) -> None:
        """Energy that is known, evenly."""
        energy_j *= self._share
        length_ns = end_ns - start_ns
        newest = self._newest
        first = (start_ns + self._wall_ns) // NS_PER_S
        if newest is not None and newest.number == first == (end_ns + self._wall_ns) // NS_PER_S:
            newest.add_energy(energy_j, length_ns, flag, sampled=sampled)  # nearly always
            return
        for second, part_ns in self._parts(start_ns, end_ns):
            second.add_energy(energy_j * part_ns / length_ns, part_ns, flag, sampled=sampled)

    def hold(self, start_ns: int, end_ns: int, power_w: float | None) -> None:
        """Time whose energy waits for the counter; `power_w` is None where it is not known."""
        self._waiting = True
        for second, part_ns in self._parts(start_ns, end_ns):
            if power_w is None:
                second.silent_ns += part_ns
            else:
                second.held_j += power_w * self._share * part_ns / NS_PER_S
                second.held_ns += part_ns
            second.written = False

    def hold_outside(self, length_ns: int, power_w: float | None) -> None:
        """The same, before the job's start or after its end: it takes its share of the energy."""
        self._waiting = True
        self._outside_weight_j += (power_w or 0.0) * length_ns / NS_PER_S
        self._outside_ns += length_ns

    def settle(self, energy_j: float, flag: Flag) -> None:
        """Divide the counter's difference among all that waits, as power was; evenly where power
        is not known.
        """
        waiting = [second for second in self._open.values() if second.waits]
        held_j = sum(second.held_j for second in waiting)
        held_ns = sum(second.held_ns for second in waiting)
        mean = held_j / held_ns if held_ns else 0.0
        weights = [
            second.held_j + mean * second.silent_ns
            if mean
            else float(second.held_ns + second.silent_ns)
            for second in waiting
        ]
        outside = self._outside_weight_j * self._share if mean else float(self._outside_ns)
        total = sum(weights) + outside
        for second, weight in zip(waiting, weights, strict=True):
            part_j = energy_j * self._share * weight / total
            gap = flag | Flag.GAP if second.silent_ns else flag
            second.add_energy(part_j, second.held_ns + second.silent_ns, gap, sampled=False)
            second.sampled_ns += second.held_ns
        self._end_waiting()

    def settle_by_power(self, flag: Flag) -> None:
        """The counter is not believed or does not come: the integral of power stands."""
        for second in self._open.values():
            if second.held_ns:
                second.add_energy(second.held_j, second.held_ns, flag, sampled=True)
        self._end_waiting()

    def note(self, at_ns: int, power_w: float | None) -> None:
        """Count a sample."""
        second = self._at((at_ns + self._wall_ns) // NS_PER_S)
        second.samples += 1
        if power_w is not None:
            second.note(power_w * self._share)

    def flag(self, at_ns: int, flag: Flag) -> None:
        """Mark the second of this time."""
        self._at((at_ns + self._wall_ns) // NS_PER_S).flags |= flag

    def add_vitals(self, vitals: Vitals) -> None:
        """Keep vitals with the newest second."""
        if self._newest is not None:
            self._newest.vitals.append(vitals)
            if vitals.is_used:
                self._newest.flags |= Flag.USED

    def take(self) -> list[Window]:
        """The seconds that are complete and whose energy is known."""
        closed, self._closed = self._closed, []
        return closed

    def waiting_windows(self) -> tuple[list[Window], list[Window]]:
        """The complete seconds that wait, as far as they are known; and those of them that are
        not written like that.
        """
        if not self._waiting:
            return [], []
        known, fresh = [], []
        for second in self._open.values():
            if second is not self._newest and (second.energy_ns or second.held_ns):
                known.append(Rounding().next(second.window(self._base)))
                if not second.written:
                    fresh.append(known[-1])
                second.written = True
        return known, fresh

    def close(self) -> None:
        """End: the last second is complete."""
        self._close_all_but(None)
        self._newest = None

    def _end_waiting(self) -> None:
        for second in self._open.values():
            second.held_j, second.held_ns, second.silent_ns = 0.0, 0, 0
        self._waiting, self._outside_weight_j, self._outside_ns = False, 0.0, 0
        self._close_all_but(self._newest)

    def _close_all_but(self, newest: _Second | None) -> None:
        for second in self._open.values():
            if second is not newest:
                self._closed.append(self._rounding.next(second.window(self._base)))
        self._open = {} if newest is None else {newest.number: newest}

    def _parts(self, start_ns: int, end_ns: int) -> Iterator[tuple[_Second, int]]:
        """The seconds between two times, and how much of each."""
        at_ns, wall_end_ns = start_ns + self._wall_ns, end_ns + self._wall_ns
        while at_ns < wall_end_ns:
            number = at_ns // NS_PER_S
            next_ns = min(wall_end_ns, (number + 1) * NS_PER_S)
            yield self._at(number), next_ns - at_ns
            at_ns = next_ns

    def _at(self, number: int) -> _Second:
        newest = self._newest
        if newest is not None and number <= newest.number:
            if number == newest.number:
                return newest
            # What is closed stays so: the oldest open second takes what comes late.
            return self._open.get(number) or next(iter(self._open.values()))
        second = self._open[number] = self._newest = _Second(number)
        if not self._waiting and newest is not None:
            self._close_all_but(second)
        return second
