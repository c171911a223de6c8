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
from carbontrack.vocabulary import MeterName

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from carbontrack.meters.base import Meter, MeterContext

    OpenMeter = Callable[[str, MeterContext], Meter]

# Each has `open_meter`, and `check`, which raises CarbontrackError for an argument that means
# nothing and touches no device. Imported only when asked for: pynvml alone costs 60 ms. Meters of
# other packages come through the entry-point group, whose scan costs more, so it is made only for a
# name that is not here.
_OWN: dict[str, str] = {
    MeterName.NVML: "carbontrack.meters.nvml",
    MeterName.RAPL: "carbontrack.meters.rapl",
    MeterName.CPU_MODEL: "carbontrack.meters.cpu",
    MeterName.SIMULATED: "carbontrack.meters.simulated",
}
_GROUP = "carbontrack.meters"
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


def check_spec(spec: str) -> None:
    """Raise CarbontrackError for an invalid spec, without touching any device."""
    if spec == "auto":
        return
    for part in spec.split(","):
        name, _, argument = part.strip().partition(":")
        found = _find(name)
        # The job waits for this: what needs no argument is not imported.
        if isinstance(found, str) and (argument or name == MeterName.SIMULATED):
            importlib.import_module(found).check(argument)


def find_meters(spec: str, context: MeterContext) -> Found:
    """Open the meters of a spec such as `auto`, `nvml`, `nvml,rapl` or `sim:a100x8`.

    Raises CarbontrackError if the spec is not known or a meter named in it cannot work here.
    """
    names = [part.strip() for part in spec.split(",")]
    if names == ["auto"]:
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
    found = _find(name)
    opener: OpenMeter = (
        importlib.import_module(found).open_meter if isinstance(found, str) else found.load()
    )
    return opener


def _find(name: str) -> str | EntryPoint:
    """Our module for the meter, or another package's entry point. Raises CarbontrackError."""
    if name in _OWN:
        return _OWN[name]
    from importlib.metadata import entry_points

    found = {entry.name: entry for entry in entry_points(group=_GROUP)}
    if name not in found:
        known = ", ".join(["auto", *_OWN, *sorted(found)])
        raise CarbontrackError(f"There is no meter {name!r}.", hint=f"Known meters: {known}.")
    return found[name]
