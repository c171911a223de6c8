"""Scores in benchmarks as points over what was trained until then, on a scale of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from carbontrack.account.result import unique
from carbontrack.account.scores import PER_CENT, Score, is_share, pick, scores_of
from carbontrack.units import MS_PER_S
from dashboards.data import RunData, elapsed_s
from dashboards.style import CYCLE, GREY, line, literal

_MARKERS = ("s", "^", "D", "v", "P", "X", "*", "h")


def draw_scores(
    ax: Axes,
    runs: Sequence[RunData],
    amounts: Sequence[pd.Series[float]],
    looks: Iterable[Mapping[str, Any]],
) -> bool:
    """The scores of the runs, each task by its first metric, in per cent on the right; a mark for
    each task, of one run also a colour. `amounts` are of each step, in the unit of the axis.
    Returns whether there are any.
    """
    found = [shares(data) for data in runs]
    tasks = unique(score.task for each in found for score in each)
    if not tasks:
        return False
    right = ax.twinx()
    right.spines["right"].set_visible(True)
    right.grid(False)
    right.set_ylabel("score (%)")
    right.set_gid("scores")
    for data, of_run, each, how in zip(runs, amounts, found, looks, strict=False):
        for number, task in enumerate(tasks):
            points = pick(each, task)
            color = how["color"] if len(runs) > 1 else CYCLE[(number + 2) % len(CYCLE)]
            at = [_amount(data, of_run, score) for score in points]
            draw_points(right, at, points, marker=_marker(number), color=color)
    for number, task in enumerate(tasks):
        chances = [score.chance for each in found for score in pick(each, task)]
        guessed = [f"{chance * PER_CENT:.3g} %" for chance in chances if chance is not None]
        said = literal(task) + (f" (chance {' or '.join(unique(guessed))})" if guessed else "")
        color = GREY if len(runs) > 1 else CYCLE[(number + 2) % len(CYCLE)]
        # In the legend of the losses, which is the first axes'.
        ax.plot([], [], ls="none", marker=_marker(number), color=color, label=said)
    low, high = right.get_ylim()
    right.set_ylim(max(0.0, low), min(PER_CENT, high))
    return True


def draw_points(ax: Axes, at: Sequence[float], points: Sequence[Score], **look: Any) -> None:
    """Scores in per cent with their standard errors, the next joined to the one before."""
    ax.errorbar(
        at,
        [score.score * PER_CENT for score in points],
        yerr=[(score.stderr or 0.0) * PER_CENT for score in points],
        ls=":",
        lw=line(0.7),
        elinewidth=line(0.7),
        capsize=line(2.0),
        ms=1.3 * float(matplotlib.rcParams["lines.markersize"]),
        zorder=4,
        clip_on=False,
        **look,
    )


def shares(data: RunData) -> list[Score]:
    """The run's scores that are shares of the questions."""
    return [score for score in scores_of(data.events) if is_share(score.metric)]


def _amount(data: RunData, amounts: pd.Series[float], score: Score) -> float:
    """Of the step that was asked; where it is unknown, of the time when it was logged."""
    if score.step is not None:
        return float(np.interp(score.step, data.steps["step"], amounts))
    times_ms = data.run.started_ms + elapsed_s(data.run, data.steps["time"]) * MS_PER_S
    return float(np.interp(score.time_ms, times_ms, amounts))


def _marker(number: int) -> str:
    return _MARKERS[number % len(_MARKERS)]
