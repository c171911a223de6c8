"""The captions of figures: run, devices, meter, factors, and what was not measured."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from carbontrack.account.result import Estimate, unique
from carbontrack.report.numbers import mass_text, money_text
from carbontrack.vocabulary import UNMEASURED, Quality
from dashboards.data import WH_PER_KWH, RunData
from dashboards.style import GREY, Page, literal, scaled

_SHOWN_NAMES = 3
_EM_PER_CHARACTER = 0.54
_EM_PER_BOLD = 0.68
_POINTS_PER_INCH = 72


def title(data: RunData) -> str:
    """Run, devices, scope and meter, and in words when nothing was measured."""
    number = len(data.sensors)
    devices = ", ".join(data.estimate.device_names)
    if not devices:
        devices = f"{number} device{'s' * (number > 1)}" if number else "no device"
    elif number > 1:
        devices = f"{number} × {devices}"
    said = f"{literal(data.run.name)}: {literal(devices)}"
    return _with_meter(said, [data.estimate])


def title_of(runs: Sequence[RunData], what: str) -> str:
    """What is drawn, of how many runs, and by which meters."""
    names = unique(literal(data.run.name) for data in runs)
    shown = ", ".join(names) if len(names) <= _SHOWN_NAMES else f"{len(runs)} runs"
    return _with_meter(f"{what}: {shown}", [data.estimate for data in runs])


def footnote(estimates: Sequence[Estimate]) -> str:
    """Coverage and factors, and which of them are assumed."""
    parts = []
    coverages = [e.coverage for e in estimates if e.coverage is not None]
    if coverages:
        parts.append(f"coverage {int(min(coverages) * 1000) / 10:g} %")
    parts += unique(f"PUE {e.pue:g}{_assumed(e, 'pue')}" for e in estimates if e.pue is not None)
    parts += unique(
        f"{e.intensity_kg_per_kwh:.3g} kgCO₂e/kWh{_assumed(e, 'intensity')}"
        for e in estimates
        if e.intensity_kg_per_kwh is not None
    )
    return " · ".join(parts)


def totals(estimate: Estimate) -> list[str]:
    """Facility energy, CO2e and cost of the whole run."""
    parts = []
    kwh = estimate.energy_kwh if estimate.facility_kwh is None else estimate.facility_kwh
    if kwh is not None:
        factor, unit = scaled(kwh * WH_PER_KWH, "Wh")
        parts.append(f"total {kwh * WH_PER_KWH * factor:.3g} {unit}")
    if estimate.tco2e is not None:
        parts.append(f"{mass_text(estimate.tco2e)}CO₂e")
    if estimate.cost is not None:
        assumed = {"tariff", "price_per_gpu_hour", "gpu_price"} & set(estimate.assumed)
        price = " (assumed)" if assumed else ""
        parts.append(f"{money_text(estimate.cost, estimate.currency)}{price}")
    return parts or ["total unknown"]


def device(data: RunData, index: int) -> str:
    """A device's name in a legend."""
    sensor = data.sensors[index]
    return f"{sensor.kind} {index}" if data.estimate.meter else literal(sensor.name)


def loss_of(losses: pd.DataFrame) -> str:
    """What a point of a curve of losses is."""
    several = losses["steps"].median()
    if several <= 1:
        return "training loss of each step"
    return f"training loss, {several:.0f} steps a point"


def put(figure: Figure, room: Page, heading: str, below: str) -> None:
    """Heading and footnote, in sizes that fit the page."""
    large, small = 1.07 * room.points, 0.8 * room.points
    figure.suptitle(
        _wrapped(heading, figure, large * _EM_PER_BOLD), fontsize=large, fontweight="bold"
    )
    figure.supxlabel(_wrapped(below, figure, small * _EM_PER_CHARACTER), fontsize=small, color=GREY)


def _wrapped(text: str, figure: Figure, points_per_character: float) -> str:
    inches = float(figure.get_size_inches()[0])
    room = int(inches * _POINTS_PER_INCH / points_per_character)
    return "\n".join(textwrap.fill(line, room) for line in text.splitlines())


def _with_meter(said: str, estimates: Sequence[Estimate]) -> str:
    """Scope and meter after what was said; *simulated* and *estimate* once, wherever."""
    scopes = ", ".join(unique(e.scope for e in estimates))
    meters = ", ".join(unique(e.meter for e in estimates))
    if Quality.SIMULATED in said.lower():
        meters = meters.replace(" (simulated)", "")
    measured = [f"scope {scopes}"] if scopes else []
    measured += [f"meter {meters}"] if meters else []
    said = "\n".join([said, ", ".join(measured)]) if measured else said
    words = [w for w in UNMEASURED if any(w in e.quality for e in estimates)]
    words = [w for w in words if w not in said.lower()]
    return f"{said} ({', '.join(words)})" if words else said


def _assumed(estimate: Estimate, name: str) -> str:
    return " (assumed)" if name in estimate.assumed else ""
