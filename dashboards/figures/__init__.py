"""Figures for papers and notebooks: each takes a run, or several, and gives a matplotlib figure.

    from dashboards import figures
    figures.overview("llama2-demo", zone="FRA")

A run is an id, a unique prefix of it, a name or `last`, with the options of `plot` (db, pue, zone,
…) beside it; the data of one that `dashboards.data` read; or a data frame, see
`dashboards.frames.of_frame`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import wraps
from typing import Any, Protocol

import pandas as pd
from matplotlib.figure import Figure

from carbontrack.vocabulary import FigureKind
from dashboards import data, frames
from dashboards.data import RunData
from dashboards.figures import saving, shares, timeline, training
from dashboards.figures.saving import AGAINST

__all__ = [
    "AGAINST",
    "KINDS",
    "SEVERAL",
    "carbon_by_hour",
    "compare",
    "devices",
    "draw",
    "efficiency",
    "energy",
    "loss",
    "overview",
    "phases",
    "power",
]

Drawable = str | RunData | pd.DataFrame


class OfOne(Protocol):
    """A figure of one run. `options` are those of `plot` that choose ledger and factors."""

    def __call__(
        self,
        run: Drawable = "last",
        *,
        style: str = "paper",
        width: float | None = None,
        **options: Any,
    ) -> Figure: ...


class OfSeveral(Protocol):
    """A figure of one run or several. `options` also has what is the figure's own."""

    def __call__(
        self,
        runs: Drawable | Sequence[Drawable] = "last",
        *,
        style: str = "paper",
        width: float | None = None,
        **options: Any,
    ) -> Figure: ...


def _of_one(figure: Any) -> OfOne:
    @wraps(figure)
    def drawn(
        run: Drawable = "last",
        *,
        style: str = "paper",
        width: float | None = None,
        **options: Any,
    ) -> Figure:
        made: Figure = figure(_data(run, options), style=style, width=width)
        return made

    return drawn


def _of_several(figure: Any, *own: str) -> OfSeveral:
    @wraps(figure)
    def drawn(
        runs: Drawable | Sequence[Drawable] = "last",
        *,
        style: str = "paper",
        width: float | None = None,
        **options: Any,
    ) -> Figure:
        mine = {name: options.pop(name) for name in own if name in options}
        each = [runs] if isinstance(runs, Drawable) else runs
        made: Figure = figure([_data(r, options) for r in each], style=style, width=width, **mine)
        return made

    return drawn


def _data(run: Drawable, options: Mapping[str, Any]) -> RunData:
    if isinstance(run, str):
        return data.open_run(run, **options)
    return frames.of_frame(run) if isinstance(run, pd.DataFrame) else run


overview = _of_one(timeline.overview)
power = _of_one(timeline.power)
energy = _of_one(timeline.energy)
devices = _of_one(timeline.devices)
phases = _of_one(shares.phases)
carbon_by_hour = _of_one(shares.carbon_by_hour)
loss = _of_several(training.loss)
efficiency = _of_several(training.efficiency)
compare = _of_several(saving.compare, "against")

ONE: Mapping[str, OfOne] = {
    FigureKind.OVERVIEW: overview,
    FigureKind.POWER: power,
    FigureKind.ENERGY: energy,
    FigureKind.PHASES: phases,
    FigureKind.DEVICES: devices,
    FigureKind.CARBON_BY_HOUR: carbon_by_hour,
}
SEVERAL: Mapping[str, OfSeveral] = {
    FigureKind.LOSS: loss,
    FigureKind.EFFICIENCY: efficiency,
    FigureKind.COMPARE: compare,
}
KINDS = (*ONE, *SEVERAL)


def draw(kind: str, runs: Sequence[Drawable], **options: Any) -> Figure:
    """The figure of a kind out of KINDS; those not in SEVERAL draw the first run."""
    return SEVERAL[kind](runs, **options) if kind in SEVERAL else ONE[kind](runs[0], **options)
