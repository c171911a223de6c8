"""What a loss took: several runs against energy, CO2e or money, and what the better one saves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from carbontrack.account.loss import Arrival, arrival, lowest_common, smooth, width_of
from carbontrack.account.result import Estimate, unique
from carbontrack.errors import CarbontrackError
from carbontrack.report.numbers import digits_text
from carbontrack.units import G_PER_KG
from carbontrack.vocabulary import Against
from dashboards.data import (
    WH_PER_KWH,
    RunData,
    costs,
    emissions_g,
    facility_wh,
    intensity_varies,
)
from dashboards.figures import words
from dashboards.figures.panels import draw_losses, note_not_finite
from dashboards.figures.seeds import draw_groups, mark_groups
from dashboards.figures.training import finish, looks, need, scale_losses
from dashboards.style import (
    GREY,
    LABEL_LETTERS,
    Look,
    line,
    literal,
    page,
    scaled,
    scaled_mass,
    scaled_money,
    verdict,
)

AGAINST = tuple(Against)
_DEFAULT = (Against.ENERGY, Against.CARBON)
_SCALE = 3.6  # room of a scale with its label, of the type size
_NOTHING = 1e-9  # less than any run takes
_NO_SAVING = 0.0005
_MOST_TOLD = 4  # runs whose amounts are written out; of more the best's and the worst's

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Axis:
    """What the losses are drawn against: an amount of each run at each of its losses."""

    amounts: Sequence[Floats]
    name: str
    factor: float
    unit: str


def compare(
    runs: Sequence[RunData],
    look: Look,
    *,
    against: str | None = None,
    smooth: int | None = None,
    log: str | None = None,
    group: Sequence[str] | None = None,
) -> Figure:
    """Loss against facility energy, CO2e or money, one of `AGAINST`: what a better recipe saves.

    By default against energy and CO2e: on two scales of one panel where a kWh emits the same for
    all runs, else in two panels. Marked is the lowest loss that all runs reached, and by how much
    the best of them took less to get there than the worst, by means over so many steps that no
    single one decides; within the noise of the losses no run is called better. With `group`, the
    name of each run's group (its recipe, say), a curve is the mean of a group within ± 1 sd over
    its runs (its seeds), and within that spread no group is called better. Raises CarbontrackError
    for a run without losses, or without what it is to be drawn against.
    """
    need(runs, "loss")
    curves = [data.losses for data in runs]
    one_factor = len({data.estimate.intensity_kg_per_kwh for data in runs}) == 1
    one_factor = one_factor and not any(intensity_varies(data) for data in runs)
    shown = [against] if against else _DEFAULT[:1] if one_factor else _DEFAULT
    axes = [_AXES[name](runs, curves) for name in shown]
    with page(look) as room:
        two_scales = not against and len(axes) == 1
        below = _SCALE * room.points / 72 * two_scales
        figure = Figure(figsize=room.size(len(axes), below), layout="constrained")
        panels = figure.subplots(len(axes), 1, squeeze=False)[:, 0]
        for ax, axis in zip(panels, axes, strict=True):
            scaled_amounts = [x * axis.factor for x in axis.amounts]
            if group is not None:
                draw_groups(ax, scaled_amounts, curves, group)
            else:
                _draw_each(ax, scaled_amounts, curves, runs, smooth)
            scale_losses(ax, scaled_amounts, curves, log)
            ax.set_xlabel(f"{axis.name} ({axis.unit})")
            ax.set_ylabel("loss (nats per token)")
            if group is not None:
                mark_groups(ax, scaled_amounts, axis.unit, curves, group)
            else:
                _mark_saving(ax, axis, curves, runs)
        note_not_finite(panels[0], curves)
        if two_scales:
            _emissions_below(panels[0], axes[0], runs[0].estimate.intensity_kg_per_kwh)
        said = words.footnote([data.estimate for data in runs])
        finish(figure, room, look, runs, "What the loss took", said)
    return figure


def _draw_each(
    ax: Axes,
    amounts: Sequence[Floats],
    curves: Sequence[pd.DataFrame],
    runs: Sequence[RunData],
    smooth: int | None,
) -> None:
    for data, x, losses, how in zip(runs, amounts, curves, looks(), strict=False):
        draw_losses(ax, x, losses, smooth=smooth, label=literal(data.run.name), **how)


def _mark_saving(
    ax: Axes, axis: _Axis, curves: Sequence[pd.DataFrame], runs: Sequence[RunData]
) -> None:
    losses = [curve["loss"].tolist() for curve in curves]
    target = lowest_common(losses)
    if len(runs) < 2 or target is None:
        return
    arrivals = [arrival(one, target, width_of(len(one))) for one in losses]
    taken = [_amount(x, found.at) for x, found in zip(axis.amounts, arrivals, strict=True)]
    if not all(amount > _NOTHING for amount in taken):
        return
    worst, best = int(np.argmax(taken)), int(np.argmin(taken))
    mark = float(matplotlib.rcParams["lines.markersize"])
    right = taken[worst] * axis.factor
    ax.plot([0, right], [target, target], color=GREY, lw=line(0.7), ls=(0, (1, 2)), zorder=1)
    for amount, how in zip(taken, looks(), strict=False):
        ax.plot(amount * axis.factor, target, "o", color=how["color"], ms=1.3 * mark, zorder=5)
    named = [literal(data.run.name, LABEL_LETTERS) for data in runs]
    told = range(len(runs)) if len(runs) <= _MOST_TOLD else (best, worst)
    each_took = [f"{named[run]} {digits_text(taken[run] * axis.factor)}" for run in told]
    said = (
        f"to loss {target:.3g}, means over {_widths(curves)} steps:\n"
        f"{', '.join(each_took)}{' ×' * axis.unit.startswith('10')} {axis.unit}"
    )
    saving = 1 - taken[best] / taken[worst]
    if worst != best and saving >= _NO_SAVING:
        said += (
            f"\n{named[best]} takes {100 * saving:.1f} % less than {named[worst]}"
            if _is_clear(axis, losses, arrivals, best, worst)
            else "\nno difference beyond the noise of the losses"
        )
    verdict(ax, said)


def _amount(amounts: Floats, place: int | None) -> float:
    return float("nan") if place is None else float(amounts[place])


def _is_clear(
    axis: _Axis,
    losses: Sequence[Sequence[float]],
    arrivals: Sequence[Arrival],
    best: int,
    worst: int,
) -> bool:
    """Whether the best run is ahead whatever the noise of the losses did, and stays ahead as far
    as both went; of a run that has no mean by then it is.
    """
    latest, earliest = arrivals[best].latest, arrivals[worst].earliest
    if latest is None or earliest is None:
        return False
    common = min(float(axis.amounts[run][-1]) for run in (best, worst))

    def mean_then(run: int) -> float:
        within = int(np.searchsorted(axis.amounts[run], common, side="right"))
        return smooth(losses[run], width_of(len(losses[run])))[within - 1] if within else math.nan

    reached, other = mean_then(best), mean_then(worst)
    stays_ahead = reached <= other or (math.isnan(other) and not math.isnan(reached))
    return bool(axis.amounts[best][latest] < axis.amounts[worst][earliest] and stays_ahead)


def _widths(curves: Sequence[pd.DataFrame]) -> str:
    """Over how many steps the means are, of each run where they differ."""
    widths = {max(1, round(width_of(len(curve)) * curve["steps"].mean())) for curve in curves}
    return " or ".join(f"{width:,}" for width in sorted(widths))


def _emissions_below(ax: Axes, axis: _Axis, intensity_kg_per_kwh: float | None) -> None:
    """The same curves read in CO2e, on a second scale under the first."""
    largest_wh = max(float(np.nanmax(amounts)) for amounts in axis.amounts)
    if not intensity_kg_per_kwh or largest_wh <= 0:
        return
    g_per_wh = intensity_kg_per_kwh * G_PER_KG / WH_PER_KWH
    factor, unit = scaled_mass(largest_wh * g_per_wh)
    ratio = g_per_wh * factor / axis.factor
    scales: Any = (lambda value: value * ratio, lambda value: value / ratio)
    below = ax.secondary_xaxis("bottom", functions=scales)
    below.set_xlabel(f"emissions ({unit})")
    below.spines["bottom"].set_position(("outward", _SCALE * matplotlib.rcParams["font.size"]))


def need_amount(
    runs: Sequence[RunData], name: str, amount_of: Callable[[Estimate], float | None]
) -> None:
    """Raises CarbontrackError for a run that has no such amount: without energy or factors."""
    for data in runs:
        if amount_of(data.estimate) is not None:
            continue
        why = "no meter recorded it."
        if data.estimate.energy_kwh is not None:
            why = next(iter(data.estimate.notes[-1:]), "its factors are unknown.")
        raise CarbontrackError(f"Run {data.run.name} has no {name}, {why}")


def _energy(runs: Sequence[RunData], curves: Sequence[pd.DataFrame]) -> _Axis:
    need_amount(runs, "facility energy", lambda estimate: estimate.facility_kwh)
    amounts = [facility_wh(d, losses["time"]) for d, losses in zip(runs, curves, strict=True)]
    return _Axis(amounts, "facility energy", *scaled(_largest(amounts), "Wh"))


def _carbon(runs: Sequence[RunData], curves: Sequence[pd.DataFrame]) -> _Axis:
    need_amount(runs, "CO₂e", lambda estimate: estimate.tco2e)
    amounts = [emissions_g(d, losses["time"]) for d, losses in zip(runs, curves, strict=True)]
    return _Axis(amounts, "emissions", *scaled_mass(_largest(amounts)))


def one_currency(runs: Sequence[RunData]) -> str:
    """In which all costs are. Raises CarbontrackError for a run without a cost, or several."""
    currencies = unique(data.estimate.currency for data in runs)
    unpriced = [literal(data.run.name) for data in runs if data.estimate.cost is None]
    if unpriced or len(currencies) != 1 or currencies[0] is None:
        why = f"run {unpriced[0]} has no cost" if unpriced else f"costs in {currencies}"
        raise CarbontrackError(
            f"--against money: {why}.", hint="Give one --currency, and --tariff or a price."
        )
    return currencies[0]


def _money(runs: Sequence[RunData], curves: Sequence[pd.DataFrame]) -> _Axis:
    currency = one_currency(runs)
    amounts = [costs(d, losses["time"]) for d, losses in zip(runs, curves, strict=True)]
    return _Axis(amounts, "cost", *scaled_money(_largest(amounts), currency))


_AXES: Mapping[str, Any] = {
    Against.ENERGY: _energy,
    Against.CARBON: _carbon,
    Against.MONEY: _money,
}


def _largest(amounts: Sequence[Floats]) -> float:
    return max((float(np.nanmax(x)) for x in amounts if np.isfinite(x).any()), default=0.0)
