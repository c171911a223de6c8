"""Which kind a file is of, by its beginning, and reading it."""

from __future__ import annotations

from typing import Protocol

from carbontrack.errors import CarbontrackError
from carbontrack.importers import (
    carbontracker,
    codecarbon,
    dcgm,
    dmon,
    eco2ai,
    mlperf,
    nvidia_smi,
    plain_csv,
    prometheus,
    sacct,
    wandb,
    zeus,
)
from carbontrack.importers.model import FileOptions, FoundRun, Refused, Tally
from carbontrack.importers.source import Source
from carbontrack.vocabulary import ImportKind


class Reader(Protocol):
    """What the module of a kind offers."""

    KIND: ImportKind

    def matches(self, head: str) -> bool:
        """Whether a file that begins like this is of this kind."""

    def read(self, source: Source, options: FileOptions, tally: Tally) -> list[FoundRun]:
        """Its runs. Raises Refused for a file that is not imported."""


# The surest first: a file is of the first kind that it matches.
READERS: tuple[Reader, ...] = (
    codecarbon,
    eco2ai,
    zeus,
    sacct,
    wandb,
    prometheus,
    mlperf,
    carbontracker,
    dmon,
    dcgm,
    nvidia_smi,
    plain_csv,
)


def identify(source: Source, kind: str | None = None) -> Reader:
    """The reader of a file: of this kind, else by its content. Raises CarbontrackError for a kind
    that is not known, and Refused for a file that is of none.
    """
    known = ", ".join(reader.KIND for reader in READERS)
    if kind is not None:
        found = next((reader for reader in READERS if kind == reader.KIND), None)
        if found is None:
            raise CarbontrackError(f"--kind {kind!r} is not known.", hint=f"Known: {known}.")
        return found
    found = next((reader for reader in READERS if reader.matches(source.head)), None)
    if found is None:
        what = "is empty" if not source.head.strip() else "is of no kind that is known"
        raise Refused(
            f"{source.name} {what}.",
            f"Known: {known}. Intensities and prices: carbontrack factors import.",
        )
    return found
