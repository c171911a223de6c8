"""How figures look: colours that everybody can tell apart, and axes in readable units."""

from __future__ import annotations

from typing import Any

# Okabe and Ito's palette: distinguishable with every kind of colour blindness.
BLACK, ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)
DEVICES = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION)
GREY = "#6b6b6b"

PAPER: Any = {
    "figure.dpi": 150,
    "savefig.dpi": 150,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.3,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}

_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"))


def scaled(largest: float, unit: str) -> tuple[float, str]:
    """(factor, unit with its SI prefix) that make the largest value a readable number."""
    for size, prefix in _PREFIXES:
        if largest >= size:
            return 1 / size, f"{prefix}{unit}"
    return 1.0, unit


def time_unit(length_s: float) -> tuple[float, str]:
    """(factor, unit) for a time axis of this length."""
    for seconds, unit in ((2 * 86400, "d"), (2 * 3600, "h"), (3 * 60, "min")):
        if length_s >= seconds:
            size = {"d": 86400, "h": 3600, "min": 60}[unit]
            return 1 / size, unit
    return 1.0, "s"
