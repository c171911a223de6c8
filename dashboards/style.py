"""How figures look: colours that everybody can tell apart, axes in readable units, page sizes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
CYCLE = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK)
DASHES = ("-", "--", "-.", ":")  # runs differ by these too, for print in grey
GREY = "#6b6b6b"


@dataclass(frozen=True, slots=True)
class Page:
    """The room a figure has, in inches, and its type size in points."""

    width: float
    height: float  # of a figure with one panel
    panel: float  # of each panel of a figure with several
    points: float


STYLES = {"paper": Page(5.5, 3.4, 2.15, 9.0), "slide": Page(10.0, 5.6, 3.0, 15.0)}

_LOOK: Any = {
    "figure.dpi": 150,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
}
# Text stays text, and the same data make the same file.
_FILE: Any = {
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "svg.hashsalt": "carbontrack",
    "savefig.dpi": "figure",
}


@contextmanager
def page(style: str) -> Iterator[Page]:
    """Draw inside in the style `paper` or `slide`."""
    room = STYLES[style]
    sizes: Any = {
        "font.size": room.points,
        "axes.titlesize": room.points,
        "axes.labelsize": room.points,
        "legend.fontsize": room.points - 1,
        "lines.linewidth": 1.3 * room.points / 9,
    }
    with matplotlib.rc_context({**_LOOK, **sizes}):
        yield room


def save(figure: Figure, path: Path) -> None:
    """Write .png, .svg or .pdf, by the name. Raises OSError where that fails."""
    metadata: dict[str, Any] = {
        ".svg": {"Date": None},
        ".pdf": {"CreationDate": None},
    }.get(path.suffix.lower(), {})
    with matplotlib.rc_context(_FILE):
        figure.savefig(path, metadata=metadata)


_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"))
_MASSES = ((1e6, "t"), (1e3, "kg"), (1.0, "g"), (1e-3, "mg"), (1e-6, "µg"))


def scaled(largest: float, unit: str) -> tuple[float, str]:
    """(factor, unit with its SI prefix) that make the largest value a readable number."""
    for size, prefix in _PREFIXES:
        if largest >= size:
            return 1 / size, f"{prefix}{unit}"
    return 1.0, unit


def scaled_mass(largest_g: float) -> tuple[float, str]:
    """(factor, unit) for CO2e in grams: tonnes are not called Mg."""
    for size, unit in _MASSES:
        if largest_g >= size:
            return 1 / size, f"{unit}CO₂e"
    return 1.0, "gCO₂e"


def time_unit(length_s: float) -> tuple[float, str]:
    """(factor, unit) for a time axis of this length."""
    for least_s, size, unit in (
        (2 * 86_400, 86_400, "d"),
        (2 * 3600, 3600, "h"),
        (3 * 60, 60, "min"),
    ):
        if length_s >= least_s:
            return 1 / size, unit
    return 1.0, "s"


def from_zero(ax: Axes) -> None:
    """An axis of an amount begins at zero, so that heights compare."""
    ax.set_ylim(0, max(ax.get_ylim()[1], 1.08 * ax.dataLim.y1))


def legend_above(ax: Axes, columns: int = 6) -> None:
    """In a row over the panel, where it covers no data."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=columns, borderaxespad=0.1)


def nothing_to_draw(ax: Axes, what: str) -> None:
    """Says in an empty panel what is not known."""
    ax.text(0.5, 0.5, what, transform=ax.transAxes, ha="center", va="center", color=GREY)
    ax.grid(False)
