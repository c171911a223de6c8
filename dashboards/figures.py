"""Figures for papers and notebooks: each takes a run's data and gives a matplotlib figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from carbontrack.account.result import Estimate
from carbontrack.units import J_PER_KWH, MS_PER_S
from dashboards.data import RunData, elapsed_s, end_s
from dashboards.style import (
    BLACK,
    BLUE,
    DEVICES,
    GREEN,
    GREY,
    PAPER,
    VERMILION,
    scaled,
    time_unit,
)

Floats = npt.NDArray[np.float64]

_WH_PER_KWH = 1000.0
_G_PER_KG = 1000.0
_MARKED = ("checkpoint", "device-lost", "device-found", "counter-reset", "preempted", "budget")
_MAX_LABELS = 6  # of one kind of event; more would cover the data


def overview(data: RunData, estimate: Estimate) -> Figure:
    """Power, loss, and cumulative energy and CO2e of one run on one time axis.

    `estimate` gives the factors (PUE, grid intensity) and what the footnote says of the meter.
    """
    with matplotlib.rc_context(PAPER):
        has_loss = bool(data.steps["loss"].notna().any())
        panels = 3 if has_loss else 2
        figure = Figure(figsize=(7.0, 0.9 + 2.15 * panels), layout="constrained")
        axes: Sequence[Axes] = figure.subplots(panels, 1, sharex=True)
        clock = _Clock.of(data)
        _draw_power(axes[0], data, clock)
        if has_loss:
            _draw_loss(axes[1], data, clock)
        _draw_energy(axes[-1], data, estimate, clock)
        _mark_events(axes, data, clock)
        axes[-1].set_xlim(0, clock.end)
        axes[-1].set_xlabel(f"time since start ({clock.unit})")
        figure.supxlabel(_footnote(estimate), fontsize=7.5, color=GREY)
        figure.align_ylabels(axes)
        figure.suptitle(_title(data, estimate), fontsize=10, fontweight="bold")
    return figure


@dataclass(frozen=True, slots=True)
class _Clock:
    """The time axis of all panels: since the run's start, in a unit that suits its length."""

    started_ms: int
    end: float
    factor: float
    unit: str

    @classmethod
    def of(cls, data: RunData) -> _Clock:
        length_s = max(end_s(data.run), 1e-3)
        factor, unit = time_unit(length_s)
        return cls(data.run.started_ms, length_s * factor, factor, unit)

    def at_ms(self, time_ms: int) -> float:
        return (time_ms - self.started_ms) / MS_PER_S * self.factor


def _draw_power(ax: Axes, data: RunData, clock: _Clock) -> None:
    """One device: its mean, minimum and maximum. Several: the mean of each, and the total."""
    devices = len(data.sensors)
    total = _total_power(data)
    largest = float(data.power["power_max_w"].max() if devices == 1 else total.max())
    scale, unit = scaled(largest, "W")
    for index, rows in data.power.groupby("device", sort=True):
        colour = DEVICES[int(str(index)) % len(DEVICES)]
        time, mean, low, high = _with_gaps(data, rows)
        x = time * clock.factor
        if devices == 1:
            label = "minimum to maximum"
            ax.fill_between(
                x, low * scale, high * scale, color=colour, alpha=0.25, lw=0, label=label
            )
            ax.plot(x, mean * scale, color=colour, label="mean")
        else:
            each = "each device" if index == 0 else None
            ax.plot(x, mean * scale, color=BLUE, lw=0.8, alpha=0.6, label=each)
    if devices > 1 and len(total):
        middle = elapsed_s(data.run, total.index.to_series()) + data.level_s / 2
        ax.plot(middle * clock.factor, total * scale, color=BLACK, lw=1.5, label="total")
    ax.set_ylabel(f"power ({unit})")
    _from_zero(ax)
    _legend_above(ax)


def _draw_loss(ax: Axes, data: RunData, clock: _Clock) -> None:
    """Training loss of every step, and held-out losses from `eval` events."""
    known = data.steps.dropna(subset=["loss"])
    time = elapsed_s(data.run, known["time"]) * clock.factor
    ax.plot(time, known["loss"], color=BLUE, lw=0.8, label="training loss of each step")
    held_out = [
        (clock.at_ms(event.time_ms), float(event.data["loss"]))
        for event in data.events
        if event.kind == "eval" and isinstance(event.data.get("loss"), (int, float))
    ]
    if held_out:
        x, y = zip(*held_out, strict=True)
        ax.plot(x, y, "o--", color=VERMILION, ms=4.5, lw=1, label="held-out loss", clip_on=False)
    _legend_above(ax)
    ax.set_ylabel("loss (nats per token)")


def _draw_energy(ax: Axes, data: RunData, estimate: Estimate, clock: _Clock) -> None:
    """Cumulative facility energy and the CO2e that it stands for: one curve with two scales."""
    pue, intensity = estimate.pue or 1.0, estimate.intensity_kg_per_kwh
    energy_j = data.power.groupby("start")["energy_j"].sum().cumsum()
    ends_s = elapsed_s(data.run, energy_j.index.to_series()) + data.level_s
    x = np.insert(np.minimum(ends_s.to_numpy() * clock.factor, clock.end), 0, 0.0)
    y = np.insert(energy_j.to_numpy() * pue / J_PER_KWH * _WH_PER_KWH, 0, 0.0)
    scale, unit = scaled(float(y.max()), "Wh")
    ax.plot(x, y * scale, color=GREEN, lw=1.8)
    ax.fill_between(x, 0, y * scale, color=GREEN, alpha=0.12, lw=0)
    ax.set_ylabel(f"facility energy ({unit})")
    _from_zero(ax)
    if intensity and y.max() > 0:
        g_per_wh = intensity * _G_PER_KG / _WH_PER_KWH
        co2_scale, co2_unit = scaled(float(y.max()) * g_per_wh, "gCO₂e")
        ratio = g_per_wh * co2_scale / scale

        scales: Any = (lambda energy: energy * ratio, lambda emissions: emissions / ratio)
        right = ax.secondary_yaxis("right", functions=scales)
        right.set_ylabel(f"emissions ({co2_unit})")
        right.spines["right"].set_visible(True)


def _from_zero(ax: Axes) -> None:
    """An axis of an amount begins at zero, so that heights compare."""
    ax.set_ylim(0, ax.get_ylim()[1])


def _legend_above(ax: Axes) -> None:
    """In a row over the panel, where it covers no data."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderaxespad=0.1)


def _mark_events(axes: Sequence[Axes], data: RunData, clock: _Clock) -> None:
    """A thin dotted line through all panels for each event, named at its top."""
    marked = [event for event in data.events if event.kind in _MARKED]
    for kind in dict.fromkeys(event.kind for event in marked):
        times = [clock.at_ms(event.time_ms) for event in marked if event.kind == kind]
        for ax in axes:
            for time in times:
                ax.axvline(time, color=GREY, lw=0.8, ls=(0, (1, 2)), zorder=0.5)
        for time in times if len(times) <= _MAX_LABELS else times[:1]:
            axes[-1].annotate(
                kind,
                (time, 0.04),
                xycoords=("data", "axes fraction"),
                xytext=(-2, 0),
                textcoords="offset points",
                rotation=90,
                ha="right",
                va="bottom",
                fontsize=7,
                color=GREY,
            )


def _with_gaps(data: RunData, rows: pd.DataFrame) -> tuple[Floats, Floats, Floats, Floats]:
    """Middle (s), mean, minimum and maximum of each window; NaN where one is missing."""
    time = elapsed_s(data.run, rows["start"]).to_numpy(dtype=np.float64) + data.level_s / 2
    columns = ["power_w", "power_min_w", "power_max_w"]
    values: Floats = rows[columns].to_numpy(dtype=np.float64)
    breaks = np.flatnonzero(np.diff(time) > 1.5 * data.level_s) + 1
    broken = np.insert(values, breaks, np.nan, axis=0)
    times = np.insert(time, breaks, time[breaks - 1] + data.level_s)
    return times, broken[:, 0], broken[:, 1], broken[:, 2]


def _total_power(data: RunData) -> pd.Series[float]:
    """The sum of the devices' mean powers by window; NaN where one of them is missing."""
    by_time = data.power.groupby("start")["power_w"]
    total = by_time.sum(min_count=1).where(by_time.count() == len(data.sensors))
    if len(total) < 2:
        return total
    every = pd.date_range(total.index[0], total.index[-1], freq=f"{data.level_s}s")
    return total.reindex(every)


def _title(data: RunData, estimate: Estimate) -> str:
    """Run and devices, and in words when nothing was measured."""
    count = f"{len(data.sensors)} × " if len(data.sensors) > 1 else ""
    devices = ", ".join(estimate.device_names) or "no device"
    unmeasured = [word for word in ("simulated", "estimate") if word in estimate.quality]
    quality = f" ({', '.join(unmeasured)})" if unmeasured else ""
    return f"{data.run.name}: {count}{devices}{quality}"


def _footnote(estimate: Estimate) -> str:
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
