"""Files in the layouts of other tools, and reading them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from carbontrack.importers.identify import identify
from carbontrack.importers.model import FileOptions, FoundRun, Refused, Tally
from carbontrack.importers.source import Source
from carbontrack.units import J_PER_KWH


@dataclass(frozen=True)
class Read:
    """What a file holds."""

    kind: str
    runs: list[FoundRun]
    tally: Tally

    @property
    def energy_j(self) -> float:
        return sum(run.energy_j or 0.0 for run in self.runs)

    @property
    def energy_kwh(self) -> float:
        return self.energy_j / J_PER_KWH

    @property
    def by_device(self) -> dict[str, float]:
        """J, of the first run."""
        return {device.key: bins.energy_j for device, bins in self.runs[0].devices.items()}

    @property
    def first(self) -> FoundRun:
        return self.runs[0]

    @property
    def duration_s(self) -> float:
        return sum(run.ended_ns - run.started_ns for run in self.runs) / 1e9


def read(folder: Path, text: str | bytes, options: FileOptions | None = None) -> Read:
    """Read a file of this content, by which its kind is recognised."""
    path = folder / "file.log"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    source, tally = Source(path), Tally()
    reader = identify(source)
    return Read(reader.KIND, reader.read(source, options or FileOptions(tz="UTC"), tally), tally)


def refusal(folder: Path, text: str | bytes, options: FileOptions | None = None) -> str:
    """Why such a file is refused."""
    with pytest.raises(Refused) as refused:
        read(folder, text, options)
    assert str(refused.value).endswith("Nothing was imported.")
    return str(refused.value)
