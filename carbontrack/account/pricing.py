"""Applying factors to an energy: PUE, intensity, money, embodied carbon, water. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from carbontrack.account import catalog
from carbontrack.account import method as formula
from carbontrack.account.catalog import Factor
from carbontrack.account.factors import Factors
from carbontrack.account.result import Estimate, each
from carbontrack.units import S_PER_HOUR


def priced(base: Estimate, factors: Factors, *, embodied: bool = False) -> Estimate:
    """Apply the factors to an energy."""
    writing_off = _embodied(base, factors) if embodied else None
    used = [factors.pue, factors.intensity]
    base = replace(base, embodied_tco2e=writing_off, currency=factors.currency)
    if base.energy_kwh is None:
        return replace(base, assumed=_assumed(used))
    hours = (base.duration_s or 0.0) / S_PER_HOUR
    node_kwh = formula.node_energy_kwh(
        hours, base.devices, base.nodes, _value(factors.node_w_per_device), _value(factors.node_w)
    )
    energy_kwh = base.energy_kwh + node_kwh
    facility_kwh = formula.facility_energy_kwh(energy_kwh, factors.pue.value)
    tco2e = formula.emissions_tco2e(facility_kwh, factors.intensity.value)
    metered_share = base.energy_kwh / energy_kwh if energy_kwh else 1.0
    band_t = None if base.band is None else tco2e * metered_share * base.band
    cost, money = _cost(base, factors, facility_kwh)
    if embodied:
        money += [f for f in (factors.lifetime_years, factors.utilisation) if f is not None]
    contract, wue = factors.contract_intensity, factors.wue
    return replace(
        base,
        node_kwh=node_kwh,
        facility_kwh=facility_kwh,
        tco2e=tco2e,
        tco2e_low=None if band_t is None else tco2e - band_t,
        tco2e_high=None if band_t is None else tco2e + band_t,
        tco2e_market=None
        if contract is None
        else formula.emissions_tco2e(facility_kwh, contract.value),
        water_l=None if wue is None else formula.water_l(energy_kwh, wue.value),
        cost=cost,
        assumed=_assumed([*used, *money]),
    )


def _cost(
    base: Estimate, factors: Factors, facility_kwh: float
) -> tuple[float | None, list[Factor]]:
    """Rent where GPUs have a price, else electricity and written-off hardware; the factors used.

    A GPU-hour price says nothing of a run without GPUs.
    """
    rent, tariff = factors.price_per_gpu_hour, factors.tariff
    if rent is not None:
        if base.gpu_hours <= 0:
            return None, []
        return formula.rental_cost(base.gpu_hours, rent.value), [rent]
    if tariff is None:
        return None, []
    cost, used = formula.electricity_cost(facility_kwh, tariff.value), [tariff]
    price, years, utilisation = factors.gpu_price, factors.lifetime_years, factors.utilisation
    if price is not None and years is not None and utilisation is not None:
        hours = years.value * formula.HOURS_PER_YEAR
        cost += formula.amortised_cost(base.gpu_hours, price.value, hours, utilisation.value)
        used += [price, years, utilisation]
    return cost, used


def _embodied(base: Estimate, factors: Factors) -> float | None:
    """The share of making the GPUs; None where no figure is known for one of them."""
    given = factors.embodied_kg
    kg = _embodied_kg(base.device_names) if given is None else given.value
    if kg is None or factors.lifetime_years is None or factors.utilisation is None:
        return None
    lifetime_hours = factors.lifetime_years.value * formula.HOURS_PER_YEAR
    return formula.embodied_tco2e(base.gpu_hours, kg, lifetime_hours, factors.utilisation.value)


def _embodied_kg(names: Sequence[str]) -> float | None:
    """Of one kind of GPU: a mixed run needs `embodied_kg` given."""
    item = catalog.hardware(names[0]) if len(names) == 1 else None
    return item.embodied_kg if item else None


def _assumed(factors: Iterable[Factor]) -> tuple[str, ...]:
    return tuple(each(factor.name for factor in factors if factor.assumed))


def _value(factor: Factor | None) -> float:
    return 0.0 if factor is None else factor.value
