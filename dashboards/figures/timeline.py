"""Figures of one run over time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from carbontrack.errors import CarbontrackError
from dashboards.data import RunData, elapsed_s
from dashboards.figures import panels, words
from dashboards.figures.panels import Clock
from dashboards.style import Look, page

_STRIP = 2.2  # height of a kind of event, of the type size
_PANELS_SHARE = 0.8  # of a slide: the rest is title, legends and labels
_NAMED_DEVICES = 16

Draw = Callable[[Axes, RunData, Clock], None]


def overview(data: RunData, look: Look, *, each: bool = False, smooth: int | None = None) -> Figure:
    """Power, loss, and cumulative energy and CO2e of one run on one time axis, and its events; only
    what was recorded. Raises CarbontrackError for a run without power and losses.
    """
    draw = _panels(data, each, smooth)
    kinds = len(panels.events_to_mark(data))
    with page(look) as room:
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
        above = [rows[-2][0]] if room.fills and len(rows) > 1 else []
        for name in dict.fromkeys([*rows[-1], *above]):
            clock.label(axes[name])
            axes[name].tick_params(labelbottom=True)
        figure.align_ylabels([axes[row[0]] for row in rows if row[0] in draw])
        noted = words.footnote if "energy" in draw else words.unmeasured
        below = words.with_coarser(noted([data.estimate]), data)
        words.put(figure, room, look, words.title(data), below)
    return figure


def _panels(data: RunData, each: bool, smooth: int | None) -> dict[str, Draw]:
    """What there is to draw of a run, in order."""
    found: dict[str, Draw] = {}
    if data.has_power:
        found["power"] = partial(panels.draw_power, each=each)
    if data.has_losses:
        found["loss"] = partial(panels.draw_loss, smooth=smooth)
    if data.has_power:
        found["energy"] = panels.draw_energy
    if not found:
        raise CarbontrackError(
            f"Run {data.run.name} recorded neither power nor losses: there is nothing to draw.",
            hint="See: carbontrack doctor",
        )
    return found


def _down(names: list[str], kinds: int) -> list[Any]:
    """A column of a page: one under the other, the events below all."""
    return [[name] for name in names] + [["events"]] * bool(kinds)


def _across(names: list[str], kinds: int) -> list[Any]:
    """A slide: power across, with its events; the others side by side under it."""
    first, *others = names
    wide = max(1, len(others))
    across = [[first] * wide] + [["events"] * wide] * bool(kinds)
    return [*across, others] if others else across


def power(data: RunData, look: Look, *, each: bool = False) -> Figure:
    """Power of a device and the total; of several devices their mean and range, or with `each` a
    line for each.
    """
    draw = partial(panels.draw_power, each=each)
    return _single(data, look, draw, words.coverage([data.estimate]))


def energy(data: RunData, look: Look) -> Figure:
    """Cumulative facility energy and CO2e, and what they and the cost come to."""
    return _single(data, look, panels.draw_energy, words.footnote([data.estimate]))


def devices(data: RunData, look: Look) -> Figure:
    """A map of power: a row for each device, so that one that differs is seen among many."""
    _need_power(data)
    with page(look) as room:
        count = len(data.sensors)
        wide, height = room.size()
        if not room.fills:
            height = max(height, min(1.2 + 1.7 * room.points / 72 * count, 3 * height))
        figure = Figure(figsize=(wide, height), layout="constrained")
        ax = figure.subplots()
        clock = Clock.of(data)
        ax.grid(False)
        _power_map(figure, ax, data, clock)
        clock.label(ax)
        below = words.with_coarser(words.coverage([data.estimate]), data)
        words.put(figure, room, look, words.title(data), below)
        if count <= _NAMED_DEVICES:
            names = [words.device(data, index) for index in range(count)]
            ax.set_yticks(range(count), names, fontsize="small")
        else:
            ax.set_ylabel("device")
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


def _single(data: RunData, look: Look, draw: Draw, below: str) -> Figure:
    _need_power(data)
    with page(look) as room:
        figure = Figure(figsize=room.size(), layout="constrained")
        ax = figure.subplots()
        clock = Clock.of(data)
        draw(ax, data, clock)
        clock.label(ax)
        words.put(figure, room, look, words.title(data), words.with_coarser(below, data))
    return figure


def _need_power(data: RunData) -> None:
    if not data.has_power:
        raise CarbontrackError(
            f"Run {data.run.name} recorded no power: there is nothing to draw.",
            hint="See: carbontrack doctor",
        )
