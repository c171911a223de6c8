"""What a score in a benchmark took: runs beside published models, against CO2e, energy or money."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from carbontrack.account.result import Estimate, unique
from carbontrack.account.scores import PER_CENT, PublishedScore, Score, is_share, need, published_of
from carbontrack.account.scores import scores_of as all_scores
from carbontrack.errors import CarbontrackError
from carbontrack.units import G_PER_KG, KG_PER_T
from carbontrack.vocabulary import Against, LogAxes
from dashboards.data import RunData, costs, emissions_g, facility_wh
from dashboards.figures import words
from dashboards.figures.saving import need_amount, one_currency
from dashboards.figures.score_points import draw_points
from dashboards.figures.training import looks
from dashboards.style import (
    BLACK,
    GREY,
    Look,
    legend_above,
    line,
    literal,
    log_axis,
    page,
    scaled,
    scaled_mass,
    scaled_money,
)

_G_PER_T = KG_PER_T * G_PER_KG
_FAMILY_MARKS = ("o", "s", "^", "D", "v", "P")
_ROOM = 1.2  # on each side of a logarithmic axis
_MANY = 1000  # points, from which decimals are none
_LINE = 1.35  # of the legend, of the type size


@dataclass(frozen=True, slots=True)
class _Amount:
    """What the scores are drawn against, in a small unit: of a run at times, and per kWh, t, …"""

    name: str
    of_run: Callable[[RunData, pd.Series[pd.Timestamp]], Iterable[float]]
    whole: Callable[[Estimate], float | None]
    per: str
    scale: Callable[[float, str], tuple[float, str]]  # of the largest, and the currency


def compare_scores(
    runs: Sequence[RunData], look: Look, metric: str, *, against: str | None, log: str | None
) -> Figure:
    """A benchmark's scores against what the runs had spent when they were logged; against CO2e, the
    default, published models stand beside them, on a logarithmic axis. Raises CarbontrackError for
    a run without such a score, one that is no share, or without the amount.
    """
    axis = _AMOUNTS[against or Against.CARBON]
    currency = one_currency(runs) if against == Against.MONEY else ""
    need_amount(runs, axis.name, axis.whole)
    found = [need(all_scores(data.events), metric, data.run.name) for data in runs]
    if not all(is_share(score.metric) for each in found for score in each):
        raise CarbontrackError(f"{metric!r} is no share of questions.", hint="Give another metric.")
    amounts = [_amounts(axis, data, each) for data, each in zip(runs, found, strict=True)]
    known = published_of(metric) if axis is _AMOUNTS[Against.CARBON] else []
    known = [row for row in known if row.tco2e]
    largest = max([x for each in amounts for x in each] + [_grams(row) for row in known])
    factor, unit = axis.scale(largest, currency)
    with page(look) as room:
        lines = len(runs) + len({_family(row.model) for row in known}) + 1
        figure = Figure(
            figsize=room.size(1, _LINE * lines * room.points / 72), layout="constrained"
        )
        ax = figure.subplots()
        _draw_published(ax, known, factor)
        for data, each, x, how in zip(runs, found, amounts, looks(), strict=False):
            said = f"{literal(data.run.name)}{_points_per(axis, data.estimate, each[-1])}"
            at = [amount * factor for amount in x]
            draw_points(ax, at, each, marker="o", color=how["color"], label=said)
        _draw_chance(ax, found)
        log_axis(ax, log or (LogAxes.X if known else LogAxes.NEITHER))
        if ax.get_xscale() == "log":
            low, high = ax.get_xlim()
            ax.set_xlim(low / _ROOM, high * _ROOM)
        else:
            ax.set_xlim(left=0)
        ax.set_xlabel(f"{axis.name} ({unit})")
        ax.set_ylabel(f"{literal(_title(found))} (%)")
        legend_above(ax, columns=1)
        below = [words.footnote([data.estimate for data in runs])]
        below += [f"published: {', '.join(unique(row.report for row in known))}"] if known else []
        heading = words.title_of(runs, f"What a score in {literal(found[0][0].task)} took")
        words.put(figure, room, look, heading, "\n".join(filter(None, below)))
    return figure


def _draw_published(ax: Axes, known: Sequence[PublishedScore], factor: float) -> None:
    """A line for each family of models, small to large; a bar where reports print different
    figures of one model.
    """
    families: dict[str, dict[str, list[PublishedScore]]] = {}
    for row in known:
        families.setdefault(_family(row.model), {}).setdefault(row.model, []).append(row)
    mark = float(matplotlib.rcParams["lines.markersize"])
    for number, (family, models) in enumerate(families.items()):
        ordered = sorted(models.values(), key=_first_grams)
        x = [_first_grams(rows) * factor for rows in ordered]
        y = [rows[0].score * PER_CENT for rows in ordered]
        sizes = [re.sub(f"{re.escape(family)}[ -]?", "", rows[0].model) for rows in ordered]
        ax.plot(
            x,
            y,
            color=GREY,
            marker=_FAMILY_MARKS[number % len(_FAMILY_MARKS)],
            mfc="white",
            ms=mark,
            lw=line(0.6),
            label=f"{family} {', '.join(sizes)}, published{_accounting(ordered)}",
        )
        for at, rows in zip(x, ordered, strict=True):
            printed = [row.score * PER_CENT for row in rows]
            ax.vlines(at, min(printed), max(printed), color=BLACK, lw=line(0.8))


def _accounting(models: Sequence[Sequence[PublishedScore]]) -> str:
    unusual = unique(rows[0].accounting for rows in models)
    return f" ({'; '.join(unusual)})" if unusual else ""


def _family(model: str) -> str:
    """`Llama 2` of `Llama 2 7B`, `LLaMA` of `LLaMA-7B`."""
    return re.sub(r"[ -]?\d+(\.\d+)?B\b.*", "", model)


def _draw_chance(ax: Axes, found: Sequence[Sequence[Score]]) -> None:
    chances = {score.chance for each in found for score in each if score.chance is not None}
    for chance in chances:
        at = chance * PER_CENT
        ax.axhline(at, color=GREY, lw=line(0.7), ls=(0, (1, 2)), zorder=1, label="chance")


def _points_per(axis: _Amount, estimate: Estimate, score: Score) -> str:
    whole = axis.whole(estimate)
    if not whole:
        return ""
    points = score.score * PER_CENT / whole
    said = f"{points:,.0f}" if points >= _MANY else f"{points:.3g}"
    return f", {said} points per {axis.per or estimate.currency}"


def _amounts(axis: _Amount, data: RunData, found: Sequence[Score]) -> list[float]:
    times = pd.Series(pd.to_datetime([score.time_ms for score in found], unit="ms", utc=True))
    amounts = [float(amount) for amount in axis.of_run(data, times)]
    if not all(amount > 0 for amount in amounts):
        raise CarbontrackError(
            f"The {axis.name} of run {data.run.name} until its score is unknown.",
            hint="Take --against energy.",
        )
    return amounts


def _title(found: Sequence[Sequence[Score]]) -> str:
    return f"{found[0][0].task}, {found[0][0].metric}"


def _first_grams(rows: Sequence[PublishedScore]) -> float:
    return _grams(rows[0])


def _grams(row: PublishedScore) -> float:
    return (row.tco2e or 0.0) * _G_PER_T


_AMOUNTS: Mapping[str, _Amount] = {
    Against.ENERGY: _Amount(
        "facility energy",
        facility_wh,
        lambda estimate: estimate.facility_kwh,
        "kWh",
        lambda largest, _: scaled(largest, "Wh"),
    ),
    Against.CARBON: _Amount(
        "emissions",
        emissions_g,
        lambda estimate: estimate.tco2e,
        "tCO₂e",
        lambda largest, _: scaled_mass(largest),
    ),
    Against.MONEY: _Amount("cost", costs, lambda estimate: estimate.cost, "", scaled_money),
}
