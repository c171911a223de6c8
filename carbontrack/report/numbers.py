"""Numbers for people, with the prefix that leaves them readable; programs get JSON."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from carbontrack.units import MS_PER_S

NO_VALUE = "–"
_SYMBOLS: Mapping[str, str] = {"USD": "$", "EUR": "€", "GBP": "£"}
# Decimals of a currency's own coins where they are not two (ISO 4217, its minor unit).
_PLACES = {
    **dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF"), 0),
    **dict.fromkeys(("UGX", "VND", "VUV", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}
_LEAST = 1e-6  # what is smaller is not written out
_WHOLE_MONEY = 1e5  # from here on without decimals
_LONG = 1e6  # what a number in a column should be below

Units = Sequence[tuple[float, str]]
"""Units of a quantity, the largest first: how many of each its base unit is."""
MASS: Units = ((1.0, "t"), (1e3, "kg"), (1e6, "g"), (1e9, "mg"))
ENERGY: Units = ((1e-3, "MWh"), (1.0, "kWh"), (1e3, "Wh"), (1e6, "mWh"))
COUNT: Units = ((1e-12, "T"), (1e-9, "B"), (1e-6, "M"), (1e-3, "k"), (1.0, ""))


def digits_text(value: float | None, digits: int = 3) -> str:
    """A number with so many significant digits, written out: 291, 0.0374, 1,040."""
    if value is None:
        return NO_VALUE
    if value and abs(value) < _LEAST:
        return f"<{_LEAST:.6f}"
    if not value or not math.isfinite(value):
        return f"{value:g}"
    rounded = float(f"{value:.{digits - 1}e}")
    return f"{rounded:,.{max(0, digits - 1 - math.floor(math.log10(abs(rounded))))}f}"


def decimals_text(value: float | None) -> str:
    """The same with two decimals at least: 291.42, 1,036.80, 0.0374."""
    if value is None or not value or abs(value) >= 1:
        return number_text(value, 2)
    return digits_text(value)


def unit_of(values: Iterable[float | None], units: Units) -> tuple[float, str]:
    """The unit for all of these: the largest in which their median is 1 or more; a larger one where
    another of them would be long; where none is known the base unit.
    """
    known = [abs(value) for value in values if value is not None]
    sizes = sorted(filter(None, known))
    if not sizes:
        base = next(one for one in units if one[0] == 1)
        return units[-1] if known else base
    median, largest = sizes[len(sizes) // 2], sizes[-1]
    for factor, name in units:
        if float(f"{median * factor:.2e}") >= 1 or 1000 * largest * factor >= _LONG:
            return factor, name
    return units[-1]


def scaled_text(value: float | None, units: Units) -> str:
    """Three digits in the unit that suits the value: 291 t, 12.3 kg, 75.1 mWh."""
    if value is None:
        return NO_VALUE
    factor, unit = unit_of([value], units)
    return f"{digits_text(value * factor)} {unit}".rstrip()


def mass_text(tco2e: float | None) -> str:
    """Tonnes as t, kg, g or mg."""
    return scaled_text(tco2e, MASS)


def format_energy(energy_kwh: float | None) -> str:
    """kWh as MWh, kWh, Wh or mWh."""
    return scaled_text(energy_kwh, ENERGY)


def count_text(number: float | None) -> str:
    """A count of tokens: 2.00 T, 5.10 B, 492 k, 512."""
    if number is not None and abs(number) < 1000:
        return f"{number:,.0f}"
    return scaled_text(number, COUNT)


def money_places(currency: str | None) -> int:
    """How many decimals the currency has: 2 of USD, none of JPY."""
    return _PLACES.get(currency or "", 2)


def amount_text(cost: float | None, currency: str | None) -> str:
    """Money without its currency: 1,204.50; what is less than its smallest coin is <0.01."""
    if cost is None:
        return NO_VALUE
    return number_text(cost, money_places(currency))


def money_text(cost: float | None, currency: str | None) -> str:
    """With its currency: $1,204.50, <$0.01, 12.00 CHF."""
    amount = amount_text(cost, currency)
    if cost is not None and abs(cost) >= _WHOLE_MONEY:
        amount = f"{cost:,.0f}"
    symbol = _SYMBOLS.get(currency or "")
    if cost is None or symbol is None:
        return amount if cost is None else f"{amount} {currency or ''}".rstrip()
    return f"<{symbol}{amount[1:]}" if amount.startswith("<") else f"{symbol}{amount}"


def final_loss_text(loss: float | None, steps: int | None) -> str:
    """With what it is a mean of; empty if unknown."""
    if loss is None:
        return ""
    of = f" (mean of the last {steps:,} steps)" if steps and steps > 1 else ""
    return f"final loss {loss:.4g}{of}"


def counted(number: int, noun: str) -> str:
    """1 run, 24 runs, 1,204 runs."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def hours_text(hours: float | None) -> str:
    """GPU-hours: 1,720,320; 12.5; 0.018."""
    if hours is None:
        return NO_VALUE
    if hours >= 1000:
        return f"{hours:,.0f}"
    return digits_text(hours)


def number_text(value: float | None, digits: int) -> str:
    """A number with `digits` decimals; what would read as nothing, though it is not, says so."""
    if value is None:
        return NO_VALUE
    text = f"{value:,.{digits}f}"
    least = 10.0**-digits
    return f"<{least:.{digits}f}" if value and abs(value) < least / 2 else text


def how_it_ended(exit_code: int) -> str:
    """An exit code for people: 128+n means that signal n ended the job."""
    try:
        return f"killed by {signal.Signals(exit_code - 128).name}"
    except ValueError:
        return f"exit code {exit_code}"


def format_duration(length_s: float) -> str:
    """1 h 02 min, 3 min 07 s, 4.2 s."""
    if length_s < 60:
        return f"{length_s:.1f} s"
    minutes, seconds = divmod(round(length_s), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24:02d} h"


def format_share(share: float | None) -> str:
    """A share as per cent, cut so that 99.97 % never reads as all."""
    return NO_VALUE if share is None else f"{int(share * 1000) / 10:.1f} %"


def format_part(share: float | None) -> str:
    """A part of a whole as per cent, rounded, so that the parts add up."""
    return NO_VALUE if share is None else f"{100 * share:.1f} %"


def iso_time(time_ms: int | None) -> str | None:
    if time_ms is None:
        return None
    return datetime.fromtimestamp(time_ms / MS_PER_S, UTC).isoformat(timespec="milliseconds")


def local_time_of(time_ms: int) -> str:
    """A time in ms since 1970 as people of this machine's zone read it."""
    return local_time(datetime.fromtimestamp(time_ms / MS_PER_S, UTC).isoformat())


def local_time(time: str, *, seconds: bool = True) -> str:
    """A time in ISO 8601 as the same in the zone of this machine: 2026-01-31 12:00:00+02:00."""
    local = datetime.fromisoformat(time).astimezone()
    text = local.isoformat(sep=" ", timespec="seconds" if seconds else "minutes")
    return text.removesuffix("+00:00") + ("Z" if text.endswith("+00:00") else "")
