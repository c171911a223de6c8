"""One run over time: power, loss, and the energy and CO2e that it used up to each moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from carbontrack.account.result import Estimate
from carbontrack.units import J_PER_KWH, MS_PER_S
from dashboards.data import Floats, RunData, elapsed_s
from dashboards.figures.frame import (
    WH_PER_KWH,
    Sheet,
    TimeAxis,
    facility_ratio,
    footnote_of,
    from_zero,
    g_per_wh,
    legend_above,
    sheet,
    title_of,
)
from dashboards.style import BLACK, BLUE, GREEN, GREY, VERMILION, scaled, scaled_mass

_MARKED = ("checkpoint", "device-lost", "device-found", "counter-reset", "preempted", "budget")
_MAX_LABELS = 6  # of one kind of event; more would cover the data
_SAME_PLACE = 0.012  # of the axis: labels closer than this share a line


def overview(data: RunData, estimate: Estimate, *, style: str = "paper") -> Figure:
    """Power, loss, and cumulative energy and CO2e of one run on one time axis.

    `estimate` gives the factors (PUE, grid intensity) and what the footnote says of the meter.
    """
    has_loss = bool(data.steps["loss"].notna().any())
    with sheet(style, 3 if has_loss else 2, wide=True) as page:
        clock = TimeAxis.of(data)
        _draw_power(page.axes[0], data, clock)
        if has_loss:
            _draw_loss(page.axes[1], data, clock)
        _draw_energy(page.axes[-1], data, estimate, clock)
        _finish(page, data, estimate, clock)
    return page.figure


def power(data: RunData, estimate: Estimate, *, style: str = "paper") -> Figure:
    """Power of each device and of all together."""
    with sheet(style) as page:
        clock = TimeAxis.of(data)
        _draw_power(page.axes[0], data, clock)
        _finish(page, data, estimate, clock)
    return page.figure


def energy(data: RunData, estimate: Estimate, *, style: str = "paper") -> Figure:
    """Cumulative facility energy and the CO2e that it stands for."""
    with sheet(style) as page:
        clock = TimeAxis.of(data)
        _draw_energy(page.axes[0], data, estimate, clock)
        _finish(page, data, estimate, clock)
    return page.figure


def _finish(page: Sheet, data: RunData, estimate: Estimate, clock: TimeAxis) -> None:
    _mark_events(page, data, clock)
    clock.label(page.axes[-1])
    page.caption(title_of(data, estimate), footnote_of(estimate))


def _draw_power(ax: Axes, data: RunData, clock: TimeAxis) -> None:
    """One device: its mean, minimum and maximum. Several: the mean of each, the band that they
    span, and the total.
    """
    devices = len(data.sensors)
    total = _total_power(data)
    largest = float(data.power["power_max_w"].max() if devices == 1 else total.max())
    scale, unit = scaled(largest, "W")
    if devices == 1:
        time, mean, low, high = _with_gaps(data, data.power)
        x = time * clock.factor
        ax.fill_between(
            x, low * scale, high * scale, color=BLUE, alpha=0.25, lw=0, label="minimum to maximum"
        )
        ax.plot(x, mean * scale, color=BLUE, label="mean")
    elif devices > 1:
        by_time = data.power.groupby("start", as_index=False)
        span = by_time.agg({"power_w": "mean", "power_min_w": "min", "power_max_w": "max"})
        time, _, low, high = _with_gaps(data, span)
        ax.fill_between(
            time * clock.factor,
            low * scale,
            high * scale,
            color=BLUE,
            alpha=0.2,
            lw=0,
            label="minimum to maximum",
        )
        for index, rows in data.power.groupby("device", sort=True):
            time, mean, _, _ = _with_gaps(data, rows)
            each = "each device" if index == 0 else None
            ax.plot(time * clock.factor, mean * scale, color=BLUE, lw=0.7, alpha=0.6, label=each)
        middle = elapsed_s(data.run, total.index.to_series()) + data.level_s / 2
        ax.plot(middle * clock.factor, total * scale, color=BLACK, lw=1.5, label="total")
    ax.set_ylabel(f"power ({unit})")
    from_zero(ax)
    legend_above(ax)


def _draw_loss(ax: Axes, data: RunData, clock: TimeAxis) -> None:
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
        ax.plot(x, y, "o--", color=VERMILION, ms=4, lw=1, label="held-out loss", clip_on=False)
    legend_above(ax)
    ax.set_ylabel("loss (nats per token)")


def _draw_energy(ax: Axes, data: RunData, estimate: Estimate, clock: TimeAxis) -> None:
    """One curve with two scales; dotted where nobody measured."""
    x = np.array([clock.at_ms(time_ms) for time_ms in data.curve.times_ms])
    wh_per_j = facility_ratio(data, estimate) / J_PER_KWH * WH_PER_KWH
    y = np.asarray(data.curve.energies_j) * wh_per_j
    scale, unit = scaled(float(y.max()), "Wh")
    ax.fill_between(x, 0, y * scale, color=GREEN, alpha=0.12, lw=0)
    gap = (np.diff(y) == 0) & (np.diff(data.curve.times_ms) > data.level_s * MS_PER_S / 2)
    breaks = np.flatnonzero(gap) + 1
    ax.plot(np.insert(x, breaks, np.nan), np.insert(y * scale, breaks, np.nan), color=GREEN, lw=1.8)
    for index in breaks:
        ends = slice(index - 1, index + 1)
        ax.plot(x[ends], y[ends] * scale, color=GREEN, lw=1.2, ls=":")
    ax.set_ylabel(f"facility energy ({unit})")
    from_zero(ax)
    emitted = g_per_wh(estimate)
    if emitted and y.max() > 0:
        co2_scale, co2_unit = scaled_mass(float(y.max()) * emitted)
        ratio = emitted * co2_scale / scale
        scales: Any = (lambda energy: energy * ratio, lambda emissions: emissions / ratio)
        right = ax.secondary_yaxis("right", functions=scales)
        right.set_ylabel(f"emissions ({co2_unit})")
        right.spines["right"].set_visible(True)


def _mark_events(page: Sheet, data: RunData, clock: TimeAxis) -> None:
    """A thin dotted line through all panels for each event, named at the foot of the last."""
    marked = [event for event in data.events if event.kind in _MARKED]
    for ax in page.axes:
        for event in marked:
            ax.axvline(clock.at_ms(event.time_ms), color=GREY, lw=0.8, ls=(0, (1, 2)), zorder=0.5)
    for time, words in _labels(marked, clock):
        page.axes[-1].annotate(
            words,
            (time, 0.04),
            xycoords=("data", "axes fraction"),
            xytext=(-2, 0),
            textcoords="offset points",
            rotation=90,
            ha="right",
            va="bottom",
            fontsize=page.style.small - 0.5,
            color=GREY,
        )


def _labels(events: Sequence[Any], clock: TimeAxis) -> list[tuple[float, str]]:
    """Where to name events; those at one place share a label, frequent kinds are named once."""
    places: list[tuple[float, list[str]]] = []
    counts = {e.kind: sum(other.kind == e.kind for other in events) for e in events}
    named: set[str] = set()
    for event in sorted(events, key=lambda event: event.time_ms):
        if counts[event.kind] > _MAX_LABELS and event.kind in named:
            continue
        named.add(event.kind)
        time = clock.at_ms(event.time_ms)
        if places and time - places[-1][0] < _SAME_PLACE * clock.end * 2:
            if event.kind not in places[-1][1]:
                places[-1][1].append(event.kind)
        else:
            places.append((time, [event.kind]))
    return [(time, ", ".join(kinds)) for time, kinds in places]


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
