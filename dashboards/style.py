"""How figures look: colours that everybody can tell apart, and axes in readable units."""

from __future__ import annotations

from dataclasses import dataclass
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
# Runs differ in dash as well as in colour, so that a grey print still tells them apart.
RUNS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)), "-.", "--", ":")
GREY = "#6b6b6b"

_COMMON: dict[str, Any] = {
    "figure.constrained_layout.h_pad": 0.06,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}


@dataclass(frozen=True, slots=True)
class Style:
    """What a figure is made for: sizes in inches, and matplotlib's settings."""

    width: float  # of a single panel
    wide: float  # of panels that share a time axis
    panel: float  # height of one panel
    small: float  # points, for what is not the data
    settings: Any


def _style(
    width: float, wide: float, panel: float, font: float, line: float, dpi: int
) -> Style:
    sizes = {
        "font.size": font,
        "axes.titlesize": font,
        "axes.labelsize": font,
        "xtick.labelsize": font - 1,
        "ytick.labelsize": font - 1,
        "legend.fontsize": font - 1,
        "lines.linewidth": line,
        "figure.dpi": dpi,
        "savefig.dpi": dpi,
    }
    return Style(width, wide, panel, font - 1.5, {**_COMMON, **sizes})


# A column of a journal is 3.5 inches (89 mm) wide and its page 7; a slide is 16:9.
STYLES = {
    "paper": _style(width=3.5, wide=7.0, panel=2.15, font=9, line=1.3, dpi=150),
    "slide": _style(width=8.0, wide=10.0, panel=3.0, font=14, line=2.2, dpi=120),
}

_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"))
_SPANS = ((2 * 86400, 86400, "d"), (2 * 3600, 3600, "h"), (3 * 60, 60, "min"))


def scaled(largest: float, unit: str) -> tuple[float, str]:
    """(factor, unit with its SI prefix) that make the largest value a readable number."""
    for size, prefix in _PREFIXES:
        if largest >= size:
            return 1 / size, f"{prefix}{unit}"
    return 1.0, unit


def scaled_mass(largest_g: float) -> tuple[float, str]:
    """As `scaled`, for CO2e in grams: a million grams is a tonne."""
    if largest_g >= 1e9:
        return 1e-9, "ktCO₂e"
    return (1e-6, "tCO₂e") if largest_g >= 1e6 else scaled(largest_g, "gCO₂e")


def time_unit(length_s: float) -> tuple[float, str]:
    """(factor, unit) for a time axis of this length."""
    for least, seconds, unit in _SPANS:
        if length_s >= least:
            return 1 / seconds, unit
    return 1.0, "s"
