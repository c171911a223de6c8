"""Figures for papers and notebooks: each takes what was read of a run and gives a matplotlib
figure. `ONE` are those of a single run, `MANY` those that lay several over each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from matplotlib.figure import Figure

from dashboards.figures.breakdown import carbon_by_hour, devices, phases
from dashboards.figures.timeline import energy, overview, power
from dashboards.figures.training import compare, efficiency, loss

ONE: Mapping[str, Callable[..., Figure]] = {
    "overview": overview,
    "power": power,
    "energy": energy,
    "phases": phases,
    "devices": devices,
    "carbon-by-hour": carbon_by_hour,
}
MANY: Mapping[str, Callable[..., Figure]] = {
    "loss": loss,
    "efficiency": efficiency,
    "compare": compare,
}


def draw(kind: str, subjects: Any, *, style: str = "paper") -> Figure:
    """The figure of this kind. `subjects` are (RunData, Estimate), one or several as it takes.

    Raises CarbontrackError where the runs lack what the figure shows.
    """
    if kind in MANY:
        return MANY[kind](subjects, style=style)
    ((data, estimate),) = subjects
    return ONE[kind](data, estimate, style=style)


__all__ = [
    "MANY",
    "ONE",
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
