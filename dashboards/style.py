"""How figures look: colours that everybody can tell apart, axes in readable units, page sizes."""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from carbontrack.vocabulary import FigureStyle, LogAxes

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
# Devices: Paul Tol's "muted", nine that hold with every kind of colour blindness, none of them
# the black of their mean.
DEVICES = (
    "#332288",
    "#88CCEE",
    "#117733",
    "#CC6677",
    "#44AA99",
    "#882255",
    "#DDCC77",
    "#AA4499",
    "#999933",
)


@dataclass(frozen=True, slots=True)
class Page:
    """The room a figure has, in inches, and its type size in points."""

    width: float
    height: float  # of a figure with one panel
    panel: float  # of each panel of a figure with several
    points: float
    dpi: int
    fills: bool  # always as high as `height`, however many panels

    def size(self, panels: int = 1, more: float = 0.0) -> tuple[float, float]:
        """Width and height of a figure with so many panels, and `more` inches beside them."""
        if self.fills:
            return self.width, self.height
        return self.width, self.height + (panels - 1) * self.panel + more


# A column of a two-column paper (IEEE, ACM, ICML, Nature: 3.25 to 3.5 in), a slide of 16:9.
STYLES: Mapping[str, Page] = {
    FigureStyle.PAPER: Page(3.5, 2.4, 1.45, 7.5, 300, fills=False),
    FigureStyle.SLIDE: Page(40 / 3, 7.5, 7.5, 14.0, 150, fills=True),
}


@dataclass(frozen=True, slots=True)
class Look:
    """A figure for a paper or a slide, its width in inches, with or without its title."""

    style: str = FigureStyle.PAPER
    width: float | None = None  # None: that of the style
    title: bool = True


_MOST_LETTERS = 60  # of a name
_LETTER, _LINE = 0.56, 1.35  # of the type size
_HANDLE = 2.6  # of an entry of a legend, with the gaps around it, of the type size
LABEL_LETTERS = 24  # of one beside an axis
_FEW_DECADES = 30.0  # of highest ÷ lowest, to label values between the powers of ten
WIDTHS = (2.0, 60.0)  # that text still fits into, and that a printer takes

_LOOK: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "legend.frameon": False,
    "legend.handlelength": 1.3,
    "legend.handletextpad": 0.4,
    "legend.columnspacing": 0.9,
    "legend.labelspacing": 0.25,
    "text.parse_math": False,  # a dollar in a run's name is no formula
}
# Text stays text, and the same data make the same file.
_FILE: Any = {
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "svg.hashsalt": "carbontrack",
    "savefig.dpi": "figure",
}


@contextmanager
def page(look: Look) -> Iterator[Page]:
    """Draw inside on a page of this look. The type keeps its size, as it would in print; lines and
    marks are in proportion to it.
    """
    room, width = STYLES[look.style], look.width
    if width is not None:
        # A slide keeps its shape; a paper's figure twice as wide is not also twice as high.
        taller = width / room.width if room.fills else math.sqrt(width / room.width)
        room = replace(room, width=width, height=room.height * taller, panel=room.panel * taller)
    unit = room.points / 7.5
    sizes: Any = {
        "figure.dpi": room.dpi,
        "font.size": room.points,
        "axes.titlesize": room.points,
        "axes.labelsize": room.points,
        "xtick.labelsize": room.points - 0.5 * unit,
        "ytick.labelsize": room.points - 0.5 * unit,
        "legend.fontsize": room.points - unit,
        "axes.labelpad": 2.5 * unit,
        "lines.linewidth": 1.0 * unit,
        "lines.markersize": 3.0 * unit,
        "axes.linewidth": 0.6 * unit,
        "grid.linewidth": 0.4 * unit,
    }
    for axis in ("xtick", "ytick"):
        sizes |= {f"{axis}.major.size": 2.5 * unit, f"{axis}.major.width": 0.6 * unit}
        sizes |= {f"{axis}.major.pad": 2.0 * unit}
    with matplotlib.rc_context({**_LOOK, **sizes}):
        yield room


def line(times: float) -> float:
    """A line's width in points, as so many times the page's usual one."""
    return times * float(matplotlib.rcParams["lines.linewidth"])


def save(figure: Figure, path: Path) -> None:
    """Write .png, .svg or .pdf, by the name. Raises OSError where that fails."""
    metadata: dict[str, Any] = {
        ".svg": {"Date": None},
        ".pdf": {"CreationDate": None},
    }.get(path.suffix.lower(), {})
    with matplotlib.rc_context(_FILE), warnings.catch_warnings():
        # A letter that no font has is drawn as a box: nothing that a user can change here.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        # Beside a loss near the largest number the outermost tick is beyond it, and not drawn.
        warnings.filterwarnings("ignore", message="overflow encountered", category=RuntimeWarning)
        figure.savefig(path, metadata=metadata)


_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"))
_FEW_COINS = 0.05
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
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


def scaled_money(largest: float, currency: str) -> tuple[float, str]:
    """(factor, unit) for money. Small coins have no prefixes, so that what is less than some of
    them is in powers of ten.
    """
    if largest >= _FEW_COINS or largest <= 0:
        return scaled(largest, currency) if largest >= 1 else (1.0, currency)
    power = 3 * math.floor(math.log10(largest) / 3)
    return 10.0**-power, f"{_power_of_ten(power)} {currency}"


def _power_of_ten(power: int) -> str:
    return f"10{str(power).translate(_RAISED)}"


def _plain(value: float) -> str:
    """0.01, 5, 2000; what is much smaller or larger as a power of ten."""
    mantissa, _, power = f"{value:g}".partition("e")
    if not power:
        return mantissa
    return f"{f'{mantissa}×' * (mantissa != '1')}{_power_of_ten(int(power))}"


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


def literal(text: str, most: int = _MOST_LETTERS) -> str:
    """Text from outside (a run's name, a phase) as a figure may draw it: one short line, without
    control characters, nor an underscore in front, for which a legend would leave it out.
    """
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    line = line if len(line) <= most else f"{line[: most - 1]}…"
    return f"\N{ZERO WIDTH SPACE}{line}" if line.startswith("_") else line


def from_zero(ax: Axes) -> None:
    """An axis of an amount begins at zero, so that heights compare."""
    ax.set_ylim(0, max(ax.get_ylim()[1], 1.08 * ax.dataLim.y1))


def enough_ticks(ax: Axes) -> None:
    """At least four on the value axis, as far as they have room; plain numbers on logarithmic axes,
    also between the powers of ten where these are few.
    """
    if ax.get_yscale() == "linear":
        steps = [1, 2, 2.5, 5, 10]
        ax.yaxis.set_major_locator(MaxNLocator(nbins=6, min_n_ticks=4, steps=steps))
    for axis in [axis for one in (ax, *ax.child_axes) for axis in (one.xaxis, one.yaxis)]:
        if "log" in axis.get_scale():
            low, high = sorted(axis.get_view_interval())
            few = low > 0 and high / low < _FEW_DECADES
            axis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7) if few else (1,)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))
            axis.set_minor_formatter(NullFormatter())


def log_axis(ax: Axes, which: str | None) -> None:
    """Make `x`, `y` or `both` axes logarithmic."""
    for name in ("x", "y"):
        if which in (name, LogAxes.BOTH):
            getattr(ax, f"set_{name}scale")("log")


def legend_above(ax: Axes, columns: int = 5) -> None:
    """In a row over the panel, where it covers no data; in as many rows as its names need, for one
    that is wider than the page would leave the panel no room.
    """
    handles, names = ax.get_legend_handles_labels()
    if not handles:
        return
    place, size = ax.get_position(), float(matplotlib.rcParams["legend.fontsize"])
    left = place.x0 if place.x0 > 0.3 else 0.0  # of a panel beside another, else of the page
    room = (place.x1 - left) * _page_inches(ax)[0] * 72 / size
    names = [_cut(str(name), int((room - _HANDLE) / _LETTER)) for name in names]
    wide = np.array([_HANDLE + _LETTER * len(name) for name in names])
    fitting = (
        n
        for n in range(min(columns, len(names)), 1, -1)
        if sum(column.max() for column in np.array_split(wide, n)) <= room
    )
    ncols = next(fitting, 1)
    where: Any = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0.1}
    ax.legend(handles, names, ncols=ncols, **where)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _page_inches(ax: Axes) -> npt.NDArray[np.float64]:
    figure = ax.get_figure(root=True)
    assert figure is not None
    return np.asarray(figure.get_size_inches(), dtype=float)


def note(ax: Axes, text: str) -> None:
    """A remark in the upper right corner of a panel, under those that are there."""
    lines = sum(str(t.get_gid()) == "note" for t in ax.texts)
    ax.annotate(
        text,
        (1, 1),
        (-2, -2 - 1.2 * lines * matplotlib.rcParams["legend.fontsize"]),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        va="top",
        color=GREY,
        fontsize=matplotlib.rcParams["legend.fontsize"],
        bbox={"facecolor": "white", "alpha": 0.8, "lw": 0, "pad": 1},
        gid="note",
    )


_EDGE, _GAP = 0.97, 0.04
_PANEL = 0.6  # of a panel's place, before it is laid out: the rest is labels, legend and title


def verdict(ax: Axes, text: str) -> None:
    """What the curves come to, in the middle on the right; where they would be under it, above
    them, with room made for it.
    """
    size = float(matplotlib.rcParams["legend.fontsize"])
    place, inches = ax.get_position(), _page_inches(ax)
    most = int(_EDGE * inches[0] * place.width * 72 / size / _LETTER)
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, most)]
    wide = _LETTER * max(map(len, lines)) * size / 72 / (inches[0] * place.width)
    high = _LINE * len(lines) * size / 72 / (inches[1] * place.height * _PANEL)
    to_axes = ax.transScale + ax.transLimits
    points = [to_axes.transform(curve.get_xydata()) for curve in ax.lines]
    x, y = np.concatenate(points).T
    below = y[(x > _EDGE - wide) & (x < 1)]
    is_free = not (abs(below - 0.5) < (high + _GAP) / 2).any()
    if not is_free:
        scale = ax.yaxis.get_transform()
        low, top = scale.transform(np.array(ax.get_ylim()))
        shrunk = min(1.0, max(0.3, (_EDGE - high - _GAP) / below.max()))
        ax.set_ylim(top=float(scale.inverted().transform(low + (top - low) / shrunk)))
    said = ax.annotate(
        "\n".join(lines),
        (_EDGE, 0.5 if is_free else _EDGE),
        xycoords="axes fraction",
        ha="right",
        va="center" if is_free else "top",
        fontsize=size,
        linespacing=_LINE,
    )
    said.set_in_layout(False)  # however long, it takes no room from the panel


def leave_out_highest(ax: Axes, values: npt.ArrayLike, *, above: float | None = None) -> None:
    """End the axis below a few values that dwarf all others, and say so: a loss that exploded, or
    the first steps of a training, which fall from far above; or all that are `above`.
    """
    known = np.asarray(values, dtype=float)
    known = known[np.isfinite(known)]
    if known.size < 5:
        return
    low, quarter, most = np.quantile(known, [0.0, 0.25, 0.75])
    usual = known[known <= most + 20 * max(most - quarter, 0.05 * abs(most))]
    high = usual.max()
    if usual.size >= 100:
        of_most = np.quantile(usual, 0.99)
        high = of_most if high - low > 2 * (of_most - low) else high
    high = high if above is None else known[known <= above].max(initial=low)
    over = int((known > high).sum())
    if over:
        margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
        ax.set_ylim(low - margin, high + margin)
        note(ax, f"{over} of {known.size} points above, up to {known.max():.3g}")
