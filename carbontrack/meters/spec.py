"""What `--meter` can name. Light: the job waits for it."""

from __future__ import annotations

from carbontrack.errors import CarbontrackError
from carbontrack.meters import AUTO

TYPE_CHECKING = False  # `typing` costs 15 ms
if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

# Each has `open_meter`, and `check`, which raises CarbontrackError for an argument that means
# nothing and touches no device. Imported only when asked for: pynvml alone costs 60 ms. Meters of
# other packages come through the entry-point group, whose scan costs more, so it is made only for a
# name that is not here.
_SIMULATED = "sim"
OWN = {  # by `vocabulary.MeterName`, which takes 10 ms to import
    "nvml": "carbontrack.meters.nvml",
    "rapl": "carbontrack.meters.rapl",
    "cpu-model": "carbontrack.meters.cpu",
    _SIMULATED: "carbontrack.meters.simulated",
}
_GROUP = "carbontrack.meters"


def check_spec(spec: str) -> None:
    """Raise CarbontrackError for an invalid spec, without touching any device."""
    if spec == AUTO:
        return
    for part in spec.split(","):
        name, _, argument = part.strip().partition(":")
        found = find(name)
        # The job waits for this: what needs no argument is not imported.
        if isinstance(found, str) and (argument or name == _SIMULATED):
            from importlib import import_module

            import_module(found).check(argument)


def find(name: str) -> str | EntryPoint:
    """Our module for the meter, or another package's entry point. Raises CarbontrackError."""
    if name in OWN:
        return OWN[name]
    if name == AUTO:
        raise CarbontrackError(
            "The meter auto stands alone: it takes no argument and joins no other meter.",
            hint=f"Give --meter auto, or join meters by name: {', '.join(OWN)}.",
        )
    from importlib.metadata import entry_points

    found = {entry.name: entry for entry in entry_points(group=_GROUP)}
    if name not in found:
        known = ", ".join([AUTO, *OWN, *sorted(found)])
        raise CarbontrackError(f"There is no meter {name!r}.", hint=f"Known meters: {known}.")
    return found[name]
