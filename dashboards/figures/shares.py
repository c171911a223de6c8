"""Figures of where the energy and the carbon went: by phase of the training, by hour."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from carbontrack.errors import CarbontrackError
from carbontrack.units import J_PER_KWH, MS_PER_HOUR, MS_PER_S
from dashboards.data import RunData, end_s
from dashboards.figures import words
from dashboards.figures.panels import Clock
from dashboards.style import (
    BLUE,
    GREEN,
    from_zero,
    page,
    scaled,
    scaled_mass,
)

_WH_PER_KWH = 1000.0
_G_PER_KG = 1000.0
_BEFORE = "before the first phase"


def phases(data: RunData, *, style: str = "paper") -> Figure:
    """Facility energy of each phase that the job told of, largest first, with its share. Raises
    CarbontrackError for a run without phases or without energy.
    """
    spent = phase_energies_j(data)
    if not spent:
        raise CarbontrackError(
            f"Run {data.run.name} has no phases with energy.",
            hint='The job tells them: carbontrack.log_event("phase", name="train").',
        )
    total_j = sum(spent.values())
    to_wh = data.facility_factor / J_PER_KWH * _WH_PER_KWH
    scale, unit = scaled(max(spent.values()) * to_wh, "Wh")
    names = sorted(spent, key=spent.__getitem__)
    with page(style) as room:
        figure = Figure(figsize=(room.width, room.height), layout="constrained")
        ax = figure.subplots()
        bars = ax.barh(names, [spent[n] * to_wh * scale for n in names], color=BLUE, height=0.6)
        ax.bar_label(bars, [f"{spent[n] / total_j:.1%}" for n in names], padding=3)
        ax.margins(x=0.14)
        ax.grid(axis="y", visible=False)
        ax.set_xlabel(f"facility energy ({unit})")
        words.put(figure, room, words.title(data), words.footnote([data.estimate]))
    return figure


def phase_energies_j(data: RunData) -> dict[str, float]:
    """Energy in J of all devices in each phase. A phase lasts until the next one is told."""
    changes = [
        (event.time_ms, str(event.data.get("name", event.message)))
        for event in data.events
        if event.kind == "phase"
    ]
    if not changes:
        return {}
    edges = [(data.run.started_ms, _BEFORE), *changes]
    ends = [time_ms for time_ms, _ in edges[1:]]
    ends.append(data.run.started_ms + round(end_s(data.run) * MS_PER_S))
    spent: dict[str, float] = {}
    for (begin_ms, name), end_ms in zip(edges, ends, strict=True):
        energy_j = data.curve.energy_j(end_ms) - data.curve.energy_j(begin_ms)
        if energy_j > 0:
            spent[name] = spent.get(name, 0.0) + energy_j
    return spent


def carbon_by_hour(data: RunData, *, style: str = "paper") -> Figure:
    """Grid intensity, and the emissions of each hour of the clock (UTC). Raises CarbontrackError
    for a run without energy.
    """
    spent = _facility_kwh(data)
    if not spent:
        raise CarbontrackError(
            f"Run {data.run.name} recorded no energy.", hint="Was a meter there?"
        )
    clock = Clock.of(data)
    hours = range(min(spent), max(spent) + 1, MS_PER_HOUR)
    intensity = np.array([_intensity_kg_per_kwh(data, ms) for ms in hours], dtype=float)
    grams = np.array([spent.get(ms, np.nan) for ms in hours]) * intensity * _G_PER_KG
    scale, unit = scaled_mass(float(np.nanmax(grams)))
    edges = [clock.at_ms(ms) for ms in [*hours, hours[-1] + MS_PER_HOUR]]
    with page(style) as room:
        figure = Figure(figsize=(room.width, 0.9 + 2 * room.panel), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True)
        upper.stairs(intensity, edges, color=BLUE, lw=1.3, baseline=None)
        lower.stairs(grams * scale, edges, color=GREEN, fill=True, alpha=0.7)
        upper.set_ylabel("intensity (kgCO₂e/kWh)")
        lower.set_ylabel(f"emissions ({unit}/h)")
        for ax in (upper, lower):
            from_zero(ax)
        clock.label(lower)
        figure.align_ylabels([upper, lower])
        words.put(figure, room, words.title(data), words.footnote([data.estimate]))
    return figure


def _intensity_kg_per_kwh(data: RunData, start_ms: int) -> float | None:
    """Of that hour if an intensity series was imported for all of it, else the run's factor."""
    factors = data.estimate.factors
    if factors is not None and factors.series is not None:
        mean = factors.series.mean(start_ms, start_ms + MS_PER_HOUR)
        if mean is not None:
            return mean
    return data.estimate.intensity_kg_per_kwh


def _facility_kwh(data: RunData) -> dict[int, float]:
    """Facility energy of each hour in which any is known."""
    spent: dict[int, float] = {}
    for usage in data.hours:
        if usage.energy_j is not None:
            kwh = usage.energy_j / J_PER_KWH * data.facility_factor
            spent[usage.start_ms] = spent.get(usage.start_ms, 0.0) + kwh
    return spent
