"""What all figures share: the sheet, its title and footnote, and the time axis."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from carbontrack.account.result import Estimate
from carbontrack.units import J_PER_KWH, KG_PER_T, MS_PER_S
from dashboards.data import RunData, end_s
from dashboards.style import GREY, STYLES, Style, time_unit

WH_PER_KWH = 1000.0
G_PER_KG = 1000.0
_CHARACTERS_PER_INCH = 1.75  # times points: how much text fits on a line of the title


@dataclass(frozen=True, slots=True)
class Sheet:
    """A figure with its panels, one below the other."""

    figure: Figure
    axes: Sequence[Axes]
    style: Style

    def caption(self, title: str, footnote: str) -> None:
        """Title above and footnote below, broken where the sheet is narrow."""
        width = float(self.figure.get_size_inches()[0])
        title_pt, note_pt = self.style.small + 2.5, self.style.small
        self.figure.suptitle(_wrapped(title, width, title_pt), fontsize=title_pt, weight="bold")
        self.figure.supxlabel(_wrapped(footnote, width, note_pt), fontsize=note_pt, color=GREY)
        self.figure.align_ylabels(self.axes)


@contextmanager
def sheet(style: str, panels: int = 1, *, wide: bool = False, share: bool = True) -> Iterator[Sheet]:
    """A new sheet; what is drawn inside the block has the look of the style."""
    look = STYLES[style]
    with matplotlib.rc_context(look.settings):
        size = (look.wide if wide else look.width, 0.9 + look.panel * panels)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(panels, 1, sharex=share, squeeze=False)
        yield Sheet(figure, list(grid[:, 0]), look)


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """Time since the run's start, in a unit that suits its length."""

    started_ms: int
    end: float
    factor: float
    unit: str

    @classmethod
    def of(cls, data: RunData) -> TimeAxis:
        length_s = max(end_s(data.run), 1e-3)
        factor, unit = time_unit(length_s)
        return cls(data.run.started_ms, length_s * factor, factor, unit)

    def at_ms(self, time_ms: float) -> float:
        return (time_ms - self.started_ms) / MS_PER_S * self.factor

    def label(self, ax: Axes) -> None:
        ax.set_xlim(0, self.end)
        ax.set_xlabel(f"time since start ({self.unit})")


def facility_ratio(data: RunData, estimate: Estimate) -> float:
    """Facility energy ÷ energy of the metered devices: PUE, and what no meter sees."""
    metered_kwh = data.curve.total_j / J_PER_KWH
    if estimate.facility_kwh is not None and metered_kwh > 0:
        return estimate.facility_kwh / metered_kwh
    return estimate.pue or 1.0


def g_per_wh(estimate: Estimate) -> float | None:
    """Emissions of a Wh of facility energy, in gCO2e."""
    if estimate.tco2e is not None and estimate.facility_kwh:
        return estimate.tco2e * KG_PER_T / estimate.facility_kwh * G_PER_KG / WH_PER_KWH
    return estimate.intensity_kg_per_kwh


def title_of(data: RunData, estimate: Estimate) -> str:
    """Run and devices, and in words when nothing was measured."""
    count = f"{len(data.sensors)} × " if len(data.sensors) > 1 else ""
    devices = ", ".join(estimate.device_names) or "no device"
    return f"{data.run.name}: {count}{devices}{unmeasured(estimate)}"


def unmeasured(estimate: Estimate) -> str:
    """A word in brackets for what was not measured."""
    words = [word for word in ("simulated", "estimate") if word in estimate.quality]
    return f" ({', '.join(words)})" if words else ""


def footnote_of(estimate: Estimate) -> str:
    """What the numbers are: meter, scope, factors, and which of them nobody chose."""
    assumed = dict.fromkeys(estimate.assumed, " (assumed)")
    parts = [f"meter {estimate.meter}, scope {estimate.scope}"]
    if estimate.coverage is not None:
        parts.append(f"coverage {int(estimate.coverage * 1000) / 10:g} %")
    if estimate.pue is not None:
        parts.append(f"PUE {estimate.pue:g}{assumed.get('pue', '')}")
    if estimate.intensity_kg_per_kwh is not None:
        value = f"{estimate.intensity_kg_per_kwh:g} kgCO₂e/kWh"
        parts.append(f"{value}{assumed.get('intensity', '')}")
    return " · ".join(parts)


def from_zero(ax: Axes) -> None:
    """An axis of an amount begins at zero, so that heights compare."""
    ax.set_ylim(0, ax.get_ylim()[1])


def legend_above(ax: Axes) -> None:
    """In rows over the panel, where it covers no data."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(
            loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderaxespad=0.1, columnspacing=1.2
        )


def loss_limits(ax: Axes, losses: Sequence[float]) -> None:
    """The first steps fall from far above: leave out the highest hundredth where it dwarfs the
    rest, and say so.
    """
    finite = np.asarray(losses, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if finite.size < 100:
        return
    low, high = float(finite.min()), float(np.quantile(finite, 0.99))
    if finite.max() - low > 2 * (high - low):
        ax.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
        ax.text(0.995, 0.97, "highest 1 % not shown", transform=ax.transAxes, ha="right", va="top",
                color=GREY, fontsize="small")


def _wrapped(text: str, width: float, points: float) -> str:
    """Lines that fit; a part between two dots stays whole if it can."""
    characters = int(width * 72 / points * _CHARACTERS_PER_INCH)
    whole = text.replace(" (assumed)", "\u00a0(assumed)")
    return "\n".join(textwrap.wrap(whole, characters, break_long_words=True))
