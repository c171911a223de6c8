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

from carbontrack.errors import CarbontrackError
from carbontrack.vocabulary import FigureKind
from dashboards import data, frames
from dashboards.data import RunData
from dashboards.figures import saving, score_cost, shares, timeline, training
from dashboards.figures.saving import AGAINST
from dashboards.style import Look

__all__ = [
    "AGAINST",
    "KINDS",
    "OPTIONS",
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

OPTIONS: Mapping[str, Sequence[str]] = {
    FigureKind.OVERVIEW: ("each", "smooth"),
    FigureKind.POWER: ("each",),
    FigureKind.LOSS: ("smooth", "log"),
    FigureKind.COMPARE: ("smooth", "log", "against", "group", "metric"),
}
"""What a kind takes besides the options of all."""

Drawable = str | RunData | pd.DataFrame


class OfOne(Protocol):
    """A figure of one run. `options` are those of `plot`: of ledger and factors, of the look
    (style, width, title), and the figure's own.
    """

    def __call__(self, run: Drawable = "last", **options: Any) -> Figure: ...


class OfSeveral(Protocol):
    """A figure of one run or several; `options` as of one."""

    def __call__(self, runs: Drawable | Sequence[Drawable] = "last", **options: Any) -> Figure: ...


def _of_one(kind: str, figure: Any) -> OfOne:
    @wraps(figure)
    def drawn(run: Drawable = "last", **options: Any) -> Figure:
        own, look = _own(kind, options)
        made: Figure = figure(_data(run, options), look, **own)
        return made

    return drawn


def _of_several(kind: str, figure: Any) -> OfSeveral:
    @wraps(figure)
    def drawn(runs: Drawable | Sequence[Drawable] = "last", **options: Any) -> Figure:
        own, look = _own(kind, options)
        each = [runs] if isinstance(runs, Drawable) else runs
        made: Figure = figure([_data(run, options) for run in each], look, **own)
        return made

    return drawn


def _own(kind: str, options: dict[str, Any]) -> tuple[dict[str, Any], Look]:
    """Take the figure's own options and its look out of all of them."""
    own = {name: options.pop(name) for name in OPTIONS.get(kind, ()) if name in options}
    look = {name: options.pop(name) for name in ("style", "width", "title") if name in options}
    return own, Look(**look)


def _data(run: Drawable, options: Mapping[str, Any]) -> RunData:
    if isinstance(run, str):
        return data.open_run(run, **options)
    return frames.of_frame(run) if isinstance(run, pd.DataFrame) else run


def _compare(
    runs: Sequence[RunData],
    look: Look,
    *,
    metric: str | None = None,
    against: str | None = None,
    log: str | None = None,
    **of_losses: Any,
) -> Figure:
    """What a loss took, or with `metric` (TASK or TASK/METRIC) a score in a benchmark: see
    `saving.compare` and `score_cost.compare_scores`.
    """
    if metric is None:
        return saving.compare(runs, look, against=against, log=log, **of_losses)
    if of_losses:
        raise CarbontrackError(f"--{next(iter(of_losses))} is for losses, not with --metric.")
    return score_cost.compare_scores(runs, look, metric, against=against, log=log)


overview = _of_one(FigureKind.OVERVIEW, timeline.overview)
power = _of_one(FigureKind.POWER, timeline.power)
energy = _of_one(FigureKind.ENERGY, timeline.energy)
devices = _of_one(FigureKind.DEVICES, timeline.devices)
phases = _of_one(FigureKind.PHASES, shares.phases)
carbon_by_hour = _of_one(FigureKind.CARBON_BY_HOUR, shares.carbon_by_hour)
loss = _of_several(FigureKind.LOSS, training.loss)
efficiency = _of_several(FigureKind.EFFICIENCY, training.efficiency)
compare = _of_several(FigureKind.COMPARE, _compare)

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
