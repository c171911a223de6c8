"""Settings of the facility, each with who set it: flag > run > environment > file > default.

The project file is `carbontrack.toml` in the working directory, else `[tool.carbontrack]` of the
nearest `pyproject.toml`. Every value keeps its origin, so that `carbontrack config` and `explain`
can name it. A default is no setting: what nobody chose is decided, and called *assumed*, in
`account.factors`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from carbontrack.errors import CarbontrackError

PROJECT_FILE = "carbontrack.toml"


@dataclass(frozen=True, slots=True)
class Key:
    """One setting: its name, unit or form, meaning, and the range a number must be in."""

    name: str
    unit: str
    help: str
    low: float | None = None  # None: text
    high: float = math.inf


KEYS = (
    Key("facility", "", "name of the place"),
    Key("zone", "", "grid zone: FRA, US-CAMX, gcp:us-central1, aws:us-east-1, FRA@2023, …"),
    Key("provider", "", "whose PUE to take: gcp, aws, azure, …"),
    Key("pue", "", "facility energy ÷ IT energy", 1.0, 5.0),
    Key("intensity", "kg/kWh", "grid intensity, location-based", 0.0, 3.0),
    Key("contract_intensity", "kg/kWh", "intensity of the power contract, market-based", 0.0, 3.0),
    Key("wue", "L/kWh", "water per kWh of IT energy", 0.0, 50.0),
    Key("tariff", "per kWh", "price of electricity", 0.0, 100.0),
    Key(
        "price_per_gpu_hour",
        "per GPU-hour",
        "rent, instead of tariff and hardware",
        0.0,
        1e4,
    ),
    Key("price", "", "an imported price of a GPU-hour, BOOK:ITEM"),
    Key("currency", "", "of tariff and prices, three letters"),
    Key("gpu_price", "per GPU", "what a GPU cost, for amortisation", 0.0, 1e7),
    Key("embodied_kg", "kgCO2e per GPU", "carbon of making a GPU", 0.0, 1e5),
    Key("lifetime_years", "years", "over which hardware is written off", 0.1, 30.0),
    Key("utilisation", "", "share of its lifetime that hardware works", 0.01, 1.0),
    Key("node_w_per_device", "W", "node model: watts that no meter sees, per device", 0.0, 1e4),
    Key("node_w", "W", "node model: watts that no meter sees, per node", 0.0, 1e5),
    Key("live_provider", "", "who `factors fetch` may ask over the network: gb, electricitymaps"),
    Key("factors_as_of", "", "take the factors that were known on this day, YYYY-MM-DD"),
)
_KEY = {key.name: key for key in KEYS}

# Each is another answer to the same question: one given in a higher layer silences the lower
# layers' others.
_ALTERNATIVES = (
    ("pue", "provider"),
    ("intensity", "zone"),
    ("tariff", "price_per_gpu_hour", "price"),
)
# A value of money is in the currency of the layer that states it, USD where that names none.
_MONEY = ("tariff", "price_per_gpu_hour", "gpu_price")
_CURRENCY = "USD"


@dataclass(frozen=True, slots=True)
class Setting:
    """A value and who set it."""

    value: Any
    origin: str


@dataclass(frozen=True, slots=True)
class Layer:
    """The values of one origin, checked."""

    origin: str
    values: Mapping[str, Any]


Settings = Mapping[str, Setting]


def flags(**values: Any) -> Layer:
    """The layer of options that were given. Raises CarbontrackError on a bad value."""
    given = {name: value for name, value in values.items() if value is not None}
    return Layer(
        "flag", {name: check(name, value, where=_flag(name)) for name, value in given.items()}
    )


def snapshot(facility: Mapping[str, Any]) -> Layer:
    """The layer of what was configured where and when a run was recorded."""
    known = {name: value for name, value in facility.items() if name in _KEY and value is not None}
    return Layer("recorded with the run", known)


def surroundings(
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
    user_file: Path | None = None,
) -> list[Layer]:
    """The layers outside the command line: environment, project file, user file.

    Raises CarbontrackError for an unreadable file, an unknown key, or a value that cannot be.
    """
    environ = os.environ if environ is None else environ
    folder = Path.cwd() if folder is None else folder
    user_file = _user_file() if user_file is None else user_file
    layers = [_environment(environ)]
    project = _project(folder)
    if project is not None:
        layers.append(project)
    if user_file.is_file():
        layers.append(_file_layer(user_file, _read_toml(user_file)))
    return layers


def resolve(layers: Sequence[Layer]) -> dict[str, Setting]:
    """One value for each key that somebody set, the first layer first.

    Raises CarbontrackError where a value of money would be read in another currency than its own.
    """
    settings: dict[str, Setting] = {}
    own_currency: dict[str, str] = {}
    for layer in layers:
        taken = set(settings)
        for name, value in layer.values.items():
            if name not in taken and not _answered(name, taken):
                settings[name] = Setting(value, layer.origin)
                own_currency[name] = layer.values.get("currency", _CURRENCY)
    _check_currency(settings, own_currency)
    return settings


def _check_currency(settings: Settings, own: Mapping[str, str]) -> None:
    stated = settings.get("currency")
    if stated is None:
        return
    rented = "price" in settings or "price_per_gpu_hour" in settings  # then no GPU is bought
    for name in _MONEY:
        if name not in settings or (name == "gpu_price" and rented):
            continue
        if own[name] != stated.value:
            said = f"{name} is in {own[name]} ({settings[name].origin})"
            raise CarbontrackError(
                f"{said}, but the currency is {stated.value} ({stated.origin}).",
                hint="Give each price and its currency in one place.",
            )


def values(settings: Settings) -> dict[str, Any]:
    """Only the values, as they are stored with a run; money never without its currency."""
    found = {name: setting.value for name, setting in settings.items()}
    if any(name in found for name in _MONEY):
        found.setdefault("currency", _CURRENCY)
    return found


def check(name: str, value: Any, *, where: str) -> Any:
    """The value as the key wants it. Raises CarbontrackError that names `where` it stands."""
    key = _KEY.get(name)
    if key is None:
        raise CarbontrackError(f"{where}: no such setting.", hint=_nearest(name, list(_KEY)))
    if key.low is None:
        return _text(key, value, where)
    meaning = f"{key.help[0].upper()}{key.help[1:]}."
    return number(where, value, key.unit, low=key.low, high=key.high, hint=meaning)


def number(
    where: str,
    value: Any,
    unit: str = "",
    *,
    low: float = 0.0,
    high: float = math.inf,
    hint: str = "",
) -> float:
    """A number from `low` to `high`. Raises CarbontrackError that names `where` it stands."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if isinstance(value, bool) or not math.isfinite(found):
        raise CarbontrackError(f"{where} {value!r}: not a number.", hint=hint)
    if low <= found <= high:
        return found
    side = f"below {low:g}" if found < low else f"above {high:g}"
    if found < 0 <= low:
        side = "negative"
    if unit == "kg/kWh" and found > high:
        hint = f"Given in g/kWh? Then use {found / 1000:g}."
    said = f" {unit}" if unit else ""
    raise CarbontrackError(f"{where} {found:g}{said} is {side}.", hint=hint)


def _text(key: Key, value: Any, where: str) -> str:
    text = str(value).strip()
    if not isinstance(value, (str, date)) or not text:
        raise CarbontrackError(f"{where} {value!r}: not a text.")
    if key.name == "currency":
        text = text.upper()
        if len(text) != 3 or not text.isalpha():
            raise CarbontrackError(f"{where} {value!r}: not a currency.", hint="Example: EUR.")
    if key.name == "factors_as_of":
        try:
            text = date.fromisoformat(text).isoformat()
        except ValueError:
            raise CarbontrackError(
                f"{where} {value!r}: no day.", hint="Write 2026-01-31."
            ) from None
    return text


def _answered(name: str, taken: set[str]) -> bool:
    return any(name in group and taken.intersection(group) for group in _ALTERNATIVES)


def _environment(environ: Mapping[str, str]) -> Layer:
    found = {}
    for key in KEYS:
        variable = f"CARBONTRACK_{key.name.upper()}"
        if text := environ.get(variable):
            found[key.name] = check(key.name, text, where=variable)
    return Layer("environment", found)


def _project(folder: Path) -> Layer | None:
    own = folder / PROJECT_FILE
    if own.is_file():
        return _file_layer(own, _read_toml(own))
    for parent in (folder, *folder.parents):
        path = parent / "pyproject.toml"
        if path.is_file():
            section = _read_toml(path).get("tool", {}).get("carbontrack")
            return None if section is None else _file_layer(path, section)
    return None


def _file_layer(path: Path, section: Mapping[str, Any]) -> Layer:
    checked = {name: check(name, value, where=f"{path}: {name}") for name, value in section.items()}
    return Layer(str(path), checked)


def _read_toml(path: Path) -> dict[str, Any]:
    import tomllib  # takes as long as all else here, and most have no file

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CarbontrackError(f"{path}: {error}.", hint="Mend the file or move it away.") from None


def _user_file() -> Path:
    from platformdirs import user_config_path

    return user_config_path("carbontrack") / "config.toml"


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _nearest(name: str, names: Sequence[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"Did you mean {close[0]}?" if close else f"Known: {', '.join(names)}."
