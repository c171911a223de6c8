"""Groups of runs over each other: the mean loss of each and its spread over the seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes

from carbontrack.account.loss import arrival, lowest_common, smooth, width_of
from carbontrack.account.spread import Spread, apart, spread_of
from carbontrack.report.numbers import counted, digits_text
from dashboards.figures.training import looks
from dashboards.style import GREY, LABEL_LETTERS, line, literal, verdict

_POINTS = 1200

Floats = npt.NDArray[np.float64]


def members_of(groups: Sequence[str]) -> Mapping[str, list[int]]:
    """The places of each group's runs, the groups in order of first appearance."""
    found: dict[str, list[int]] = {}
    for place, group in enumerate(groups):
        found.setdefault(group, []).append(place)
    return found


def draw_groups(
    ax: Axes, amounts: Sequence[Floats], curves: Sequence[pd.DataFrame], groups: Sequence[str]
) -> None:
    """The mean of each group's losses, as means over steps, within ± 1 sd over its runs; as far as
    all of its runs went.
    """
    for (group, members), how in zip(members_of(groups).items(), looks(), strict=False):
        x, rows = _on_one_axis([amounts[m] for m in members], [curves[m] for m in members])
        mean = rows.mean(axis=0)
        if len(members) > 1:
            sd = rows.std(axis=0, ddof=1)
            ax.fill_between(x, mean - sd, mean + sd, color=how["color"], alpha=0.25, lw=0)
        label = f"{literal(group)} ({counted(len(members), 'run')})"
        ax.plot(x, mean, lw=line(1), label=label, **how)


def _on_one_axis(
    amounts: Sequence[Floats], curves: Sequence[pd.DataFrame]
) -> tuple[Floats, Floats]:
    """Common amounts, and the smoothed loss of each run at them."""
    smoothed = []
    for x, losses in zip(amounts, curves, strict=True):
        values = losses["loss"].tolist()
        mean = np.array(smooth(values, width_of(len(values))))
        known = np.isfinite(mean) & np.isfinite(x)
        smoothed.append((x[known], mean[known]))
    first, last = max(x[0] for x, _ in smoothed), min(x[-1] for x, _ in smoothed)
    # The runs' own points: evenly spaced ones would leave the start of a logarithmic axis bare.
    at = np.unique(np.concatenate([x for x, _ in smoothed]))
    at = at[(at >= first) & (at <= last)]
    at = at[np.linspace(0, len(at) - 1, min(len(at), _POINTS)).astype(int)]
    return at, np.array([np.interp(at, x, mean) for x, mean in smoothed])


def mark_groups(
    ax: Axes,
    amounts: Sequence[Floats],
    unit: str,
    curves: Sequence[pd.DataFrame],
    groups: Sequence[str],
) -> None:
    """What each group took to the lowest loss that all runs reached, mean ± sd over its runs, and
    whether the best is ahead of the worst beyond that.
    """
    losses = [curve["loss"].tolist() for curve in curves]
    target = lowest_common(losses)
    places = [
        None if target is None else arrival(one, target, width_of(len(one))).at for one in losses
    ]
    members = members_of(groups)
    if target is None or None in places or len(members) < 2:
        return
    taken = [float(x[place or 0]) for x, place in zip(amounts, places, strict=True)]
    spreads = {
        name: spread
        for name, runs in members.items()
        if (spread := spread_of([taken[m] for m in runs]))
    }
    mark = float(matplotlib.rcParams["lines.markersize"])
    for spread, how in zip(spreads.values(), looks(), strict=False):
        point: Any = {"fmt": "o", "color": how["color"], "ms": 1.3 * mark, "zorder": 5}
        ax.errorbar(spread.mean, target, xerr=spread.sd, capsize=mark, **point)
    ax.axhline(target, color=GREY, lw=line(0.7), ls=(0, (1, 2)), zorder=1)
    best = min(spreads, key=lambda name: spreads[name].mean)
    worst = max(spreads, key=lambda name: spreads[name].mean)
    said = [f"to loss {target:.3g}, mean ± sd ({unit}):"]
    said += [f"{literal(name, LABEL_LETTERS)} {_text(spread)}" for name, spread in spreads.items()]
    is_ahead = apart(spreads[best], spreads[worst])
    if is_ahead:
        saving = 1 - spreads[best].mean / spreads[worst].mean
        said.append(
            f"{literal(best, LABEL_LETTERS)} takes {100 * saving:.1f} % less than "
            f"{literal(worst, LABEL_LETTERS)}"
        )
    elif is_ahead is None:
        said.append("no verdict: a single run has no spread")
    else:
        said.append("no difference beyond the spread")
    verdict(ax, "\n".join(said))


def _text(spread: Spread) -> str:
    if spread.sd is None:
        return digits_text(spread.mean)
    return f"{digits_text(spread.mean)} ± {digits_text(spread.sd, 2)}"
