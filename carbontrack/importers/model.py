"""What a reader finds in a file: runs, their devices, and the energy of these over time.

The boundary between reading and writing: a reader knows nothing of the ledger, and the writer
nothing of layouts. Times are integer ns since the epoch, UTC; energies are in J, before PUE.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from carbontrack.errors import CarbontrackError
from carbontrack.vocabulary import DeviceKind, Quality, Status

if TYPE_CHECKING:
    from carbontrack.importers.bins import Bins


@dataclass(frozen=True, slots=True)
class FoundDevice:
    """A device as the file knows it. `uuid` is None where it has no name of its own in the world:
    then it is another one in each run.
    """

    key: str  # unique among those of its run
    kind: DeviceKind
    name: str
    quality: Quality
    field: str  # what was read, in the tool's words
    scope: str  # what that includes
    uuid: str | None = None
    host: str | None = None


@dataclass(frozen=True, slots=True)
class FoundRun:
    """One run of a file. `identity` is what makes it this run and no other, whatever file it comes
    from; two with the same one are one run, of which the longer has more.
    """

    identity: tuple[str, ...]
    name: str | None  # None: as the file
    started_ns: int
    ended_ns: int
    devices: Mapping[FoundDevice, Bins]
    rows: tuple[int, int]  # first and last row of the file
    host: str | None = None
    project: str | None = None
    status: Status = Status.COMPLETED
    facts: Mapping[str, Any] = field(default_factory=dict)  # what else the file says of it

    @property
    def energy_j(self) -> float | None:
        """Of all devices; None if unknown."""
        known = [bins.energy_j for bins in self.devices.values() if bins.known]
        return sum(known) if known else None


class Refused(CarbontrackError):
    """A file that is not imported, as a whole, and why."""

    def __init__(self, why: str, hint: str = "") -> None:
        super().__init__(why, hint=f"{hint} Nothing was imported.".lstrip())


class Rejected(ValueError):
    """A row that is not taken; the message says why."""


_LONGEST = 160  # characters of why a row is not taken: a cell may be of any length


@dataclass(slots=True)
class Tally:
    """The rows that were taken, and those that were not: how many, and the first of them."""

    SHOWN = 5

    taken: int = 0
    rejected: int = 0
    first: list[tuple[int, str]] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)  # in order, each once

    def reject(self, row: int, why: str) -> None:
        self.rejected += 1
        if len(self.first) < self.SHOWN:
            self.first.append((row, why if len(why) <= _LONGEST else f"{why[:_LONGEST]}…"))

    @property
    def why(self) -> str:
        """The first row that was not taken, and why; empty if all were."""
        return f"Row {self.first[0][0]}: {self.first[0][1]}." if self.first else ""

    def note(self, text: str) -> None:
        """Something that people have to know about the whole file."""
        self.notes[text] = None


@dataclass(frozen=True, slots=True)
class FileOptions:
    """What the command line states of a file that the file itself does not."""

    tz: str | None = None
    start: str | None = None  # of logs without times
    interval_s: float | None = None
    time_column: str | None = None
    power_column: str | None = None
    device_column: str | None = None
    unit: str | None = None
