"""Figures of where the energy and the carbon went: by phase of the training, by hour."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from carbontrack.account.phases import OTHER
from carbontrack.errors import CarbontrackError
from carbontrack.report.numbers import format_duration
from carbontrack.units import G_PER_KG, MS_PER_DAY, MS_PER_HOUR, MS_PER_S, S_PER_HOUR
from carbontrack.vocabulary import FigureKind
from dashboards.data import (
    WH_PER_KWH,
    RunData,
    intensity_of_hour,
    intensity_varies,
)
from dashboards.figures import words
from dashboards.figures.saving import need_amount
from dashboards.style import (
    BLUE,
    GREEN,
    LABEL_LETTERS,
    Look,
    from_zero,
    line,
    literal,
    note,
    page,
    scaled,
    scaled_mass,
)

_LEAST_S = S_PER_HOUR  # less is one bar


def phases(data: RunData, look: Look) -> Figure:
    """Facility energy of each phase that the job logged, largest first, with its share; without
    factors that of the devices. Raises CarbontrackError for a run without phases or without energy.
    """
    spent = phase_energies_kwh(data)
    if not spent:
        raise CarbontrackError(
            f"Run {data.run.name} has no phases with energy.",
            hint='Log them: with carbontrack.phase("data"): ...',
        )
    total_kwh = sum(spent.values())
    to_wh = data.facility_factor * WH_PER_KWH
    scale, unit = scaled(max(spent.values()) * to_wh, "Wh")
    names = sorted(spent, key=spent.__getitem__)
    with page(look) as room:
        figure = Figure(figsize=room.size(), layout="constrained")
        ax = figure.subplots()
        rows = range(len(names))
        bars = ax.barh(rows, [spent[n] * to_wh * scale for n in names], color=BLUE, height=0.6)
        ax.bar_label(bars, [f"{100 * spent[n] / total_kwh:.1f} %" for n in names], padding=3)
        ax.margins(x=0.18)
        ax.grid(axis="y", visible=False)
        ax.set_xlabel(f"{words.energy_name(data.estimate)} ({unit})")
        words.put(figure, room, look, words.title(data), words.footnote([data.estimate]))
        ax.set_yticks(rows, [literal(name, LABEL_LETTERS) for name in names])
    return figure


def phase_energies_kwh(data: RunData) -> dict[str, float]:
    """Energy in kWh of all devices in each phase; none where the job logged none."""
    each = data.phases.each
    if [phase.name for phase in each] == [OTHER]:
        return {}
    return {phase.name: phase.energy_kwh for phase in each if phase.energy_kwh}


def carbon_by_hour(data: RunData, look: Look) -> Figure:
    """Grid intensity, and what was emitted in each hour of the clock (UTC). Raises
    CarbontrackError for a run without energy or factors, or of less than an hour.
    """
    spent = _facility_kwh(data)
    if not spent:
        raise CarbontrackError(
            f"Run {data.run.name} recorded no energy.", hint="No meter recorded it."
        )
    if data.run.duration_s < _LEAST_S:
        raise CarbontrackError(
            f"Run {data.run.name} ran {format_duration(data.run.duration_s)}: --kind "
            f"{FigureKind.CARBON_BY_HOUR} needs hours.",
            hint=f"--kind {FigureKind.ENERGY} shows its emissions over time.",
        )
    need_amount([data], "CO₂e", lambda estimate: estimate.tco2e)
    hours = range(min(spent), max(spent) + 1, MS_PER_HOUR)
    intensity = np.array([intensity_of_hour(data, ms) for ms in hours], dtype=float)
    grams = np.array([spent.get(ms, np.nan) for ms in hours]) * intensity * G_PER_KG
    scale, unit = scaled_mass(float(np.nanmax(grams)))
    edges = [ms / MS_PER_DAY for ms in (*hours, hours[-1] + MS_PER_HOUR)]  # matplotlib's dates
    with page(look) as room:
        figure = Figure(figsize=room.size(2), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True)
        upper.stairs(intensity, edges, color=BLUE, lw=line(1.3), baseline=None)
        lower.stairs(grams * scale, edges, color=GREEN, fill=True, alpha=0.7)
        upper.set_ylabel("intensity (kgCO₂e/kWh)")
        lower.set_ylabel(f"emissions in\neach hour ({unit})")
        for ax in (upper, lower):
            from_zero(ax)
        if not intensity_varies(data):
            upper.set_ylim(0, 1.35 * upper.get_ylim()[1])  # the line is not under the words
            note(upper, "one factor for all hours")
        _clock_axis(lower, edges)
        lower.set_xlabel(f"time (UTC), {_days(hours[0], hours[-1] + MS_PER_HOUR)}")
        figure.align_ylabels([upper, lower])
        words.put(figure, room, look, words.title(data), words.footnote([data.estimate]))
    return figure


def _clock_axis(ax: Axes, edges: Sequence[float]) -> None:
    """Whole hours of the clock: what the grid emits depends on the time of day."""
    ax.set_xlim(edges[0], edges[-1])
    locator: Any = AutoDateLocator(  # type: ignore[no-untyped-call]
        tz=UTC, minticks=3, maxticks=8
    )
    ax.xaxis.set_major_locator(locator)
    days = ["%Y", "%b %Y", "%d %b", "%H:%M", "%H:%M", "%S"]
    whole = ["", "%Y", "%b %Y", "%d %b", "%H:%M", "%H:%M"]
    dated: Any = ConciseDateFormatter(  # type: ignore[no-untyped-call]
        locator, tz=UTC, formats=days, zero_formats=whole, show_offset=False
    )
    ax.xaxis.set_major_formatter(dated)


def _days(first_ms: int, end_ms: int) -> str:
    """The days from a time up to another: 31 May to 2 June 2026."""
    first_day, last_day = (
        datetime.fromtimestamp(ms / MS_PER_S, UTC) for ms in (first_ms, end_ms - 1)
    )
    last = f"{last_day.day} {last_day:%B} {last_day.year}"
    if first_day.date() == last_day.date():
        return last
    year = "" if first_day.year == last_day.year else f" {first_day.year}"
    return f"{first_day.day} {first_day:%B}{year} to {last}"


def _facility_kwh(data: RunData) -> dict[int, float]:
    """Facility energy of each hour in which any is known."""
    factor = data.facility_factor
    return {start_ms: kwh * factor for start_ms, kwh in data.kwh_by_hour.items()}
