"""What the ledger holds, as plain frozen rows: the boundary between SQL and everything else.

Standard library only, so that the accounting can use them without importing a database. Times are
integer milliseconds since the epoch, UTC; a value that is not known is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from carbontrack.ledger.window import Window
from carbontrack.units import MS_PER_S
from carbontrack.vocabulary import Status

HEARTBEAT_STALE_MS = 10_000
EDGE_STEPS = 64  # enough to see what kind of values a job logs


@dataclass(frozen=True, slots=True)
class Run:
    """One wrapped job. `status` is as read: a run whose heartbeat stopped reads *interrupted*."""

    id: str  # UUIDv7
    name: str
    project: str | None
    tags: Mapping[str, str]
    command: tuple[str, ...]  # secrets redacted
    cwd: str
    user: str
    git_commit: str | None
    git_dirty: bool | None
    started_ms: int
    ended_ms: int | None
    status: Status
    exit_code: int | None  # 128+n when a signal n ended the job
    facility: Mapping[str, Any]  # what was configured: name, zone, pue, intensity, tariff, ...
    model: Mapping[str, Any]  # name, parameters, planned_tokens, as the job described itself
    heartbeat_ms: int | None = None  # newest of the run's nodes
    key: int = 0  # integer key inside this ledger; 0 before it is written

    @property
    def end_ms(self) -> int:
        """When it ended; the last heartbeat if its end was not seen, or not yet.

        So a run that goes on is everywhere as long as what is recorded of it: its duration, its
        hours, its coverage and its energy are of the same time.
        """
        end_ms = self.ended_ms if self.ended_ms is not None else self.heartbeat_ms
        return self.started_ms if end_ms is None else max(self.started_ms, end_ms)

    @property
    def duration_s(self) -> float:
        """Seconds from its start to `end_ms`."""
        return (self.end_ms - self.started_ms) / MS_PER_S


@dataclass(frozen=True, slots=True)
class Node:
    """One host of a run."""

    host: str
    boot_id: str | None
    recorder_version: str
    settings: Mapping[str, Any]  # meter, hz, visible devices, the meter's note
    heartbeat_ms: int
    clock_offset_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Sensor:
    """One device of a run, and how that run read it."""

    uuid: str
    kind: str  # a `DeviceKind`, or another package's
    name: str
    rated_power_w: float | None
    power_limit_w: float | None
    mig_parent: str | None
    host: str
    meter: str  # a `MeterName`, or another package's
    quality: str  # a `Quality`
    field: str
    scope: str  # a `Scope`, or another package's
    update_period_ms: float | None
    share: float
    device_key: int = 0


@dataclass(frozen=True, slots=True)
class Overlap:
    """What a run recorded of a device while another run recorded it too."""

    uuid: str
    energy_j: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Usage:
    """Sums of one sensor over a run (or over an hour of it), from the windows."""

    device_key: int
    start_ms: int
    energy_j: float | None
    energy_s: float
    sampled_s: float
    samples: int
    power_min_w: float | None
    power_max_w: float | None
    util_pct: float | None
    flags: int


def usage_of(device_key: int, window: Window) -> Usage:
    """A window as what its device used."""
    return Usage(
        device_key=device_key,
        start_ms=window.start_ms,
        energy_j=window.energy_j,
        energy_s=window.energy_s,
        sampled_s=window.sampled_s,
        samples=window.samples,
        power_min_w=window.power_min_w,
        power_max_w=window.power_max_w,
        util_pct=window.util_pct,
        flags=int(window.flags),
    )


@dataclass(frozen=True, slots=True)
class PowerNow:
    """Power of a run's devices in one second, and how many devices it is of."""

    time_ms: int
    power_w: float
    devices: int


@dataclass(frozen=True, slots=True)
class Step:
    """One training step as the job logged it. `tokens` are those of this step."""

    step: int
    time_ms: int
    loss: float | None = None
    lr: float | None = None
    grad_norm: float | None = None
    tokens: int | None = None
    tokens_per_s: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StepMean:
    """Training steps in a row as one point of a curve; where it is one step, as it was logged."""

    first_step: int
    step: int  # the last
    time_ms: int  # of the last
    steps: int  # how many
    losses: int  # how many of their losses are numbers
    loss: float | None  # mean of those
    loss_min: float | None
    loss_max: float | None
    not_finite: int  # losses that are not numbers
    tokens: int | None  # sum
    rates: int  # how many have a rate of tokens
    tokens_per_s: float | None  # mean of those


@dataclass(frozen=True, slots=True)
class StepTotals:
    """Sums over the steps of a run, and the steps at its two ends, EDGE_STEPS each, by number."""

    steps: int = 0
    tokens: int | None = None
    final_loss: float | None = None  # of the last step that has one
    first: tuple[Step, ...] = ()
    last: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Series:
    """Windows of one length as columns, ordered by device and time: what a plot needs.

    `level_s` is that length, of a level of the pyramid or of several of its windows together.
    Columns: device_key, start_ms, energy_j, energy_s, power_min_w, power_max_w, util_pct,
    temperature_max_c.
    """

    level_s: int
    columns: Mapping[str, list[Any]]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: a marker on the plots."""

    time_ms: int
    kind: str  # an `EventKind`, or what the job says
    message: str
    host: str | None = None
    device_uuid: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Intensity:
    """Imported grid intensity of a zone, from a time on for `length_ms`."""

    zone: str
    start_ms: int
    version: str
    length_ms: int
    intensity_kg_per_kwh: float
    basis: str
    source: str


@dataclass(frozen=True, slots=True)
class Price:
    """An imported price, of a GPU-hour or of a kWh."""

    book: str
    item: str
    version: str
    unit: str  # a `PriceUnit`
    price: float
    currency: str
    as_of: str
    source: str
