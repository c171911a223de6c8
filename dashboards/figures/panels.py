"""The panels over time that figures are put together from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes

from carbontrack.units import J_PER_KWH, MS_PER_S
from dashboards.data import RunData, elapsed_s, end_s, held_out
from dashboards.figures import words
from dashboards.style import (
    BLACK,
    BLUE,
    CYCLE,
    GREEN,
    GREY,
    SKY,
    VERMILION,
    from_zero,
    legend_above,
    nothing_to_draw,
    scaled,
    scaled_mass,
    time_unit,
)

Floats = npt.NDArray[np.float64]

_WH_PER_KWH = 1000.0
_G_PER_KG = 1000.0
_FEW = 6  # events of a kind that get a line through all panels; more would cover the data
_NAMED_DEVICES = 4
_UNMARKED = ("eval", "phase")  # they have their own panels and figures


@dataclass(frozen=True, slots=True)
class Clock:
    """The time axis of all panels: since the run's start, in a unit that suits its length."""

    started_ms: int
    end: float
    factor: float
    unit: str

    @classmethod
    def of(cls, data: RunData) -> Clock:
        length_s = max(end_s(data.run), 1e-3)
        factor, unit = time_unit(length_s)
        return cls(data.run.started_ms, length_s * factor, factor, unit)

    def at_ms(self, time_ms: float) -> float:
        return (time_ms - self.started_ms) / MS_PER_S * self.factor

    def label(self, ax: Axes) -> None:
        ax.set_xlim(0, self.end)
        ax.set_xlabel(f"time since start ({self.unit})")


def draw_power(ax: Axes, data: RunData, clock: Clock) -> None:
    """Power of a device; of several, each one thin, their mean bold, and the total as a second
    scale of the mean: it is the mean times their number.
    """
    devices = len(data.sensors)
    if data.power.empty:
        nothing_to_draw(ax, "no power was recorded")
        ax.set_ylabel("power (W)")
        return
    scale, unit = scaled(float(data.power["power_max_w"].max()), "W")
    time, low, mean, high = _band(data)
    x = time * clock.factor
    ax.fill_between(x, low * scale, high * scale, color=SKY, alpha=0.35, lw=0, label="min–max")
    if devices > 1:
        _draw_each(ax, data, clock, scale)
    ax.plot(
        x,
        mean * scale,
        color=BLACK if devices > 1 else BLUE,
        label="mean of all" if devices > 1 else "mean",
    )
    ax.set_ylabel(f"power of a device ({unit})" if devices > 1 else f"power ({unit})")
    from_zero(ax)
    if devices > 1:
        top = ax.get_ylim()[1] / scale * devices
        total_scale, total_unit = scaled(top, "W")
        _second_scale(ax, devices * total_scale / scale, f"total ({total_unit})")
    legend_above(ax)


def _draw_each(ax: Axes, data: RunData, clock: Clock, scale: float) -> None:
    """A few devices have a colour and a name each; of many, only the spread can be seen."""
    few = len(data.sensors) <= _NAMED_DEVICES
    for number, rows in data.power.groupby("device", sort=True):
        index = int(str(number))
        time, mean = _with_gaps(data, rows)
        ax.plot(
            time * clock.factor,
            mean * scale,
            color=CYCLE[index] if few else BLUE,
            lw=0.9 if few else 0.5,
            alpha=1.0 if few else 0.5,
            zorder=3 if few else 2,
            label=f"{data.sensors[index].kind} {index}" if few else "_" * index + "each device",
        )


def draw_loss(ax: Axes, data: RunData, clock: Clock) -> None:
    """Training loss of every step, and held-out losses from `eval` events."""
    time = elapsed_s(data.run, data.steps["time"]) * clock.factor
    ax.plot(time, data.steps["loss"], color=BLUE, lw=0.8, label="training loss of each step")
    evaluated = held_out(data)
    if evaluated:
        ax.plot(
            [clock.at_ms(time_ms) for time_ms, _ in evaluated],
            [loss for _, loss in evaluated],
            "o--",
            color=VERMILION,
            ms=4 if len(evaluated) < 20 else 2.5,
            lw=1,
            label="held-out loss",
            clip_on=False,
        )
    legend_above(ax)
    ax.set_ylabel("loss (nats per token)")


def draw_energy(ax: Axes, data: RunData, clock: Clock) -> None:
    """Cumulative facility energy and the CO2e that it stands for: one curve with two scales. Where
    nothing was recorded it is broken, and goes on from what is known.
    """
    x, y = _cumulative_wh(data, clock)
    largest = float(np.nanmax(y))
    scale, unit = scaled(largest, "Wh")
    ax.plot(
        x,
        y * scale,
        color=GREEN,
        lw=1.4 * matplotlib.rcParams["lines.linewidth"],
        label=words.totals(data.estimate),
    )
    ax.fill_between(x, 0, y * scale, color=GREEN, alpha=0.12, lw=0)
    ax.set_ylabel(f"facility energy ({unit})")
    from_zero(ax)
    legend_above(ax)
    intensity = data.estimate.intensity_kg_per_kwh
    if intensity and largest > 0:
        g_per_wh = intensity * _G_PER_KG / _WH_PER_KWH
        co2_scale, co2_unit = scaled_mass(largest * g_per_wh)
        _second_scale(ax, g_per_wh * co2_scale / scale, f"emissions ({co2_unit})")


def events_to_mark(data: RunData) -> dict[str, list[int]]:
    """Times in ms of each kind of event, the kinds in order of first appearance."""
    kinds: dict[str, list[int]] = {}
    for event in data.events:
        if event.kind not in _UNMARKED:
            kinds.setdefault(event.kind, []).append(event.time_ms)
    return kinds


def draw_events(strip: Axes, panels: list[Axes], data: RunData, clock: Clock) -> None:
    """A line of marks for each kind; rare ones also as thin lines through the other panels."""
    kinds = events_to_mark(data)
    for row, times_ms in enumerate(kinds.values()):
        times = [clock.at_ms(time_ms) for time_ms in times_ms]
        strip.plot(times, [row] * len(times), "|", color=GREY, ms=6, mew=1, clip_on=False)
        for ax in panels if len(times) <= _FEW else ():
            for time in times:
                ax.axvline(time, color=GREY, lw=0.8, ls=(0, (1, 2)), zorder=0.5)
    strip.set_yticks(range(len(kinds)), list(kinds), fontsize="small")
    strip.tick_params(axis="y", length=0)
    strip.set_ylim(len(kinds) - 0.4, -0.6)
    strip.grid(False)
    strip.spines["left"].set_visible(False)


def _second_scale(ax: Axes, ratio: float, label: str) -> None:
    """The same curve read in another unit, on the right: exactly `ratio` times the left one."""
    scales: Any = (lambda value: value * ratio, lambda value: value / ratio)
    right = ax.secondary_yaxis("right", functions=scales)
    right.set_ylabel(label)
    right.spines["right"].set_visible(True)


def _band(data: RunData) -> tuple[Floats, Floats, Floats, Floats]:
    """Middle (s) of each window, lowest, mean and highest power of the devices; NaN where none is
    known. The mean also is NaN where one of them is missing, as it would be of other devices.
    """
    by_time = data.power.groupby("start")
    rows = pd.DataFrame(
        {
            "low": by_time["power_min_w"].min(),
            "mean": by_time["power_w"]
            .mean()
            .where(by_time["power_w"].count() == len(data.sensors)),
            "high": by_time["power_max_w"].max(),
        }
    )
    every = pd.date_range(rows.index[0], rows.index[-1], freq=f"{data.level_s}s")
    rows = rows.reindex(every)
    rows["time"] = elapsed_s(data.run, rows.index.to_series()) + data.level_s / 2
    time, low, mean, high = rows[["time", "low", "mean", "high"]].to_numpy(dtype=np.float64).T
    return time, low, mean, high


def _with_gaps(data: RunData, rows: pd.DataFrame) -> tuple[Floats, Floats]:
    """Middle (s) and mean power of each window; NaN where one is missing."""
    time = elapsed_s(data.run, rows["start"]).to_numpy(dtype=np.float64) + data.level_s / 2
    mean: Floats = rows["power_w"].to_numpy(dtype=np.float64)
    breaks = np.flatnonzero(np.diff(time) > 1.5 * data.level_s) + 1
    times = np.insert(time, breaks, time[breaks - 1] + data.level_s)
    return times, np.insert(mean, breaks, np.nan)


def _cumulative_wh(data: RunData, clock: Clock) -> tuple[Floats, Floats]:
    """Time axis and facility energy in Wh at the ends of windows; NaN in gaps."""
    energy_j = data.power.groupby("start")["energy_j"].sum(min_count=1).dropna()
    if energy_j.empty:
        return np.array([0.0, clock.end]), np.array([0.0, 0.0])
    begins = elapsed_s(data.run, energy_j.index.to_series()).to_numpy(dtype=np.float64)
    ends = np.minimum(begins + data.level_s, clock.end / clock.factor)
    total = np.cumsum(energy_j.to_numpy(dtype=np.float64))
    before = np.insert(total[:-1], 0, 0.0)
    starts = np.flatnonzero(np.insert(np.diff(begins) > 1.5 * data.level_s, 0, True))
    # Each stretch begins at the energy known before it, after a break from the one before.
    x = np.insert(ends, np.repeat(starts, 2), _pairs(np.maximum(begins[starts], 0.0)))
    y = np.insert(total, np.repeat(starts, 2), _pairs(before[starts], first=np.nan))
    return x * clock.factor, y * data.facility_factor / J_PER_KWH * _WH_PER_KWH


def _pairs(values: Floats, first: float | None = None) -> Floats:
    """Each value twice; or `first` before each."""
    return np.column_stack(
        [values if first is None else np.full_like(values, first), values]
    ).ravel()
