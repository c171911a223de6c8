"""The order of the list of runs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FIELDS: Mapping[str, str] = {
    "started": "started",
    "name": "name",
    "status": "status",
    "duration": "duration_s",
    "energy": "energy_kwh",
    "co2e": "tco2e",
    "money": "cost",
    "loss": "final_loss",
}
"""What `sort=` may name, and the key of a run's line that it means."""


def ordered(
    items: Sequence[Mapping[str, Any]], sort: str, *, down: bool
) -> list[Mapping[str, Any]]:
    """By one of FIELDS; what is not known comes last, whichever way."""
    key = FIELDS[sort]
    known = [item for item in items if item[key] is not None]
    unknown = [item for item in items if item[key] is None]
    return sorted(known, key=lambda item: item[key], reverse=down) + unknown
