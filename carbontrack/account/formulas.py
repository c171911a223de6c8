"""The arithmetic of carbon and money: pure functions, one formula each, with its source.

Energy is in kWh, power in W, emissions in tCO2e (1000 kg), intensity in kgCO2e/kWh. A GPU-hour is
one GPU for one hour. No function rounds.
"""

from __future__ import annotations

from collections.abc import Sequence

from carbontrack.units import KG_PER_T

W_PER_KW = 1000.0
HOURS_PER_YEAR = 8760.0
TOKENS_PER_SCI_UNIT = 1e6


def rated_energy_kwh(device_hours: float, power_w: float) -> float:
    """E = h × P / 1000, before PUE (LLaMA, arXiv:2302.13971, section 6)."""
    return device_hours * power_w / W_PER_KW


def facility_energy_kwh(energy_kwh: float, pue: float) -> float:
    """E_facility = E_IT × PUE (ISO/IEC 30134-2)."""
    return energy_kwh * pue


def emissions_tco2e(facility_kwh: float, intensity_kg_per_kwh: float) -> float:
    """C = E_facility × I / 1000 (GHG Protocol Scope 2, location-based where I is the grid's)."""
    return facility_kwh * intensity_kg_per_kwh / KG_PER_T


def hourly_tco2e(energies_kwh: Sequence[float], intensities: Sequence[float], pue: float) -> float:
    """C = Σ E_k × PUE × I_k, not mean(E) × mean(I) (Dodge et al. 2022, arXiv:2206.05229).

    Raises ValueError if the two differ in length.
    """
    return sum(
        emissions_tco2e(facility_energy_kwh(energy_kwh, pue), intensity)
        for energy_kwh, intensity in zip(energies_kwh, intensities, strict=True)
    )


def embodied_tco2e(
    device_hours: float, embodied_kg: float, lifetime_hours: float, utilisation: float
) -> float:
    """C = h × M / (lifetime × utilisation) / 1000 (Luccioni et al. 2022, arXiv:2211.02001)."""
    return device_hours * embodied_kg / (lifetime_hours * utilisation) / KG_PER_T


def electricity_cost(facility_kwh: float, tariff_per_kwh: float) -> float:
    """Money for energy: E_facility × tariff (own machines: TCO model of Barroso, Hölzle and
    Ranganathan, The Datacenter as a Computer, 3rd ed. 2018, chapter 6).
    """
    return facility_kwh * tariff_per_kwh


def rental_cost(gpu_hours: float, price_per_gpu_hour: float) -> float:
    """GPU-hours × price: electricity is in the price, so it is never added.

    So do published costs: DeepSeek-V3, arXiv:2412.19437, Table 1: 2.788M H800-hours at 2 USD.
    """
    return gpu_hours * price_per_gpu_hour


def amortised_cost(
    device_hours: float, price: float, lifetime_hours: float, utilisation: float
) -> float:
    """Own hardware, written off over the hours it works: h × price / (lifetime × utilisation).

    Straight-line depreciation (IAS 16.62), as `embodied_tco2e` spreads carbon.
    """
    return device_hours * price / (lifetime_hours * utilisation)


def node_energy_kwh(
    device_hours: float, node_hours: float, w_per_device: float, w_per_node: float
) -> float:
    """The part of servers that no meter sees, modelled: a W × device-hours + b W × node-hours.

    A constant overhead, as Jay et al. 2023 (doi 10.1109/CCGrid57682.2023.00020) fit to a server
    with a wattmeter. a and b come from who knows the servers: none are assumed.
    """
    return rated_energy_kwh(device_hours, w_per_device) + rated_energy_kwh(node_hours, w_per_node)


def sci_g_per_million_tokens(operational_t: float, embodied_t: float, tokens: int) -> float:
    """SCI = (O + M) / R in gCO2e per million tokens (ISO/IEC 21031:2024).

    O is location-based: the standard excludes market instruments and offsets. Raises
    ZeroDivisionError for no tokens.
    """
    return (operational_t + embodied_t) * KG_PER_T * 1000.0 / (tokens / TOKENS_PER_SCI_UNIT)


def water_l(energy_kwh: float, wue_l_per_kwh: float) -> float:
    """On-site water: IT energy × WUE (ISO/IEC 30134-9), without the water of power stations."""
    return energy_kwh * wue_l_per_kwh
