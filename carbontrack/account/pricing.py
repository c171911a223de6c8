"""Applying factors to an energy: PUE, intensity, money, embodied carbon, water. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from carbontrack.account import formulas
from carbontrack.account.result import Estimate, Price, sci_g_per_mtok, unique
from carbontrack.factors import catalog
from carbontrack.factors.catalog import Factor
from carbontrack.factors.resolve import Factors

# What is paid for by a price.
_PAID_BY = {"tariff": "electricity", "price_per_gpu_hour": "rent", "gpu_price": "hardware"}


def priced(base: Estimate, factors: Factors, *, embodied: bool = False) -> Estimate:
    """Apply the factors to an energy; without one, only hour-based figures are known."""
    energy_kwh, node_kwh, facility_kwh = base.energy_kwh, 0.0, None
    tco2e = tco2e_market = water_l = None
    contract, wue = factors.contract_intensity, factors.wue
    if energy_kwh is not None:
        node_kwh = formulas.node_energy_kwh(
            base.device_hours,
            base.node_hours,
            _value(factors.node_w_per_device),
            _value(factors.node_w),
        )
        whole_kwh = energy_kwh + node_kwh
        facility_kwh = formulas.facility_energy_kwh(whole_kwh, factors.pue.value)
        tco2e = formulas.emissions_tco2e(facility_kwh, factors.intensity.value)
        if contract is not None:
            tco2e_market = formulas.emissions_tco2e(facility_kwh, contract.value)
        if wue is not None:
            water_l = formulas.water_l(whole_kwh, wue.value)
    cost, used = _cost(base, factors, facility_kwh)
    cost_of = " + ".join(unique(_PAID_BY.get(factor.name) for factor in used))
    notes = _missing_cost(base, factors)
    made_t = None
    if embodied:
        made_t, unknown = _embodied(base, factors)
        notes += unknown
        if made_t is not None:
            used += [f for f in (factors.lifetime_years, factors.utilisation) if f is not None]
    price = Price(
        factors=factors,
        node_kwh=node_kwh,
        facility_kwh=facility_kwh,
        tco2e=tco2e,
        tco2e_market=tco2e_market,
        embodied_tco2e=made_t,
        sci_g_per_mtok=sci_g_per_mtok(tco2e, made_t, base.tokens),
        water_l=water_l,
        cost=cost,
        cost_of=cost_of,
        currency=factors.currency,
        assumed=_assumed([factors.pue, factors.intensity, *used]),
    )
    return base.with_price(price, notes)


def unpriced(base: Estimate, *notes: str) -> Estimate:
    """An energy whose factors cannot be found: neither carbon nor money, and the notes say why."""
    return base.with_price(Price(unpriced_kwh=base.energy_kwh or 0.0), notes)


def _cost(
    base: Estimate, factors: Factors, facility_kwh: float | None
) -> tuple[float | None, list[Factor]]:
    """Rent where GPUs have a price, else electricity and written-off hardware; the factors used."""
    rent, tariff, gpu_hours = factors.price_per_gpu_hour, factors.tariff, base.gpu_hours
    if rent is not None:
        if gpu_hours is None or not base.gpu_hours_of:
            return None, []
        return formulas.rental_cost(gpu_hours, rent.value), [rent]
    if tariff is None or facility_kwh is None:
        return None, []
    cost, used = formulas.electricity_cost(facility_kwh, tariff.value), [tariff]
    price, years, utilisation = factors.gpu_price, factors.lifetime_years, factors.utilisation
    if price is not None and years is not None and utilisation is not None:
        if gpu_hours is None:
            return None, []
        lifetime_hours = years.value * formulas.HOURS_PER_YEAR
        cost += formulas.amortised_cost(gpu_hours, price.value, lifetime_hours, utilisation.value)
        used += [price, years, utilisation]
    return cost, used


def _missing_cost(base: Estimate, factors: Factors) -> list[str]:
    if factors.price_per_gpu_hour is None and factors.tariff is None:
        assumed, currency = catalog.tariff().unit, factors.currency
        if assumed == f"{currency}/kWh":  # a price was named, and its own note says what it lacks
            return []
        return [f"no cost: no price in {currency} is known; set a tariff or a price per GPU-hour"]
    of_hours = factors.price_per_gpu_hour or factors.gpu_price
    if of_hours is not None and base.gpu_hours is None:
        return ["no cost: its GPU-hours are not stated"]
    if factors.price_per_gpu_hour is None or base.gpu_hours_of:
        return []
    return ["no cost: a price per GPU-hour says nothing of a run without GPUs; set a tariff"]


def _embodied(base: Estimate, factors: Factors) -> tuple[float | None, list[str]]:
    """The share of making the GPUs; None and a note where no figure is known for one of them."""
    years, utilisation = factors.lifetime_years, factors.utilisation
    unknown = [name for name in base.gpu_hours_of if name not in factors.embodied_kg]
    if unknown or not base.gpu_hours_of or years is None or utilisation is None:
        without = "GPU-hours" if base.gpu_hours is None else "GPUs"
        what = ", ".join(unknown) or f"a run without {without}"
        how = "; set embodied_kg" if unknown else ""
        return None, [f"embodied: unknown for {what}{how}"]
    lifetime_hours = years.value * formulas.HOURS_PER_YEAR
    tonnes = sum(
        formulas.embodied_tco2e(
            hours, factors.embodied_kg[name].value, lifetime_hours, utilisation.value
        )
        for name, hours in base.gpu_hours_of.items()
    )
    return tonnes, []


def _assumed(factors: Iterable[Factor]) -> tuple[str, ...]:
    return tuple(unique(factor.name for factor in factors if factor.assumed))


def _value(factor: Factor | None) -> float:
    return 0.0 if factor is None else factor.value
