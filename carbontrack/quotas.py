"""The quotas of projects: tables `quota.PROJECT` in the files that hold the settings.

A recorder reads settings but no quotas, so that no mistake in one is in the way of a job.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from carbontrack import config
from carbontrack.errors import CarbontrackError
from carbontrack.vocabulary import Per

EXAMPLE = "Example: [quota.nlp] with the lines kwh = 20000 and per = 'month'."
UNITS = {"kwh": "kWh", "kg": "kg", "cost": "", "gpu_hours": "GPU-hours"}
_PER = "per"


@dataclass(frozen=True, slots=True)
class Quota:
    """What a project may use in each calendar period; None is no limit, and one is set at least.

    Energy is of the facility, after PUE; carbon location-based. Money is in `currency`, that of the
    file it stands in.
    """

    project: str
    per: Per
    origin: str
    kwh: float | None = None
    kg: float | None = None
    cost: float | None = None
    gpu_hours: float | None = None
    currency: str = ""


def quotas_of(layers: Sequence[config.Layer]) -> dict[str, Quota]:
    """By project; of one that several files name, that of the first file.

    Raises CarbontrackError, which names the file, for what is no quota.
    """
    found: dict[str, Quota] = {}
    for layer in layers:
        if layer.quotas is None:
            continue
        where = f"{layer.origin}: {config.QUOTA}"
        for project, limits in _table(layer.quotas, where).items():
            quota = _quota(project, _table(limits, f"{where}.{project}"), layer)
            found.setdefault(project, quota)
    return found


def _quota(project: str, given: dict[str, Any], layer: config.Layer) -> Quota:
    where = f"{layer.origin}: {config.QUOTA}.{project}"
    for name in given:
        if name not in (*UNITS, _PER):
            hint = config.nearest(name, [*UNITS, _PER])
            raise CarbontrackError(f"{where}.{name}: no such limit.", hint=hint)
    limits = {
        name: config.number(f"{where}.{name}", given[name], unit)
        for name, unit in UNITS.items()
        if name in given
    }
    if not limits:
        raise CarbontrackError(f"{where}: no limit.", hint=f"Give {', '.join(UNITS)}.")
    per = given.get(_PER, Per.MONTH)
    if per not in tuple(Per):
        raise CarbontrackError(f"{where}.{_PER} {per!r}: unknown.", hint=f"Give {', '.join(Per)}.")
    return Quota(project, Per(per), layer.origin, currency=config.currency_of(layer), **limits)


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CarbontrackError(f"{where}: not a table.", hint=EXAMPLE)
    return value
