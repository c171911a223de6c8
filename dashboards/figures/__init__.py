"""Figures for papers and notebooks: each takes the data of a run, or of several, and gives a
matplotlib figure.

    from dashboards import data, figures
    figures.overview(data.open_run("llama2-demo"))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from matplotlib.figure import Figure

from dashboards.data import RunData
from dashboards.figures.shares import carbon_by_hour, phases
from dashboards.figures.timeline import devices, energy, overview, power
from dashboards.figures.training import compare, efficiency, loss

__all__ = [
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

ONE: Mapping[str, Callable[..., Figure]] = {
    "overview": overview,
    "power": power,
    "energy": energy,
    "phases": phases,
    "devices": devices,
    "carbon-by-hour": carbon_by_hour,
}
SEVERAL: Mapping[str, Callable[..., Figure]] = {
    "loss": loss,
    "efficiency": efficiency,
    "compare": compare,
}
KINDS = (*ONE, *SEVERAL)


def draw(kind: str, runs: Sequence[RunData], *, style: str = "paper") -> Figure:
    """The figure of a kind out of KINDS; those not in SEVERAL draw the first run."""
    return SEVERAL[kind](runs, style=style) if kind in SEVERAL else ONE[kind](runs[0], style=style)
