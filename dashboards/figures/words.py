"""What a figure says of itself: run, devices, meter, factors, and what was not measured."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.figure import Figure

from carbontrack.account.result import Estimate, each
from carbontrack.report.numbers import mass_text, money_text
from dashboards.data import RunData
from dashboards.style import GREY, Page, scaled

_WH_PER_KWH = 1000.0
_SHOWN_NAMES = 3
_EM_PER_CHARACTER = 0.54
_EM_PER_BOLD = 0.68
_POINTS_PER_INCH = 72


def title(data: RunData) -> str:
    """Run and devices, and in words when nothing was measured."""
    count = f"{len(data.sensors)} × " if len(data.sensors) > 1 else ""
    devices = ", ".join(data.estimate.device_names) or "no device"
    return f"{data.run.name}: {count}{devices}{_unmeasured([data.estimate])}"


def title_of(runs: Sequence[RunData], what: str) -> str:
    """What is drawn, of how many runs."""
    names = each(data.run.name for data in runs)
    shown = ", ".join(names) if len(names) <= _SHOWN_NAMES else f"{len(runs)} runs"
    return f"{what}: {shown}{_unmeasured([data.estimate for data in runs])}"


def footnote(estimates: Sequence[Estimate]) -> str:
    """Meter, scope, coverage and factors, and which of them nobody chose."""
    meters = ", ".join(each(e.meter for e in estimates))
    scopes = ", ".join(each(e.scope for e in estimates))
    parts = [f"meter {meters}, scope {scopes}" if meters else "no meter"]
    coverages = [e.coverage for e in estimates if e.coverage is not None]
    if coverages:
        parts.append(f"coverage {int(min(coverages) * 1000) / 10:g} %")
    parts += each(f"PUE {e.pue:g}{_assumed(e, 'pue')}" for e in estimates if e.pue is not None)
    parts += each(
        f"{e.intensity_kg_per_kwh:.3g} kgCO₂e/kWh{_assumed(e, 'intensity')}"
        for e in estimates
        if e.intensity_kg_per_kwh is not None
    )
    return " · ".join(parts)


def totals(estimate: Estimate) -> str:
    """Facility energy, CO2e and cost of the whole run in one line."""
    parts = []
    if estimate.facility_kwh is not None:
        factor, unit = scaled(estimate.facility_kwh * _WH_PER_KWH, "Wh")
        parts.append(f"{estimate.facility_kwh * _WH_PER_KWH * factor:.3g} {unit}")
    if estimate.tco2e is not None:
        parts.append(f"{mass_text(estimate.tco2e)}CO₂e")
    if estimate.cost is not None:
        parts.append(money_text(estimate.cost, estimate.currency))
    return "in all " + " = ".join(parts) if parts else "unknown"


def put(figure: Figure, room: Page, heading: str, below: str) -> None:
    """Heading and footnote, in sizes that fit the page."""
    large, small = room.points + 1, 0.75 * room.points
    figure.suptitle(
        _wrapped(heading, figure, large * _EM_PER_BOLD), fontsize=large, fontweight="bold"
    )
    figure.supxlabel(_wrapped(below, figure, small * _EM_PER_CHARACTER), fontsize=small, color=GREY)


def _wrapped(text: str, figure: Figure, points_per_character: float) -> str:
    inches = float(figure.get_size_inches()[0])
    return textwrap.fill(text, int(inches * _POINTS_PER_INCH / points_per_character))


def _unmeasured(estimates: Sequence[Estimate]) -> str:
    words = [w for w in ("simulated", "estimate") if any(w in e.quality for e in estimates)]
    return f" ({', '.join(words)})" if words else ""


def _assumed(estimate: Estimate, name: str) -> str:
    return " (assumed)" if name in estimate.assumed else ""
