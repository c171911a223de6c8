"""What the ledger holds, as plain frozen rows: the boundary between SQL and everything else.

Standard library only, so that the accounting can use them without importing a database. Times are
integer milliseconds since the epoch, UTC; a value that is not known is None. Those that a recorder
writes are in `recorded_rows.py`, so that it need not make the classes of all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from carbontrack.ledger.recorded_rows import Devices


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """How far the clock of a ledger that a recording is shipped to was ahead of its node's."""

    time_ms: int  # by the node's clock
    offset_ms: int
    error_ms: int  # it may be so much more or less


@dataclass(frozen=True, slots=True)
class Live:
    """What is now of a recording that goes on: a value of each of its sensors, in their order."""

    time_ms: int  # of the newest second of them
    power_w: tuple[float | None, ...]
    energy_j: tuple[float | None, ...]  # since its start
    util_pct: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Overlap:
    """What a run recorded of a device while another run recorded it too."""

    uuid: str
    energy_j: float
    seconds: float
    unsure_j: float = 0.0  # that another run may have recorded besides
    level_s: int = 1  # the longest windows that say so
    j_by_hour: Mapping[int, float] = field(default_factory=dict)  # `energy_j`, by the start in ms


@dataclass(frozen=True, slots=True)
class Signs:
    """What says of the devices of one kind whether one of them may be odd."""

    peak_w: float | None = None  # the highest mean power of one of them in an hour
    limit_w: float | None = None  # the lowest limit of one of them
    used: int = 0  # on so many at once the driver named a process of the job
    flags: int = 0  # of all


@dataclass(frozen=True, slots=True)
class Summed:
    """Devices that the database added up, those of each kind alike."""

    devices: Devices
    signs: Mapping[str, Signs]  # by kind


@dataclass(frozen=True, slots=True)
class PowerNow:
    """Power of a run's devices in one second, and how many devices it is of."""

    time_ms: int
    power_w: float
    devices: int


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
class Coarser:
    """A stretch of time in which windows of this length are the finest that are left of some
    device, where finer ones were asked for.
    """

    from_ms: int
    to_ms: int
    level_s: int


@dataclass(frozen=True, slots=True)
class Series:
    """Windows of one length as columns, ordered by device and time: what a plot needs.

    `level_s` is that length, of a level of the pyramid or of several of its windows together; in
    the stretches of `coarser` longer windows are spread evenly over such ones. Columns: device_key,
    start_ms, energy_j, energy_s, power_min_w, power_max_w, util_pct, temperature_max_c.
    """

    level_s: int
    columns: Mapping[str, list[Any]]
    coarser: tuple[Coarser, ...] = ()


@dataclass(frozen=True, slots=True)
class Stated:
    """What was entered by hand of a run's devices of one name."""

    device_name: str
    devices: int | None
    device_hours: float | None
    power_w: float | None  # of one device
    energy_kwh: float | None
    source: str
    started_ms: int | None = None
    ended_ms: int | None = None


def devices_stated(rows: Sequence[Stated]) -> int | None:
    """How many devices they are together; None where one does not say."""
    counts = [row.devices for row in rows if row.devices is not None]
    return sum(counts) if len(counts) == len(rows) else None


@dataclass(frozen=True, slots=True)
class OverlapPart:
    """What a sensor recorded in a stretch of time that it shares with other sensors of its device:
    seconds in a row of one hour, and how much of them its energy accounts for.
    """

    start_ms: int
    energy_j: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A run that was removed, and stays removed wherever its rows come from again."""

    run_id: str
    time_ms: int
    user: str
    project: str | None = None  # that the run was in; None if that is not known: of any


@dataclass(frozen=True, slots=True)
class ShippedTombstone:
    """A tombstone that another ledger has."""

    run_id: str
    target: str  # the collector's or the ledger's address, without secrets


@dataclass(frozen=True, slots=True)
class Import:
    """A file of another tool, of which a run was made."""

    sha256: str
    time_ms: int
    file: str
    kind: str  # an `ImportKind`
    tz: str | None
    first_row: int
    last_row: int
    rejected_rows: int
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)  # what else the file says of the run

    @property
    def provenance(self) -> str:
        """The file and what of it the run was made of, in a line."""
        rows = f"rows {self.first_row} to {self.last_row}"
        return f"{self.file}, {rows}, {self.kind}, SHA-256 {self.sha256}"


@dataclass(frozen=True, slots=True)
class Watermark:
    """Up to where a recording has been shipped to another ledger."""

    target: str  # the collector's or the ledger's address, without secrets
    seconds_ms: int
    minutes_ms: int
    hours_ms: int
    steps_ms: int
    events: int  # how many
    late: int  # the number of the newest minute of `late_minutes`
    shipped_ms: int


@dataclass(frozen=True, slots=True)
class LateMinute:
    """A minute of a sensor that was written into after all of it had been there."""

    start_ms: int
    number: int  # grows with each time that this happens in a recording


@dataclass(frozen=True, slots=True)
class Token:
    """What lets a node write into a project of a team's ledger; the secret itself is not kept."""

    hash: str
    project: str
    made_ms: int
    revoked_ms: int | None = None


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
