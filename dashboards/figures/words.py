"""The captions of figures: run, devices, meter, factors, and what was not measured."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from carbontrack.account.result import Estimate, unique
from carbontrack.report.devices import device_labels
from carbontrack.report.numbers import money_text
from carbontrack.units import G_PER_KG, KG_PER_T
from carbontrack.vocabulary import UNMEASURED, Quality
from dashboards.data import WH_PER_KWH, RunData
from dashboards.style import (
    GREY,
    LABEL_LETTERS,
    Look,
    Page,
    enough_ticks,
    literal,
    scaled,
    scaled_mass,
)

_SHOWN_NAMES = 3
_LENGTHS = {60: "1 min", 3600: "1 h"}
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
    return _with_meter(names_of(runs, what), [data.estimate for data in runs])


def names_of(runs: Sequence[RunData], what: str) -> str:
    """What is drawn, and of how many runs: for what no meter read."""
    names = unique(literal(data.run.name) for data in runs)
    return f"{what}: {', '.join(names) if len(names) <= _SHOWN_NAMES else f'{len(runs)} runs'}"


def coverage(estimates: Sequence[Estimate]) -> str:
    """The lowest share of device-seconds that was measured: all that power needs to be read."""
    coverages = [e.coverage for e in estimates if e.coverage is not None]
    return f"coverage {int(min(coverages) * 1000) / 10:g} %" if coverages else ""


def footnote(estimates: Sequence[Estimate]) -> str:
    """Coverage and the factors of energy and CO2e, and which of them are assumed."""
    parts = [said] if (said := coverage(estimates)) else []
    parts += unique(f"PUE {e.pue:g}{_assumed(e, 'pue')}" for e in estimates if e.pue is not None)
    parts += unique(
        f"{e.intensity_kg_per_kwh:.3g} kgCO₂e/kWh{_assumed(e, 'intensity')}"
        for e in estimates
        if e.intensity_kg_per_kwh is not None
    )
    return " · ".join(parts)


def with_coarser(said: str, data: RunData) -> str:
    """What is said below a figure of power over time, and up to when its windows are longer ones,
    each spread over its time, as no finer ones are left.
    """
    last_ms = {one.level_s: one.to_ms for one in sorted(data.coarser, key=lambda one: one.to_ms)}
    parts = []
    for level_s, to_ms in sorted(last_ms.items(), reverse=True):
        until = pd.Timestamp(to_ms, unit="ms", tz="UTC").strftime("%Y-%m-%d %H:%M UTC")
        is_all = to_ms >= data.run.end_ms
        parts.append(f"{_LENGTHS[level_s]}{'' if is_all else f' until {until}'}")
    if not parts:
        return said
    left = f"power as means of {', of '.join(parts)}: no finer windows are left"
    return f"{said} · {left}" if said else left


def energy_name(estimate: Estimate) -> str:
    """Without factors nothing is the facility's."""
    return "energy" if estimate.facility_kwh is None else "facility energy"


def totals(estimate: Estimate) -> list[str]:
    """Facility energy, CO2e and cost of the whole run, and which of them stand on an assumption."""

    def assumed(*names: str) -> str:
        return " (assumed)" if set(names) & set(estimate.assumed) else ""

    parts = []
    kwh = estimate.energy_kwh if estimate.facility_kwh is None else estimate.facility_kwh
    if kwh is not None:
        factor, unit = scaled(kwh * WH_PER_KWH, "Wh")
        parts.append(f"total {three_digits(kwh * WH_PER_KWH * factor)} {unit}{assumed('pue')}")
    if estimate.tco2e is not None:
        grams = estimate.tco2e * KG_PER_T * G_PER_KG
        factor, unit = scaled_mass(grams)
        parts.append(f"{three_digits(grams * factor)} {unit}{assumed('pue', 'intensity')}")
    if estimate.cost is not None:
        price = assumed("tariff", "price_per_gpu_hour", "gpu_price")
        parts.append(f"{money_text(estimate.cost, estimate.currency)}{price}")
    return parts or ["total unknown"]


def three_digits(value: float) -> str:
    """With all of them: 1.50, 12.0, 127."""
    return f"{value:#.3g}".rstrip(".")


def device(data: RunData, index: int) -> str:
    """A device's name in legends and labels; of a data frame its own."""
    if not data.estimate.meter:
        return literal(data.sensors[index].name)
    return literal(device_labels(data.sensors)[index], LABEL_LETTERS)


def loss_of(losses: pd.DataFrame, *, smooth: int | None = None) -> str:
    """What a point of a curve of losses is."""
    if smooth is not None:
        return f"training loss, mean of {smooth:,} steps"
    several = losses["steps"].median()
    if several <= 1:
        return "training loss of each step"
    return f"training loss, {several:,.0f} steps a point"


def put(figure: Figure, room: Page, look: Look, heading: str, below: str) -> None:
    """Heading, where the look has one, and footnote, in sizes that fit the page; and the ticks of
    what was drawn.
    """
    for ax in figure.axes:
        if ax.get_gid() != "events":
            enough_ticks(ax)
    large, small = 1.07 * room.points, 0.8 * room.points
    if look.title:
        said = _wrapped(heading, figure, large * _EM_PER_BOLD)
        figure.suptitle(said, fontsize=large, fontweight="bold")
    if below:
        said = _wrapped(below, figure, small * _EM_PER_CHARACTER)
        figure.supxlabel(said, fontsize=small, color=GREY)


def _wrapped(text: str, figure: Figure, points_per_character: float) -> str:
    inches = float(figure.get_size_inches()[0])
    room = int(inches * _POINTS_PER_INCH / points_per_character)
    return "\n".join(textwrap.fill(line, room) for line in text.splitlines())


def unmeasured(estimates: Sequence[Estimate]) -> str:
    """Below a figure without power: how that of its runs is not measured."""
    words = [w for w in UNMEASURED if any(w in e.quality for e in estimates)]
    return f"power of what is drawn: {', '.join(words)}" if words else ""


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
