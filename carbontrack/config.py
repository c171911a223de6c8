"""Settings of the facility, each with who set it: flag > run > environment > file > default.

The project file is `carbontrack.toml` in the working directory, else `[tool.carbontrack]` of the
nearest `pyproject.toml`. Every value keeps its origin, so that `carbontrack config` and `explain`
can name it. A default is not a setting: what is not set is decided, and called *assumed*, in
`factors.resolve`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from carbontrack.decimals import decimal, instead
from carbontrack.errors import CarbontrackError
from carbontrack.files import read_regular
from carbontrack.folders import NoHome, user_config, working_folder
from carbontrack.keys import BY_NAME, KEYS, PRICES, Key

PROJECT_FILE = "carbontrack.toml"
QUOTA = "quota"
_MAX_BYTES = 1 << 20
_TABLE = "Write [tool.carbontrack] and a line for each setting below it."

# Each is another answer to the same question: one given in a higher layer silences the lower
# layers' others.
_ALTERNATIVES = (
    ("pue", "provider"),
    ("intensity", "zone"),
    ("tariff", "price_per_gpu_hour", "price"),
)
# A value of money is in the currency of the layer that states it, this where that names none.
_CURRENCY = "USD"


@dataclass(frozen=True, slots=True)
class Setting:
    """A value and who set it."""

    value: Any
    origin: str


@dataclass(frozen=True, slots=True)
class Layer:
    """The values of one origin, checked, and its table `quota` as it stands: see `quotas`."""

    origin: str
    values: Mapping[str, Any]
    quotas: Any = None


Settings = Mapping[str, Setting]


def flags(**values: Any) -> Layer:
    """The layer of options that were given. Raises CarbontrackError on a bad value."""
    given = {name: value for name, value in values.items() if value is not None}
    return Layer(
        "flag", {name: check(name, value, where=flag(name)) for name, value in given.items()}
    )


def snapshot(facility: Mapping[str, Any]) -> Layer:
    """The layer of what was configured where and when a run was recorded."""
    known = {
        name: value for name, value in facility.items() if name in BY_NAME and value is not None
    }
    return Layer("recorded with the run", known)


def surroundings(
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
    user_file: Path | None = None,
    skip: Callable[[CarbontrackError], None] | None = None,
) -> list[Layer]:
    """The layers outside the command line: environment, project file, user file.

    Raises CarbontrackError for an unreadable file, an unknown key, or a value that cannot be; with
    `skip`, that is given the error instead, and the layer is left out.
    """
    environ = os.environ if environ is None else environ
    # One that was removed has no project file, and no folders above it that are known.
    folder = Path(working_folder()) if folder is None else folder
    readers: list[Callable[[], Layer | None]] = [
        lambda: _environment(environ),
        lambda: _project(folder),
        lambda: _user(user_file),
    ]
    layers: list[Layer] = []
    for read in readers:
        try:
            layer = read()
        except CarbontrackError as error:
            if skip is None:
                raise
            skip(error)
        else:
            layers += [] if layer is None else [layer]
    return layers


def resolve(layers: Sequence[Layer]) -> dict[str, Setting]:
    """One value for each key that is set, the first layer first.

    Raises CarbontrackError where a value of money would be read in another currency than its own.
    """
    settings: dict[str, Setting] = {}
    own_currency: dict[str, str] = {}
    for layer in layers:
        taken = set(settings)
        for name, value in layer.values.items():
            if name not in taken and not _answered(name, taken):
                settings[name] = Setting(value, layer.origin)
                own_currency[name] = currency_of(layer)
    _check_currency(settings, own_currency)
    return settings


def currency_of(layer: Layer) -> str:
    """That of the money which a layer states."""
    currency: str = layer.values.get("currency", _CURRENCY)
    return currency


def _check_currency(settings: Settings, own: Mapping[str, str]) -> None:
    stated = settings.get("currency")
    if stated is None:
        return
    rented = "price" in settings or "price_per_gpu_hour" in settings  # then no GPU is bought
    for name in PRICES:
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
    found = {name: setting.value for name, setting in settings.items() if BY_NAME[name].recorded}
    if any(name in found for name in PRICES):
        found.setdefault("currency", _CURRENCY)
    return found


def value(settings: Settings, name: str) -> Any:
    """The value of one, None if it is not set."""
    return settings[name].value if name in settings else None


def check(name: str, value: Any, *, where: str) -> Any:
    """The value as the key needs it. Raises CarbontrackError that names `where` it stands."""
    key = BY_NAME.get(name)
    if key is None:
        raise CarbontrackError(f"{where}: no such setting.", hint=nearest(name, list(BY_NAME)))
    if key.low is None:
        return _text(key, value, where)
    return number(where, value, key.unit, low=key.low, high=key.high, hint=key.help)


def can_be(name: str, value: Any) -> bool:
    """Whether this may be stored as a setting's value: as `check` gives it. One that we do not know
    may be anything, for a newer version has it.
    """
    try:
        return name not in BY_NAME or bool(check(name, value, where=name) == value)
    except CarbontrackError:
        return False


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
        found = decimal(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if isinstance(value, bool) or not math.isfinite(found):
        raise CarbontrackError(f"{where} {value!r}: not a number{instead(str(value))}.", hint=hint)
    if low <= found <= high:
        return found + 0.0  # -0.0 is 0
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
    try:
        return key.parse(text)
    except ValueError as error:
        raise CarbontrackError(f"{where} {text!r}: {error}.") from None


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
    if _is_there(own):
        return _file_layer(own, _read_toml(own))
    for parent in (folder, *folder.parents):
        path = parent / "pyproject.toml"
        if _is_file(path):
            # What is wrong with a file that does not name us is its owner's business.
            tools = _read_toml(path, only_with="carbontrack").get("tool")
            section = tools.get("carbontrack") if isinstance(tools, dict) else None
            return None if section is None else _file_layer(path, section)
    return None


def _user(path: Path | None) -> Layer | None:
    try:
        path = Path(user_config()) / "config.toml" if path is None else path
    except NoHome:
        return None
    return _file_layer(path, _read_toml(path)) if _is_there(path) else None


def _file_layer(path: Path, section: Any) -> Layer:
    if not isinstance(section, dict):
        raise CarbontrackError(f"{path}: tool.carbontrack is not a table.", hint=_TABLE)
    own = {name: value for name, value in section.items() if name != QUOTA}
    checked = {name: check(name, value, where=f"{path}: {name}") for name, value in own.items()}
    return Layer(str(path), checked, section.get(QUOTA))


def _read_toml(path: Path, *, only_with: str = "") -> dict[str, Any]:
    """The file's tables; none where it does not hold the word `only_with`, and is not parsed."""
    try:
        text = read_regular(path, _MAX_BYTES)
        if only_with.encode() not in text:
            return {}
        import tomllib  # takes as long as all else here, and most have no file

        return tomllib.loads(text.decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CarbontrackError(f"{path}: {reason}.", hint="Fix the file or move it away.") from None


def _is_there(path: Path) -> bool:
    """Whether anything has this name: a file of ours that is a folder or a broken link is said."""
    try:
        path.lstat()
    except (OSError, ValueError):
        return False
    return True


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # in a folder that is closed to us
        return False


def flag(name: str) -> str:
    """The option of a setting: --gpu-price."""
    return "--" + name.replace("_", "-")


def nearest(name: str, names: Sequence[str]) -> str:
    """A hint for an unknown name."""
    import difflib

    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"Did you mean {close[0]}?" if close else f"Known: {', '.join(names)}."
