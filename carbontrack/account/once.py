"""What a run adds to a total in which another run has some of its devices already. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from carbontrack.account.pricing import priced, unpriced
from carbontrack.account.result import Estimate
from carbontrack.ledger.rows import Repeated
from carbontrack.units import J_PER_KWH


def without(estimate: Estimate, repeated: Sequence[Repeated]) -> Estimate:
    """The estimate without what is `repeated`, priced anew by its own factors if it has them.

    Hours, and with them rented and rated energy, shrink by the share of device-seconds of the
    primary kind.
    """
    device_s = (estimate.duration_s or 0.0) * estimate.devices
    primary = [one for one in repeated if one.uuid in estimate.uuids]
    share = min(1.0, sum(one.seconds for one in primary) / device_s) if device_s else 0.0
    left = 1.0 - share
    rated = estimate.method == "report"
    smaller = replace(
        estimate,
        duration_s=(estimate.duration_s or 0.0) * left,
        gpu_hours_of={name: hours * left for name, hours in estimate.gpu_hours_of.items()},
        device_hours=estimate.device_hours * left,
        primary_kwh=_less(estimate.primary_kwh, primary, left, rated=rated),
        primary_s=estimate.primary_s * left
        if rated
        else max(0.0, estimate.primary_s - sum(one.seconds for one in primary)),
        energy_kwh=_less(estimate.energy_kwh, repeated, left, rated=rated),
        metered_kwh=_times(estimate.metered_kwh, left),
        metered_rated_kwh=_times(estimate.metered_rated_kwh, left),
    )
    embodied = estimate.embodied_tco2e is not None
    factors = estimate.factors
    again = priced(smaller, factors, embodied=embodied) if factors else unpriced(smaller)
    return replace(again, duration_s=estimate.duration_s)


def _less(
    energy_kwh: float | None, repeated: Sequence[Repeated], left: float, *, rated: bool
) -> float | None:
    if energy_kwh is None:
        return None
    if rated:
        return _times(energy_kwh, left)
    return max(0.0, energy_kwh - sum(one.energy_j for one in repeated) / J_PER_KWH)


def _times(energy_kwh: float | None, left: float) -> float | None:
    return None if energy_kwh is None else energy_kwh * left
