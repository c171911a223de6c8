"""Figures of one run over time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dashboards.data import RunData, elapsed_s
from dashboards.figures import panels, words
from dashboards.figures.panels import Clock
from dashboards.style import nothing_to_draw, page

_STRIP = 2.2  # height of a kind of event, of the type size
_PANELS_SHARE = 0.8  # of a slide: the rest is title, legends and labels
_NAMED_DEVICES = 16


def overview(data: RunData, *, style: str = "paper", width: float | None = None) -> Figure:
    """Power, loss, and cumulative energy and CO2e of one run on one time axis, and its events."""
    draw = {"power": panels.draw_power, "loss": panels.draw_loss, "energy": panels.draw_energy}
    if not data.steps["loss"].notna().any():
        del draw["loss"]
    kinds = len(panels.events_to_mark(data))
    with page(style, width) as room:
        strip = _STRIP * room.points / 72 * kinds
        figure = Figure(figsize=room.size(len(draw), strip), layout="constrained")
        rows = _across(list(draw), kinds) if room.fills else _down(list(draw), kinds)
        panel = (_PANELS_SHARE * room.height - strip) / 2 if room.fills else room.panel
        heights = [strip if row[0] == "events" else panel for row in rows]
        axes = figure.subplot_mosaic(rows, sharex=True, height_ratios=heights)
        clock = Clock.of(data)
        for name, draw_panel in draw.items():
            draw_panel(axes[name], data, clock)
        over = [axes[name] for name in draw]
        if kinds:
            panels.draw_events(axes["events"], over, data, clock)
        for name in dict.fromkeys([*rows[-1], rows[-2][0] if room.fills else rows[-1][0]]):
            clock.label(axes[name])
            axes[name].tick_params(labelbottom=True)
        figure.align_ylabels([axes[row[0]] for row in rows if row[0] in draw])
        words.put(figure, room, words.title(data), words.footnote([data.estimate]))
    return figure


def _down(names: list[str], kinds: int) -> list[Any]:
    """A column of a page: one under the other, the events below all."""
    return [[name] for name in names] + [["events"]] * bool(kinds)


def _across(names: list[str], kinds: int) -> list[Any]:
    """A slide: power across, with its events; the others side by side under it."""
    first, *others = names
    across = [[first] * len(others)] + [["events"] * len(others)] * bool(kinds)
    return [*across, others]


def power(data: RunData, *, style: str = "paper", width: float | None = None) -> Figure:
    """Power of each device, their mean, and the total."""
    return _single(data, style, width, panels.draw_power)


def energy(data: RunData, *, style: str = "paper", width: float | None = None) -> Figure:
    """Cumulative facility energy and CO2e, and what they and the cost come to."""
    return _single(data, style, width, panels.draw_energy)


def devices(data: RunData, *, style: str = "paper", width: float | None = None) -> Figure:
    """A map of power: a row for each device, so that one that differs is seen among many."""
    with page(style, width) as room:
        count = len(data.sensors)
        wide, height = room.size()
        if not room.fills:
            height = max(height, min(1.2 + 1.7 * room.points / 72 * count, 3 * height))
        figure = Figure(figsize=(wide, height), layout="constrained")
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


def _single(
    data: RunData,
    style: str,
    width: float | None,
    draw: Callable[[Axes, RunData, Clock], None],
) -> Figure:
    with page(style, width) as room:
        figure = Figure(figsize=room.size(), layout="constrained")
        ax = figure.subplots()
        clock = Clock.of(data)
        draw(ax, data, clock)
        clock.label(ax)
        words.put(figure, room, words.title(data), words.footnote([data.estimate]))
    return figure


def _short(uuid: str) -> str:
    return uuid if len(uuid) <= 14 else f"{uuid[:12]}…"
