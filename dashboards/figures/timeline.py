"""Figures of one run over time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dashboards.data import RunData, elapsed_s
from dashboards.figures import panels, words
from dashboards.figures.panels import Clock
from dashboards.style import nothing_to_draw, page

_OVERVIEW_WIDTH = 7.0
_STRIP_IN = 0.22  # height of a kind of event
_NAMED_DEVICES = 16


def overview(data: RunData, *, style: str = "paper") -> Figure:
    """Power, loss, and cumulative energy and CO2e of one run on one time axis, and its events."""
    draw = [panels.draw_power, panels.draw_energy]
    if data.steps["loss"].notna().any():
        draw.insert(1, panels.draw_loss)
    kinds = len(panels.events_to_mark(data))
    with page(style) as room:
        heights = [room.panel] * len(draw) + [_STRIP_IN * kinds] * bool(kinds)
        figure = Figure(
            figsize=(max(_OVERVIEW_WIDTH, room.width), 1.0 + sum(heights)), layout="constrained"
        )
        grid = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)
        axes: list[Axes] = list(grid[:, 0])
        clock = Clock.of(data)
        for panel, ax in zip(draw, axes, strict=False):
            panel(ax, data, clock)
        if kinds:
            panels.draw_events(axes[-1], axes[:-1], data, clock)
        clock.label(axes[-1])
        figure.align_ylabels(axes[: len(draw)])
        words.put(figure, room, words.title(data), words.footnote([data.estimate]))
    return figure


def power(data: RunData, *, style: str = "paper") -> Figure:
    """Power of each device, their mean, and the total."""
    return _single(data, style, panels.draw_power)


def energy(data: RunData, *, style: str = "paper") -> Figure:
    """Cumulative facility energy and CO2e."""
    return _single(data, style, panels.draw_energy)


def devices(data: RunData, *, style: str = "paper") -> Figure:
    """A map of power: a row for each device, so that one that differs is seen among many."""
    with page(style) as room:
        count = len(data.sensors)
        height = max(room.height, min(1.4 + 0.25 * count, 3 * room.height))
        figure = Figure(figsize=(room.width, height), layout="constrained")
        ax = figure.subplots()
        clock = Clock.of(data)
        ax.grid(False)
        if data.power.empty:
            nothing_to_draw(ax, "no power was recorded")
        else:
            _power_map(figure, ax, data, clock)
        clock.label(ax)
        if 0 < count <= _NAMED_DEVICES:
            ax.set_yticks(range(count), [_short(s.uuid) for s in data.sensors], fontsize="small")
        ax.set_ylabel("device")
        words.put(figure, room, words.title(data), words.footnote([data.estimate]))
    return figure


def _power_map(figure: Figure, ax: Axes, data: RunData, clock: Clock) -> None:
    starts = elapsed_s(data.run, data.power["start"]).to_numpy() // data.level_s
    column = (starts - starts.min()).astype(int)
    watts = np.full((len(data.sensors), column.max() + 1), np.nan)
    watts[data.power["device"].to_numpy(), column] = data.power["power_w"]
    left = starts.min() * data.level_s * clock.factor
    right = left + watts.shape[1] * data.level_s * clock.factor
    image = ax.imshow(
        watts,
        aspect="auto",
        interpolation="none",
        cmap="cividis",
        vmin=0,
        extent=(left, right, len(data.sensors) - 0.5, -0.5),
    )
    figure.colorbar(image, ax=ax, label="power (W); white: not known", pad=0.02)


def _single(data: RunData, style: str, draw: Callable[[Axes, RunData, Clock], None]) -> Figure:
    with page(style) as room:
        figure = Figure(figsize=(room.width, room.height), layout="constrained")
        ax = figure.subplots()
        clock = Clock.of(data)
        draw(ax, data, clock)
        clock.label(ax)
        words.put(figure, room, words.title(data), words.footnote([data.estimate]))
    return figure


def _short(uuid: str) -> str:
    return uuid if len(uuid) <= 14 else f"{uuid[:12]}…"
