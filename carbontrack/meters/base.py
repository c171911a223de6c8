"""What every meter gives: devices, readings, and how good they are.

A meter is anything that can say how much energy a device used. It turns the environment into
`Source`s, one for each device; the recorder polls each source and knows nothing of where the
reading came from. Meters are found through the entry-point group `carbontrack.meters`: an entry
is a callable `(argument: str, context: MeterContext) -> Meter`, where the argument is what follows
the colon in `--meter NAME:ARGUMENT`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from carbontrack.errors import CarbontrackError
from carbontrack.vocabulary import DeviceKind, Devices, Quality


@dataclass(frozen=True, slots=True)
class Device:
    """One physical device (or MIG instance), and how this meter reads it.

    The readings of a MIG instance are its parent's, to be multiplied by `share`; its limits here
    are multiplied already.
    """

    uuid: str
    kind: DeviceKind
    name: str
    meter: str  # a `MeterName`, or another package's
    quality: Quality
    field: str  # which counter or sensor is read, e.g. "total_energy+power_instant"
    scope: str  # what the reading includes: a `Scope`, or another package's
    rated_power_w: float | None = None  # TDP or default power limit
    power_limit_w: float | None = None  # limit enforced now
    update_period_ms: float | None = None  # how often the sensor refreshes, if known
    mig_parent: str | None = None  # UUID of the GPU whose power this instance shares
    share: float = 1.0  # part of the parent's readings that is this instance's


@dataclass(frozen=True, slots=True)
class Reading:
    """One poll. A value the device could not give is None, never 0.

    `time_ns` is `units.monotonic_ns()` when the values were taken; it repeats where a meter answers
    from its last look. `energy_j` is a cumulative counter with an arbitrary origin; it may go
    backwards (driver reload). `energy_time_ns` is when the device itself last refreshed the
    counter (or, without one, its power), on the same clock and at most a second before `time_ns`;
    None where its driver does not say. `span_ns` is set where `power_w` is the mean over so long
    before that time; 0 is a power of the moment, which holds until the next reading.
    """

    time_ns: int
    energy_j: float | None
    power_w: float | None
    energy_time_ns: int | None = None
    span_ns: int = 0

    @property
    def is_known(self) -> bool:
        """Whether the device gave anything."""
        return self.energy_j is not None or self.power_w is not None

    @property
    def placed_ns(self) -> int:
        """When its energy was true: the device's own time; for a mean, the middle of its span."""
        at_ns = self.time_ns if self.energy_time_ns is None else self.energy_time_ns
        return at_ns - self.span_ns // 2


@dataclass(frozen=True, slots=True)
class Vitals:
    """What is read once a window, not at every poll."""

    util_pct: float | None = None
    memory_used_bytes: int | None = None
    temperature_c: float | None = None
    sm_clock_mhz: float | None = None
    throttle: int = 0  # NVML clocks-event reasons bit mask
    is_used: bool = False  # the driver names a process of the job on it; False if unknown


class DeviceLost(Exception):
    """This device does not answer now (fell off the bus, driver reload); others may."""


class MeterUnavailable(Exception):
    """This meter cannot work here; the message says why and what to do."""


def refuse_argument(meter: str, argument: str) -> None:
    """Raise CarbontrackError for any argument of a meter that takes none."""
    if argument:
        raise CarbontrackError(f"The meter {meter} takes no argument, not {argument!r}.")


class Source(Protocol):
    """One device under a meter. Calls may block for seconds: never call on the job's thread."""

    @property
    def device(self) -> Device:
        """What is read; the limit enforced now may change in it, nothing else."""
        ...

    def read(self) -> Reading:
        """Poll once. Raises DeviceLost if the device is gone; retry later re-finds it."""
        ...

    def vitals(self) -> Vitals | None:
        """Utilisation, memory and so on; None where the device has none."""
        ...


class BufferedSource(Source, Protocol):
    """One device whose driver samples power itself.

    If `buffered`, the energy is made of these samples, so that `recent` is called every second or
    so and `read` never; else they say what came before the first `read`.
    """

    buffered: bool

    def recent(self) -> Sequence[Reading]:
        """The samples since the last call, oldest first, with their spans; none if it holds none.
        Raises DeviceLost as `read` does.
        """
        ...


class Meter(Protocol):
    """An opened meter."""

    name: str

    @property
    def sources(self) -> Sequence[Source]: ...

    @property
    def note(self) -> str:
        """One sentence for people: what is read, and how good it is."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class MeterContext:
    """What a meter may need to know of the job and the machine.

    `visible` is which devices to record, one of `Devices`: by default those that the job can see,
    by its environment. `sysfs` and `procfs` are roots, so that a container can mount the host's.
    """

    job_pid: int | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    visible: str = Devices.JOB
    cpu_tdp_w: float | None = None
    sysfs: Path = Path("/sys")
    procfs: Path = Path("/proc")
