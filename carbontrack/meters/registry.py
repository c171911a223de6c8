"""Finding and opening a meter: what `--meter` means.

`auto` takes the first that works of NVML (GPUs), RAPL (CPU packages and memory) and the CPU model
(an estimate), and keeps the reasons why it passed over the better ones. Names joined by commas open
together.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carbontrack.errors import CarbontrackError
from carbontrack.meters import AUTO
from carbontrack.meters.spec import find
from carbontrack.vocabulary import MeterName

if TYPE_CHECKING:
    from carbontrack.meters.base import Meter, MeterContext

    OpenMeter = Callable[[str, MeterContext], Meter]

_AUTO = (MeterName.NVML, MeterName.RAPL, MeterName.CPU_MODEL)
_SAME_DEVICE = frozenset({MeterName.RAPL, MeterName.CPU_MODEL})


@dataclass(frozen=True, slots=True)
class Rejected:
    """A better meter that could not be taken, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """The opened meters, and what `auto` would rather have had."""

    meters: Sequence[Meter]
    rejected: Sequence[Rejected] = ()

    @property
    def note(self) -> str:
        """What is read and how good it is, and why nothing better: sentences for people."""
        reasons = [f"Not {over.name}: {over.reason}" for over in self.rejected]
        return " ".join([*(meter.note for meter in self.meters), *reasons])


def find_meters(spec: str, context: MeterContext) -> Found:
    """Open the meters of a spec such as `auto`, `nvml`, `nvml,rapl` or `sim:a100x8`.

    Raises CarbontrackError if the spec is not known or a meter named in it cannot work here.
    """
    names = [part.strip() for part in spec.split(",")]
    if names == [AUTO]:
        return _first_that_works(context)
    if {name.partition(":")[0] for name in names} >= _SAME_DEVICE:
        raise CarbontrackError(
            f"--meter {spec} would count the CPU twice.", hint="Take rapl or cpu-model."
        )
    meters: list[Meter] = []
    try:
        for name in names:
            meters.append(_open_named(name, context))
        _refuse_twice(spec, meters)
    except CarbontrackError:
        for meter in meters:
            meter.close()
        raise
    return Found(meters)


def _first_that_works(context: MeterContext) -> Found:
    from carbontrack.meters.base import MeterUnavailable

    rejected: list[Rejected] = []
    for name in _AUTO:
        try:
            return Found([_open(name, context)], rejected)
        except MeterUnavailable as error:
            rejected.append(Rejected(name, str(error)))
    reasons = " ".join(f"{over.name}: {over.reason}" for over in rejected)
    raise CarbontrackError(f"No meter works here. {reasons}", exit_code=1)


def _open_named(name: str, context: MeterContext) -> Meter:
    from carbontrack.meters.base import MeterUnavailable

    try:
        return _open(name, context)
    except MeterUnavailable as error:
        raise CarbontrackError(f"The meter {name} cannot work here: {error}") from error


def _refuse_twice(spec: str, meters: Sequence[Meter]) -> None:
    """Each physical device counts once."""
    seen: set[str] = set()
    for device in (source.device for meter in meters for source in meter.sources):
        if device.uuid in seen:
            raise CarbontrackError(f"--meter {spec} counts {device.name} {device.uuid} twice.")
        seen.add(device.uuid)


def _open(spec: str, context: MeterContext) -> Meter:
    name, _, argument = spec.partition(":")
    return _opener(name)(argument, context)


def _opener(name: str) -> OpenMeter:
    found = find(name)
    opener: OpenMeter = (
        importlib.import_module(found).open_meter if isinstance(found, str) else found.load()
    )
    return opener
