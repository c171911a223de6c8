"""Numbers for people, with the prefix that leaves them readable; programs get JSON."""

from __future__ import annotations

import math
import signal
from collections.abc import Mapping
from datetime import UTC, datetime

from carbontrack.units import MS_PER_S

_NO_VALUE = "–"
_LEAST_MONEY = 1e-6
_SYMBOLS: Mapping[str, str] = {"USD": "$", "EUR": "€", "GBP": "£"}


def mass_text(tco2e: float | None) -> str:
    """Tonnes as t, kg, g or mg: 291.4 t, 12.3 kg, 0.881 g."""
    if tco2e is None:
        return _NO_VALUE
    for factor, unit in ((1.0, "t"), (1e3, "kg"), (1e6, "g")):
        if abs(tco2e * factor) >= 1:
            return (
                f"{tco2e * factor:.4g} {unit}" if tco2e * factor < 1e4 else f"{tco2e:,.0f} {unit}"
            )
    return f"{tco2e * 1e9:.3g} mg"


def money_text(cost: float | None, currency: str | None) -> str:
    """Two decimals, or as many as a small sum needs to be seen: $1,204.50, $0.00015."""
    if cost is None:
        return _NO_VALUE
    if cost and abs(cost) < _LEAST_MONEY:
        return f"<{money_text(_LEAST_MONEY, currency)}"
    digits = 2 if cost == 0 or abs(cost) >= 0.1 else 1 - math.floor(math.log10(abs(cost)))
    amount = f"{cost:,.{0 if abs(cost) >= 1e5 else digits}f}"
    symbol = _SYMBOLS.get(currency or "")
    return f"{symbol}{amount}" if symbol else f"{amount} {currency or ''}".rstrip()


def count_text(number: float | None) -> str:
    """Thousands separated: 468,992; large counts short: 2.00 T, 42.1 M."""
    if number is None:
        return _NO_VALUE
    for least, factor, unit in ((1e12, 1e12, "T"), (1e9, 1e9, "B"), (1e7, 1e6, "M")):
        if number >= least:
            return f"{number / factor:.3g} {unit}"
    return f"{number:,.0f}"


def counted(number: int, noun: str) -> str:
    """1 interval, 24 intervals."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def hours_text(hours: float | None) -> str:
    """GPU-hours: 1,720,320; 12.5; 0.018."""
    if hours is None:
        return _NO_VALUE
    if hours >= 1000:
        return f"{hours:,.0f}"
    return f"{hours:.3g}" if hours < 100 else f"{hours:.1f}"


def number_text(value: float | None, digits: int) -> str:
    """A number with `digits` decimals; what would read as nothing, though it is not, says so."""
    if value is None:
        return _NO_VALUE
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


def format_energy(energy_kwh: float | None) -> str:
    """Energy with the SI prefix that leaves a readable number."""
    if energy_kwh is None:
        return "–"
    for factor, unit in ((1e-3, "MWh"), (1, "kWh"), (1e3, "Wh"), (1e6, "mWh")):
        if abs(energy_kwh * factor) >= 1 or unit == "mWh":
            return f"{energy_kwh * factor:.4g} {unit}"
    raise AssertionError("unreachable")


def format_share(share: float | None) -> str:
    """A share as per cent, cut so that 99.97 % never reads as all."""
    return "–" if share is None else f"{int(share * 1000) / 10:.1f} %"


def iso_time(time_ms: int | None) -> str | None:
    if time_ms is None:
        return None
    return datetime.fromtimestamp(time_ms / MS_PER_S, UTC).isoformat(timespec="milliseconds")


def local_time(time: str) -> str:
    return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M:%S")
