"""The settings that there are: an entry each, of which all that knows settings is derived.

Configuration, the options of the commands, factors, notes and docs/commands.md take names, units,
ranges and words from here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from carbontrack.units import age_ms

SHIP_SECONDS = "7d"
"""The default of `ship_seconds`."""
OFF = "off"
"""The `ship_seconds` by which none are shipped."""
_ESTIMATES = "every estimate"


@dataclass(frozen=True, slots=True)
class Key:
    """One setting: all that configuration, options, factors and notes know of it."""

    name: str
    help: str
    unit: str = ""  # "per kWh" of money: of its currency
    low: float | None = None  # None: text
    high: float = math.inf
    title: str = ""  # of the factor, in notes and `explain`; its name if empty
    form: str = ""  # of a text
    parse: Callable[[str], str] = str  # of a text; raises ValueError for one that is invalid
    money: bool = False
    read_by: str = _ESTIMATES
    recorded: bool = True  # with a run

    @property
    def is_number(self) -> bool:
        """A number, which becomes a factor."""
        return self.low is not None

    @property
    def is_option(self) -> bool:
        """An option of every command that estimates."""
        return self.read_by == _ESTIMATES

    def unit_in(self, currency: str) -> str:
        """The unit of the factor: EUR/kWh, kgCO2e/GPU."""
        return (f"{currency} {self.unit}" if self.money else self.unit).replace(" per ", "/")


def _currency(text: str) -> str:
    if len(text) != 3 or not text.isalpha():
        raise ValueError("not a currency such as EUR")
    return text.upper()


def _day(text: str) -> str:
    from datetime import date

    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError("not a day such as 2026-01-31") from None


def _age_or_off(text: str) -> str:
    if text != OFF:
        try:
            age_ms(text)
        except ValueError:
            raise ValueError(f"neither {OFF} nor an age such as 36h, 7d or 12w") from None
    return text


KEYS = (
    Key("facility", "Name of the place.", read_by="run, which records it"),
    Key("zone", "Grid zone: FRA, US-CAMX, gcp:us-central1, aws:us-east-1; a year by FRA@2023."),
    Key("provider", "Whose PUE to take: gcp, aws, azure, …"),
    Key("pue", "Facility energy ÷ IT energy, 1 or more.", "", 1.0, 5.0, title="PUE"),
    Key(
        "intensity",
        "Grid intensity in kgCO2e/kWh, location-based (385 g is 0.385).",
        "kg/kWh",
        0.0,
        3.0,
    ),
    Key(
        "contract_intensity",
        "Intensity of the power contract, for the market-based figure.",
        "kg/kWh",
        0.0,
        3.0,
        title="contract's intensity",
    ),
    Key("wue", "Water per kWh of IT energy.", "L/kWh", 0.0, 50.0, title="WUE"),
    Key("tariff", "Price of electricity.", "per kWh", 0.0, 100.0, money=True),
    Key(
        "price_per_gpu_hour",
        "Rent of a GPU-hour, instead of tariff and hardware.",
        "per GPU-hour",
        0.0,
        1e4,
        title="rent",
        money=True,
    ),
    Key("price", "An imported price; see factors list price --imported.", form="BOOK:ITEM"),
    Key("currency", "Currency of tariff and prices, three letters. Default: USD.", parse=_currency),
    Key(
        "gpu_price",
        "What a GPU cost, written off over lifetime × utilisation.",
        "per GPU",
        0.0,
        1e7,
        title="price of a GPU",
        money=True,
    ),
    Key(
        "embodied_kg",
        "Carbon of making a GPU, instead of the table's.",
        "kgCO2e per GPU",
        0.0,
        1e5,
        title="embodied",
    ),
    Key(
        "lifetime_years",
        "Lifetime over which hardware is written off.",
        "years",
        0.1,
        30.0,
        title="lifetime",
    ),
    Key("utilisation", "Share of its lifetime that hardware works, up to 1.", "", 0.01, 1.0),
    Key(
        "node_w_per_device",
        "Node model: watts that no meter sees, per device.",
        "W",
        0.0,
        1e4,
        title="node model, modelled: per device",
    ),
    Key(
        "node_w",
        "Node model: watts that no meter sees, per node.",
        "W",
        0.0,
        1e5,
        title="node model, modelled:",
    ),
    Key(
        "ship", "Collector that every run is shipped to.", form="URL", read_by="run", recorded=False
    ),
    Key(
        "ship_seconds",
        f"How old the seconds are at most that are shipped to it, too, or {OFF}. "
        f"Default: {SHIP_SECONDS}.",
        form="AGE",
        parse=_age_or_off,
        read_by="run and db ship",
        recorded=False,
    ),
    Key(
        "live_provider",
        "Live provider of grid intensity: gb, electricitymaps.",
        read_by="factors fetch",
    ),
    Key(
        "factors_as_of",
        "Take the factors that were known on this day.",
        form="YYYY-MM-DD",
        parse=_day,
    ),
)
BY_NAME = {key.name: key for key in KEYS}
PRICES = tuple(key.name for key in KEYS if key.money)
LOOKED_UP_BY = ("zone", "provider", "factors_as_of")
"""Those that the tables of factors may have nothing for."""
