"""The panels over time that figures are put together from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes

from carbontrack.units import G_PER_KG, J_PER_KWH, MS_PER_S
from carbontrack.vocabulary import EventKind
from dashboards.data import WH_PER_KWH, RunData, elapsed_s, held_out
from dashboards.figures import words
from dashboards.recorded import mean_of, recorded_in
from dashboards.style import (
    BLACK,
    BLUE,
    DEVICES,
    GREEN,
    GREY,
    LABEL_LETTERS,
    SKY,
    VERMILION,
    from_zero,
    leave_out_highest,
    legend_above,
    line,
    literal,
    note,
    scaled,
    scaled_mass,
    time_unit,
)

Floats = npt.NDArray[np.float64]

_NEARLY_ALWAYS = 0.95  # of the windows in which any device was recorded
_FEW = 6  # events of a kind that get a line through all panels; more would cover the data
_UNMARKED = (EventKind.EVAL, EventKind.PHASE)  # they have their own panels and figures


@dataclass(frozen=True, slots=True)
class Clock:
    """The time axis of all panels: since the run's start, in a unit that suits its length."""

    started_ms: int
    end: float
    factor: float
    unit: str

    @classmethod
    def of(cls, data: RunData) -> Clock:
        length_s = max(data.run.duration_s, 1e-3)
        factor, unit = time_unit(length_s)
        return cls(data.run.started_ms, length_s * factor, factor, unit)

    def at_ms(self, time_ms: float) -> float:
        return (time_ms - self.started_ms) / MS_PER_S * self.factor

    def label(self, ax: Axes) -> None:
        ax.set_xlim(0, self.end)
        ax.set_xlabel(f"time since start ({self.unit})")


def draw_power(ax: Axes, data: RunData, clock: Clock, *, each: bool = False) -> None:
    """Power of a device between its extremes. Of several their mean between the lowest and the
    highest device, or with `each` a line for each; and the total as a second scale of the mean,
    which is the mean times their number, where that does not change.
    """
    band = _band(data)
    scale, unit = scaled(float(np.nanmax(band.high)), "W")
    x = band.time * clock.factor
    each, several = each and len(data.sensors) > 1, band.most > 1
    if each:
        _draw_each(ax, data, clock, scale)
    else:
        between = "lowest to highest device" if several else "min–max"
        low, high = band.low * scale, band.high * scale
        ax.fill_between(x, low, high, color=SKY, alpha=0.3, lw=0, label=between)
    steady = band.fewest == band.most
    number = f"{band.most}" if steady else f"{band.fewest} to {band.most}"
    ax.plot(
        x,
        band.mean * scale,
        color=BLACK if each else BLUE,
        lw=line(1.2),
        label=f"mean of {number} devices" if several else "mean",
    )
    ax.set_ylabel(f"power of a device ({unit})" if several else f"power ({unit})")
    from_zero(ax)
    if several and steady:
        top = ax.get_ylim()[1] / scale * band.most
        total_scale, total_unit = scaled(top, "W")
        _second_scale(ax, band.most * total_scale / scale, f"total ({total_unit})")
    legend_above(ax)


def _draw_each(ax: Axes, data: RunData, clock: Clock, scale: float) -> None:
    """As many devices as there are colours have one and a name each; of more, only the spread can
    be seen.
    """
    few = len(data.sensors) <= len(DEVICES)
    for number, rows in data.power.groupby("device", sort=True):
        index = int(str(number))
        time, mean = _with_gaps(data, rows)
        ax.plot(
            time * clock.factor,
            mean * scale,
            color=DEVICES[index] if few else BLUE,
            lw=line(0.5),
            alpha=1.0 if few else 0.4,
            label=words.device(data, index) if few else "_" * index + "each device",
        )


def draw_loss(ax: Axes, data: RunData, clock: Clock, *, smooth: int | None = None) -> None:
    """Training loss of every step, or where there are more than can be seen the mean of some in a
    row between their extremes; and held-out losses from `eval` events.
    """
    losses = data.losses
    time = elapsed_s(data.run, losses["time"]) * clock.factor
    draw_losses(
        ax, time, losses, smooth=smooth, color=BLUE, label=words.loss_of(losses, smooth=smooth)
    )
    evaluated = held_out(data)
    draw_held_out(
        ax,
        [clock.at_ms(time_ms) for time_ms, _ in evaluated],
        [loss for _, loss in evaluated],
        color=VERMILION,
        linestyle="--",
        label="held-out loss",
    )
    leave_out_highest(ax, losses["loss_max"])
    note_not_finite(ax, [losses])
    legend_above(ax)
    ax.set_ylabel("loss (nats per token)")


def draw_losses(
    ax: Axes, x: Any, losses: pd.DataFrame, *, smooth: int | None = None, **look: Any
) -> None:
    """A curve of losses, and a band where its points are several steps; with `smooth` the trailing
    mean over so many steps, the losses themselves pale behind it.
    """
    color = look["color"]
    if smooth is not None:
        ax.plot(x, losses["loss"], lw=line(0.6), color=color, alpha=0.25)
        ax.plot(x, smoothed(losses, smooth), lw=line(1.1), **look)
        return
    if (losses["steps"] > 1).any():
        ax.fill_between(x, losses["loss_min"], losses["loss_max"], color=color, alpha=0.25, lw=0)
    ax.plot(x, losses["loss"], lw=line(0.8), **look)


def smoothed(losses: pd.DataFrame, steps: int) -> pd.Series[float]:
    """Trailing means over `steps` steps, or as many as there are; each row weighs as its steps."""
    rows = max(1, round(steps / losses["steps"].median()))
    known = losses["steps"].where(losses["loss"].notna(), 0)
    sums = (losses["loss"].fillna(0) * known).rolling(rows, min_periods=1).sum()
    means = sums / known.rolling(rows, min_periods=1).sum()
    return means.where(losses["loss"].notna())


def draw_held_out(ax: Axes, x: Sequence[float], losses: Sequence[float], **look: Any) -> None:
    """Held-out losses as points, the next joined to the one before."""
    if losses:
        size = (1.0 if len(losses) < 20 else 0.6) * _mark()
        ax.plot(x, losses, marker="o", ms=size, lw=line(0.8), **look)


def note_not_finite(ax: Axes, frames: Sequence[pd.DataFrame]) -> None:
    """How many losses are not numbers: they are gaps in the curves."""
    count = sum(int(losses["not_finite"].sum()) for losses in frames)
    if count:
        many = "losses are" if count > 1 else "loss is"
        note(ax, f"{count} {many} not finite (NaN or ∞)")


def draw_energy(ax: Axes, data: RunData, clock: Clock) -> None:
    """Cumulative facility energy and the CO2e that it stands for: one curve with two scales. Where
    nothing was recorded it is broken, and goes on from what is known. The end is given in numbers,
    with the cost.
    """
    x, y = _cumulative_wh(data, clock)
    largest = float(np.nanmax(y))
    scale, unit = scaled(largest, "Wh")
    ax.plot(x, y * scale, color=GREEN, lw=line(1.6))
    ax.fill_between(x, 0, y * scale, color=GREEN, alpha=0.12, lw=0)
    if largest > 0:
        ax.plot(x[-1:], y[-1:] * scale, "o", color=GREEN, ms=_mark(), clip_on=False, zorder=4)
    ax.set_ylabel(f"{words.energy_name(data.estimate)} ({unit})")
    from_zero(ax)
    ax.text(
        0.02,
        0.95,
        "\n".join(words.totals(data.estimate)),
        transform=ax.transAxes,
        va="top",
        fontsize=matplotlib.rcParams["legend.fontsize"],
        linespacing=1.35,
        bbox={"facecolor": "white", "alpha": 0.8, "lw": 0, "pad": 1},
    )
    intensity = data.estimate.intensity_kg_per_kwh
    if intensity and largest > 0:
        g_per_wh = intensity * G_PER_KG / WH_PER_KWH
        co2_scale, co2_unit = scaled_mass(largest * g_per_wh)
        _second_scale(ax, g_per_wh * co2_scale / scale, f"emissions ({co2_unit})")


def _mark() -> float:
    return float(matplotlib.rcParams["lines.markersize"])


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
        strip.plot(times, [row] * len(times), "|", color=GREY, ms=2 * _mark(), mew=line(0.9))
        for ax in panels if len(times) <= _FEW else ():
            for time in times:
                ax.axvline(time, color=GREY, lw=line(0.7), ls=(0, (1, 2)), zorder=0.5)
    names = [literal(kind, LABEL_LETTERS) for kind in kinds]
    strip.set_yticks(range(len(kinds)), names, fontsize="small")
    strip.tick_params(axis="y", length=0)
    strip.set_ylim(len(kinds) - 0.4, -0.6)
    strip.grid(False)
    strip.spines["left"].set_visible(False)
    strip.set_gid("events")


def _second_scale(ax: Axes, ratio: float, label: str) -> None:
    """The same curve read in another unit, on the right: exactly `ratio` times the left one."""
    scales: Any = (lambda value: value * ratio, lambda value: value / ratio)
    right = ax.secondary_yaxis("right", functions=scales)
    right.set_ylabel(label)
    right.spines["right"].set_visible(True)


@dataclass(frozen=True, slots=True)
class _Band:
    """Power of the devices in each window: of one the extremes within the window, of several those
    of their means, for one spike would be all that is seen. NaN where none is known; the mean also
    where one that was recorded is missing, as it would be of others.
    """

    time: Floats  # the middle, in seconds
    low: Floats
    mean: Floats
    high: Floats
    fewest: int  # devices that were recorded at a time
    most: int


def _band(data: RunData) -> _Band:
    starts = data.power["start"]
    every = pd.date_range(starts.min(), starts.max(), freq=f"{data.level_s}s")
    starts_ms = ((every - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(1, "ms")).to_numpy()
    recorded = recorded_in(data.run, data.sensors, starts_ms, data.level_s)
    counts = recorded.sum(axis=0)
    fewest, most = _at_a_time(counts)
    of_window = data.power.groupby(["device", "start"])

    def of_devices(name: str) -> Floats:
        table = of_window[name].mean().unstack("device")
        table = table.reindex(index=every, columns=range(len(data.sensors)))
        found: Floats = table.to_numpy(dtype=np.float64).T
        return found

    low, high = ("power_w", "power_w") if most > 1 else ("power_min_w", "power_max_w")
    mean = mean_of(of_devices("power_w"), recorded)
    time: Floats = (starts_ms - data.run.started_ms) / MS_PER_S + data.level_s / 2
    return _Band(
        time=time,
        low=np.fmin.reduce(of_devices(low)),
        mean=np.where((counts >= fewest) & (counts <= most), mean, np.nan),
        high=np.fmax.reduce(of_devices(high)),
        fewest=fewest,
        most=most,
    )


def _at_a_time(counts: npt.NDArray[np.int64]) -> tuple[int, int]:
    """The fewest and the most devices that were recorded at a time; one number if it is that nearly
    always, for nodes begin and end some seconds apart.
    """
    some = counts[counts > 0]
    if not some.size:
        return 0, 0
    usual = int(np.bincount(some).argmax())
    if (some == usual).mean() >= _NEARLY_ALWAYS:
        return usual, usual
    return int(some.min()), int(some.max())


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
    return x * clock.factor, y * data.facility_factor / J_PER_KWH * WH_PER_KWH


def _pairs(values: Floats, first: float | None = None) -> Floats:
    """Each value twice; or `first` before each."""
    return np.column_stack(
        [values if first is None else np.full_like(values, first), values]
    ).ravel()
