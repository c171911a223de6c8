"""Windows in the units that a ledger packs them in: whole mJ, ms, mW, hundredths of a percent, KiB.

What adds up is rounded as a sum: what is rounded off goes into the next window, so that all levels
have the same total in any order. Pure, and the one place where anything is rounded.
"""

from __future__ import annotations

from dataclasses import replace

from carbontrack.ledger.window import Window

_THOUSANDTHS, _HUNDREDTHS = 3, 2
_KIB = 1024
_MW = 0.001


class Rounding:
    """Rounds the windows of one device, in the order of time."""

    def __init__(self) -> None:
        self._energy_j, self._energy_s, self._sampled_s = _Sum(), _Sum(), _Sum()

    def next(self, window: Window) -> Window:
        """The window that comes next."""
        energy_j = window.energy_j
        return _rounded(
            window,
            energy_j=None if energy_j is None else self._energy_j.next(energy_j),
            energy_s=self._energy_s.next(window.energy_s, most=window.level_s),
            sampled_s=self._sampled_s.next(window.sampled_s, most=window.level_s),
        )


class _Sum:
    """A sum that grows, and what its rounded parts add up to."""

    def __init__(self) -> None:
        self._exact = 0.0
        self._rounded = 0.0

    def next(self, part: float, *, most: float | None = None) -> float:
        self._exact += part
        found = max(0.0, round(self._exact - self._rounded, _THOUSANDTHS))
        if most is not None:
            found = min(found, float(most))
        self._rounded = round(self._rounded + found, _THOUSANDTHS)
        return found


def _rounded(
    window: Window, *, energy_j: float | None, energy_s: float, sampled_s: float
) -> Window:
    """The window with these sums; its extremes go on to hold its mean."""
    mean = None if energy_j is None or energy_s <= 0 else energy_j / energy_s
    powers = [w for w in (window.power_min_w, window.power_max_w, mean) if w is not None]
    return replace(
        window,
        energy_j=energy_j,
        energy_s=energy_s,
        sampled_s=sampled_s,
        power_min_w=_at_most(min(powers, default=None)),
        power_max_w=_at_least(max(powers, default=None)),
        util_pct=_round(window.util_pct, _HUNDREDTHS),
        sm_clock_mhz=_round(window.sm_clock_mhz, 0),
        temperature_max_c=_round(window.temperature_max_c, 0),
        memory_max_bytes=_whole_kib(window.memory_max_bytes),
    )


def _at_most(power_w: float | None) -> float | None:
    """In whole mW, the nearest that is no more."""
    near = _round(power_w, _THOUSANDTHS)
    return (
        near
        if near is None or power_w is None or near <= power_w
        else _round(near - _MW, _THOUSANDTHS)
    )


def _at_least(power_w: float | None) -> float | None:
    """In whole mW, the nearest that is no less."""
    near = _round(power_w, _THOUSANDTHS)
    return (
        near
        if near is None or power_w is None or near >= power_w
        else _round(near + _MW, _THOUSANDTHS)
    )


def _round(value: float | None, decimals: int) -> float | None:
    return None if value is None else round(value, decimals)


def _whole_kib(value: int | None) -> int | None:
    return None if value is None else round(value / _KIB) * _KIB
