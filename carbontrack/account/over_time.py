"""A run's energy with the intensity of its own hours. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from carbontrack.account import formulas
from carbontrack.factors.catalog import Factor
from carbontrack.factors.series import IntensitySeries
from carbontrack.ledger.rows import Run, Usage
from carbontrack.units import J_PER_KWH, KG_PER_T, MS_PER_HOUR


def hourly_factor(
    series: IntensitySeries, run: Run, hours: Sequence[Usage], year: Factor, *, end_ms: int
) -> tuple[Factor | None, str]:
    """The intensity of a run's energy, Σ E_k × I_k ÷ Σ E_k, and a note on the hours without one.

    For those `year` stands in where its basis is the series' own, else the mean of the run's known
    hours: bases are never mixed. The factor is None where no hour is known, or none has energy.
    """
    energies_kwh: dict[int, float] = {}
    for usage in hours:
        if usage.energy_j is not None:
            spent = energies_kwh.get(usage.start_ms, 0.0)
            energies_kwh[usage.start_ms] = spent + usage.energy_j / J_PER_KWH
    means = {}
    for start_ms in energies_kwh:
        from_ms = max(start_ms, run.started_ms)
        to_ms = max(from_ms + 1, min(start_ms + MS_PER_HOUR, end_ms))
        means[start_ms] = series.mean(from_ms, to_ms)
    known = [mean for mean in means.values() if mean is not None]
    total_kwh = sum(energies_kwh.values())
    missing, one = len(means) - len(known), series.intervals[0]
    said = f"{missing} of its {len(means)} hours without an intensity in {one.zone}"
    if not known or total_kwh <= 0:
        return None, f"{said}: {_called(year)} stands in for all" if missing else ""
    stand_in, called = sum(known) / len(known), f"the mean of the other {len(known)}"
    if year.year is not None and year.basis == one.basis:
        stand_in, called = year.value, _called(year)
    each = [stand_in if mean is None else mean for mean in means.values()]
    tco2e = formulas.hourly_tco2e(list(energies_kwh.values()), each, 1.0)
    rest = f", {missing} h by {called}" if missing else ""
    factor = Factor(
        name="intensity",
        value=tco2e * KG_PER_T / total_kwh,
        unit="kg/kWh",
        source=f"{one.zone} hour by hour over {len(known)} h{rest}, {series.source}",
        version=one.version,
        basis=one.basis,
    )
    return factor, f"{said}: {called} stands in ({stand_in:.4g} kg/kWh)" if missing else ""


def _called(year: Factor) -> str:
    return f"the mean of {year.year}" if year.year else "the mean of all that was imported"
