"""Figures for papers and notebooks: each takes a run's data and gives a matplotlib figure."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from carbontrack.account.result import Estimate
from carbontrack.units import J_PER_KWH, MS_PER_S
from dashboards.data import RunData, elapsed_s, end_s
from dashboards.style import BLACK, BLUE, DEVICES, GREEN, GREY, PAPER, VERMILION, scaled, time_unit

_WH_PER_KWH = 1000
_G_PER_T = 1e6
_MARKED = ("checkpoint", "device-lost", "device-found", "counter-reset", "preempted", "budget")


def overview(data: RunData, estimate: Estimate) -> Figure:
    """Power, loss, and cumulative energy and CO2e of one run on one time axis.

    `estimate` gives the factors (PUE, grid intensity) and what the title says of the meter.
    """
    with matplotlib.rc_context(dict(PAPER)):
        figure = Figure(figsize=(7.0, 7.4), layout="constrained")
        has_loss = bool(data.steps["loss"].notna().any())
        ratios = (3, 3, 3) if has_loss else (3, 3)
        axes: Sequence[Axes] = figure.subplots(len(ratios), 1, sharex=True, height_ratios=ratios)
        factor, unit = time_unit(end_s(data.run))
        _draw_power(axes[0], data, factor)
        if has_loss:
            _draw_loss(axes[1], data, factor)
        _draw_energy(axes[-1], data, estimate, factor)
        _mark_events(axes, data, factor)
        axes[-1].set_xlabel(f"time since start ({unit})")
        axes[-1].set_xlim(0, max(end_s(data.run), 1e-3) * factor)
        figure.align_ylabels(axes)
        figure.suptitle(_title(data, estimate), x=0.01, ha="left", fontsize=10, fontweight="bold")
        figure.text(0.01, 0.0, _footnote(estimate), fontsize=7.5, color=GREY, va="bottom")
        figure.get_layout_engine().set(rect=(0, 0.035, 1, 0.965))  # type: ignore[union-attr]
    return figure


def _draw_power(ax: Axes, data: RunData, factor: float) -> None:
    """Each device's mean as a line in its band from minimum to maximum; the total if there are several."""
    devices = len(data.sensors)
    largest = data.power["power_max_w"].max() if devices == 1 else _total_power(data).max()
    scale, unit = scaled(0.0 if np.isnan(largest) else float(largest), "W")
    for index, rows in data.power.groupby("device", sort=True):
        colour = DEVICES[int(str(index)) % len(DEVICES)]
        time, mean, low, high = _with_gaps(data, rows, factor)
        if devices == 1:
            ax.fill_between(time, low * scale, high * scale, color=colour, alpha=0.25, lw=0)
        alpha, width = (1.0, 1.3) if devices == 1 else (0.8, 0.7)
        label = None if devices > 1 else "mean"
        ax.plot(time, mean * scale, color=colour, lw=width, alpha=alpha, label=label)
    if devices > 1 and len(data.power):
        total = _total_power(data)
        time = elapsed_s(data.run, total.index.to_series()) * factor
        ax.plot(time, total * scale, color=BLACK, lw=1.5, drawstyle="steps-post")
        ax.text(0.995, 0.93, f"total of {devices} devices", transform=ax.transAxes, ha="right", va="top", fontsize=8)
        ax.text(0.995, 0.16, "each device", transform=ax.transAxes, ha="right", va="bottom", fontsize=8, color=BLUE)
    ax.set_ylabel(f"power ({unit})")
    ax.set_ylim(bottom=0)
    ax.margins(y=0.12)


def _draw_loss(ax: Axes, data: RunData, factor: float) -> None:
    """Training loss of every step, and held-out losses from `eval` events."""
    known = data.steps.dropna(subset=["loss"])
    time = elapsed_s(data.run, known["time"]) * factor
    ax.plot(time, known["loss"], color=BLUE, lw=0.8, label="training loss, every step")
    held_out = [
        ((event.time_ms - data.run.started_ms) / MS_PER_S * factor, float(event.data["loss"]))
        for event in data.events
        if event.kind == "eval" and isinstance(event.data.get("loss"), (int, float))
    ]
    if held_out:
        x, y = zip(*held_out, strict=True)
        ax.plot(x, y, "o--", color=VERMILION, ms=4.5, lw=1, label="held-out loss", clip_on=False)
    ax.legend(loc="upper right")
    ax.set_ylabel("loss (nats per token)")


def _draw_energy(ax: Axes, data: RunData, estimate: Estimate, factor: float) -> None:
    """Cumulative facility energy, with the CO2e that it stands for on the right: one curve, two scales."""
    pue, intensity = estimate.pue or 1.0, estimate.intensity_kg_per_kwh
    energy = data.power.groupby("start")["energy_j"].sum(min_count=1).cumsum().ffill()
    energy_wh = energy * pue / J_PER_KWH * _WH_PER_KWH
    ends = energy_wh.index.to_series() + pd.Timedelta(seconds=data.level_s)
    x = [0.0, *np.minimum(elapsed_s(data.run, ends), end_s(data.run)) * factor]
    y = np.array([0.0, *energy_wh])
    scale, unit = scaled(float(y.max()), "Wh")
    ax.plot(x, y * scale, color=GREEN, lw=1.8)
    ax.fill_between(x, 0, y * scale, color=GREEN, alpha=0.12, lw=0)
    ax.set_ylabel(f"energy with PUE ({unit})")
    ax.set_ylim(bottom=0)
    ax.margins(y=0.12)
    if intensity is not None and y.max() > 0:
        per_wh = intensity / _WH_PER_KWH * 1000
        co2_scale, co2_unit = scaled(float(y.max()) * per_wh, "gCO₂e")
        ratio = per_wh * co2_scale / scale
        right = ax.secondary_yaxis(
            "right", functions=(lambda v: v * ratio, lambda v: v / ratio)
        )
        right.set_ylabel(f"emissions ({co2_unit})")
        right.spines["right"].set_visible(True)


def _mark_events(axes: Sequence[Axes], data: RunData, factor: float) -> None:
    """A thin line through all panels for each event, named once at the top by its first letter's legend."""
    marked = [event for event in data.events if event.kind in _MARKED]
    for kind in dict.fromkeys(event.kind for event in marked):
        times = [
            (event.time_ms - data.run.started_ms) / MS_PER_S * factor
            for event in marked
            if event.kind == kind
        ]
        for ax in axes:
            for time in times:
                ax.axvline(time, color=GREY, lw=0.7, ls=(0, (1, 2)), zorder=0.5)
        for time in times if len(times) <= 6 else times[:1]:
            axes[0].annotate(
                kind,
                (time, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(2, -2),
                textcoords="offset points",
                rotation=90,
                va="top",
                fontsize=6.5,
                color=GREY,
            )


def _with_gaps(
    data: RunData, rows: pd.DataFrame, factor: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Time, mean, minimum and maximum at the middle of each window; NaN where windows are missing."""
    time = elapsed_s(data.run, rows["start"]).to_numpy() + data.level_s / 2
    values = rows[["power_w", "power_min_w", "power_max_w"]].to_numpy(dtype=float)
    breaks = np.flatnonzero(np.diff(time) > 1.5 * data.level_s) + 1
    time = np.insert(time, breaks, time[breaks - 1] + data.level_s)
    values = np.insert(values, breaks, np.nan, axis=0)
    return time * factor, values[:, 0], values[:, 1], values[:, 2]


def _total_power(data: RunData) -> pd.Series[float]:
    """The sum of the devices' mean powers by window; NaN where a device is missing."""
    by_time = data.power.groupby("start")["power_w"]
    total = by_time.sum(min_count=1)
    return total.where(by_time.count() == len(data.sensors))


def _title(data: RunData, estimate: Estimate) -> str:
    devices = ", ".join(estimate.device_names) or "no device"
    count = f"{len(data.sensors)} × " if len(data.sensors) > 1 else ""
    return f"{data.run.name}: {count}{devices}"


def _footnote(estimate: Estimate) -> str:
    """What the numbers are: meter, scope, factors, and which of them nobody chose."""
    assumed = {name: " (assumed)" for name in estimate.assumed}
    parts = [f"meter {estimate.meter}, scope {estimate.scope}"]
    if estimate.pue is not None:
        parts.append(f"PUE {estimate.pue:g}{assumed.get('pue', '')}")
    if estimate.intensity_kg_per_kwh is not None:
        value = f"{estimate.intensity_kg_per_kwh:g} kgCO₂e/kWh"
        parts.append(f"{value}{assumed.get('intensity', '')}")
    if estimate.coverage is not None:
        parts.append(f"coverage {int(estimate.coverage * 1000) / 10:g} %")
    return " · ".join(parts)
