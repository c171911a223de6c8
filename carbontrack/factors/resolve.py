"""The factors of one estimate: every number that turns energy into carbon and money, sourced.

`resolve` makes the set from the settings; what is not set is taken from the packaged tables and
marked *assumed*.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from carbontrack import config, keys
from carbontrack.errors import CarbontrackError
from carbontrack.factors import catalog
from carbontrack.factors.catalog import Factor
from carbontrack.vocabulary import Method

if TYPE_CHECKING:
    from carbontrack.factors.series import HourlyIntensity, IntensitySeries


@dataclass(frozen=True, slots=True)
class Factors:
    """The factors of one estimate. None if not asked for, or unknown."""

    pue: Factor
    intensity: Factor
    currency: str
    tariff: Factor | None = None
    price_per_gpu_hour: Factor | None = None
    contract_intensity: Factor | None = None
    wue: Factor | None = None
    gpu_price: Factor | None = None
    lifetime_years: Factor | None = None
    utilisation: Factor | None = None
    node_w_per_device: Factor | None = None
    node_w: Factor | None = None
    rated_w: Mapping[str, Factor] = field(default_factory=dict)  # by the device's name
    embodied_kg: Mapping[str, Factor] = field(default_factory=dict)  # by the device's name
    zone: str | None = None
    series: IntensitySeries | None = None  # of the zone, where the ledger has one
    hourly: HourlyIntensity | None = None  # of the run's hours, whose mean is `intensity`

    def __iter__(self) -> Iterator[Factor]:
        """The factors that are known, in the order of the fields."""
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, Factor):
                yield value
            elif isinstance(value, Mapping):
                yield from dict.fromkeys(value.values())


def parse_methods(text: str) -> list[str]:
    """`measured`, `report`, or several joined by commas. Raises CarbontrackError for another."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in tuple(Method):
            known = " or ".join(Method)
            raise CarbontrackError(f"--method {name}: unknown.", hint=f"Give {known}, or both.")
    return names


def resolve(
    settings: config.Settings,
    *,
    method: str,
    embodied: bool = False,
    series: IntensitySeries | None = None,
    devices: Mapping[str, float | None] | None = None,
    price: Factor | None = None,
    defaults: str = "",
) -> Factors:
    """The factors for `method`, from what was set and, where nothing was, from the packaged tables.

    The defaults are those of the method `defaults`, its own if empty: for `report` LLaMA's 1.1 and
    0.385 kgCO2e/kWh; otherwise the industry's average PUE, the newest world average intensity, and
    the intensity of each hour. Lifetime and utilisation are only assumed
    when something is written off: a GPU price, or embodied carbon (`embodied`). `series` is the
    intensity of the zone over time. With the setting `factors_as_of` the tables are read as they
    were on that day. `devices` are the names of the run's devices with the rated W that their
    driver reports: the packaged rating of a name goes before that. `price` is an imported one, of
    a GPU-hour or a kWh, in the currency of the settings. Raises CarbontrackError for an unknown
    zone or provider, and a day on which there was no value yet.
    """
    given: dict[str, Any] = {
        key.name: _given(key, settings)
        for key in keys.KEYS
        if key.is_number and key.name in settings
    }
    if price is not None:
        given[price.name] = price
    made, devices = given.pop("embodied_kg", None), devices or {}
    provider = settings.get("provider")
    zone = settings.get("zone")
    as_of = settings["factors_as_of"].value if "factors_as_of" in settings else None
    as_reported = (defaults or method) == Method.REPORT
    if "pue" not in given:
        default = "llama" if as_reported else "industry"
        given["pue"] = (
            catalog.pue(provider.value, as_of=as_of)
            if provider
            else catalog.pue(default, assumed=True, as_of=as_of)
        )
    if "intensity" not in given:
        given["intensity"] = _intensity(
            zone.value if zone else None, series, as_of, as_reported=as_reported
        )
    else:
        series = None  # a number was given: it holds for every hour
    currency = settings["currency"].value if "currency" in settings else "USD"
    rated = method == Method.REPORT
    if not {"tariff", "price_per_gpu_hour", "price"}.intersection((*settings, *given)):
        tariff = catalog.tariff(as_of=as_of)
        if tariff.unit == f"{currency}/kWh":
            given["tariff"] = tariff
    if embodied or "gpu_price" in given:
        for name in ("lifetime_years", "utilisation"):
            given.setdefault(name, catalog.assumption(name))
    return Factors(
        currency=currency,
        zone=zone.value if zone else None,
        series=None if as_reported else series,
        rated_w=_known({n: _rated_w(n, w, as_of) for n, w in devices.items()} if rated else {}),
        embodied_kg=_known(
            {n: made or catalog.embodied_kg(n, as_of=as_of) for n in devices} if embodied else {}
        ),
        **given,
    )


def _rated_w(name: str, driver_w: float | None, as_of: str | None) -> Factor | None:
    known = catalog.rated_w(name, as_of=as_of)
    if known is not None or not driver_w:
        return known
    return Factor("rated_w", driver_w, "W", f"{name}, as its driver reports")


def _known(found: Mapping[str, Factor | None]) -> dict[str, Factor]:
    return {name: factor for name, factor in found.items() if factor is not None}


def _given(key: keys.Key, settings: config.Settings) -> Factor:
    setting = settings[key.name]
    currency = settings["currency"].value if "currency" in settings else "USD"
    return Factor(
        name=key.name,
        value=float(setting.value),
        unit=key.unit_in(currency),
        source=f"given ({setting.origin})",
        basis="as given" if key.name == "intensity" else "",
    )


def _intensity(
    zone: str | None, series: IntensitySeries | None, as_of: str | None, *, as_reported: bool
) -> Factor:
    if zone is None:
        if as_reported:
            return catalog.assumption("intensity")
        return catalog.intensity("WORLD", assumed=True, as_of=as_of)
    if series is not None and catalog.zone_code(zone) is None:
        return series.over_all()
    return catalog.intensity(zone, as_of=as_of)
