"""The energy of each hour of a run, and the intensity that the grid had in it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from carbontrack.account import formulas
from carbontrack.factors.resolve import Factors
from carbontrack.ledger.recorded_rows import Usage
from carbontrack.units import J_PER_KWH, KG_PER_T


def with_hours(
    factors: Factors, by_hour: Callable[[], Mapping[int, float]], *, from_ms: int, to_ms: int
) -> tuple[Factors, str]:
    """The factors with the intensity of a run's very hours, whose energies in kWh `by_hour` gives,
    and a note on those without one.

    A part of a run takes the hours that the whole had: then `factors` have them already.
    """
    if factors.series is None:
        return factors, ""
    from carbontrack.factors.series import hourly, hours_without, year_name  # few runs have one

    energies_kwh = by_hour()
    found = factors.hourly or hourly(
        factors.series, energies_kwh, factors.intensity, from_ms=from_ms, to_ms=to_ms
    )
    if found is None:
        if not energies_kwh:
            return factors, ""
        zone, count = factors.series.intervals[0].zone, len(energies_kwh)
        missing = hours_without(count, count, zone)
        return factors, f"{missing}: {year_name(factors.intensity)} stands in for all"
    total_kwh = sum(energies_kwh.values())
    if total_kwh <= 0:
        return factors, ""
    each_kg = [found.kg_per_kwh[at_ms] for at_ms in energies_kwh]
    tco2e = formulas.hourly_tco2e(list(energies_kwh.values()), each_kg, 1.0)
    mean = found.factor(tco2e * KG_PER_T / total_kwh, energies_kwh)
    return replace(factors, intensity=mean, hourly=found), found.note(energies_kwh)


def energy_by_hour(hours: Sequence[Usage]) -> dict[int, float]:
    """Energy in kWh of all devices in each hour, by its start in ms and in order; where known."""
    found: dict[int, float] = {}
    for usage in sorted(hours, key=lambda usage: usage.start_ms):
        if usage.energy_j is not None:
            spent = found.get(usage.start_ms, 0.0)
            found[usage.start_ms] = spent + usage.energy_j / J_PER_KWH
    return found
