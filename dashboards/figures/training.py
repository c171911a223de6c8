"""Several runs over each other: how they learnt, and how efficiently."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from carbontrack.errors import CarbontrackError
from carbontrack.units import MS_PER_S
from carbontrack.vocabulary import LogAxes
from dashboards.data import RunData, elapsed_s, energies_j, held_out
from dashboards.figures import words
from dashboards.figures.panels import draw_held_out, draw_losses, note_not_finite
from dashboards.figures.score_points import draw_scores
from dashboards.style import (
    CYCLE,
    DASHES,
    VERMILION,
    Look,
    Page,
    leave_out_highest,
    legend_above,
    line,
    literal,
    log_axis,
    page,
    scaled,
)

_BLOCKS = 60  # that a curve of efficiency is averaged over: single steps are noise
_TOKENS = {
    "": "tokens",
    "m": "millitokens",
    "k": "10³ tokens",
    "M": "10⁶ tokens",
    "G": "10⁹ tokens",
}
_PAUSE = 2.0  # a block that takes so many times as much as the usual one
_HELD_OUT = "held out"
_FALL, _OF_AXIS = 0.9, 0.1  # so much of the fall in so much of the axis is an L
_MANY_LOSSES = 100
_MOST_DECADES = 1e5
_EXPLODED = 1.5  # times what the loss began with
_AMOUNTS = {"": "", "k": " (thousands)", "M": " (millions)", "G": " (billions)"}


def loss(
    runs: Sequence[RunData], look: Look, *, smooth: int | None = None, log: str | None = None
) -> Figure:
    """Training loss over tokens, as in Figure 5 of the Llama 2 report, with the held-out losses and
    on a scale of their own the scores in benchmarks; over steps where a job has no token counts.
    `log` axes: by default of tokens, where the loss did nearly all of its fall in the first of
    them. Raises CarbontrackError for a run without losses.
    """
    need(runs, "loss")
    has_tokens = all(data.steps["tokens"].notna().any() for data in runs)
    amounts = [
        data.steps["tokens"].fillna(0).cumsum() if has_tokens else data.steps["step"]
        for data in runs
    ]
    factor, prefix = scaled(max(float(x.max()) for x in amounts), "")
    curves = [data.losses for data in runs]
    at_losses = [x[one.index].to_numpy() * factor for x, one in zip(amounts, curves, strict=True)]
    with page(look) as room:
        figure = Figure(figsize=room.size(), layout="constrained")
        ax = figure.subplots()
        for data, x, losses, how in zip(runs, at_losses, curves, looks(), strict=False):
            one = "training loss" if smooth is None else words.loss_of(losses, smooth=smooth)
            name = literal(data.run.name) if len(runs) > 1 else one
            draw_losses(ax, x, losses, smooth=smooth, label=name, **how)
        for data, amount, how in zip(runs, amounts, looks(), strict=False):
            _draw_held_out(ax, data, amount * factor, how, of_one=len(runs) == 1)
        scored = draw_scores(ax, runs, [amount * factor for amount in amounts], looks())
        scale_losses(ax, at_losses, curves, log)
        note_not_finite(ax, curves)
        ax.set_xlabel(("tokens" if has_tokens else "steps") + _AMOUNTS[prefix])
        ax.set_ylabel("loss (nats per token)")
        below = words.unmeasured([data.estimate for data in runs])
        words.put(figure, room, look, words.names_of(runs, "Training loss"), below)
        if len(ax.get_legend_handles_labels()[1]) > 1 or smooth is not None:
            legend_above(ax, **({"columns": 2} if scored else {}))
    return figure


def _draw_held_out(
    ax: Axes, data: RunData, amounts: pd.Series[float], how: Mapping[str, Any], *, of_one: bool
) -> None:
    """The held-out losses, each at the amount that was trained until then."""
    found = held_out(data)
    if not found:
        return
    times_ms = data.run.started_ms + elapsed_s(data.run, data.steps["time"]) * MS_PER_S
    at = np.interp([time_ms for time_ms, _ in found], times_ms, amounts)
    look: dict[str, Any] = {"color": VERMILION, "ls": "--", "label": "held-out loss"}
    if not of_one:
        look = {"color": how["color"], "ls": "none", "mfc": "white"}
        if not any(line.get_label() == _HELD_OUT for line in ax.get_lines()):
            look["label"] = _HELD_OUT
    draw_held_out(ax, at.tolist(), [value for _, value in found], **look)


def scale_losses(
    ax: Axes, amounts: Sequence[Any], curves: Sequence[pd.DataFrame], log: str | None
) -> None:
    """The axes of losses over an amount (as it is drawn): from zero or logarithmic, and without the
    few losses that would press all others to the ground.
    """
    if log is None:
        is_l = any(_is_an_l(x, losses) for x, losses in zip(amounts, curves, strict=True))
        log = LogAxes.X if is_l else LogAxes.NEITHER
    log_axis(ax, log)
    if log in (LogAxes.X, LogAxes.BOTH):
        last = max(float(np.nanmax(x)) for x in amounts)
        first = min(float(np.min(x[x > 0], initial=last)) for x in amounts)
        ax.set_xlim(max(first, last / _MOST_DECADES), last * 1.05)
    else:
        ax.set_xlim(left=0)
    most = None
    if log != LogAxes.NEITHER:  # the first steps have room; more than they had is an explosion
        most = _EXPLODED * max(float(losses["loss"].dropna().iloc[0]) for losses in curves)
    leave_out_highest(ax, pd.concat([losses["loss_max"] for losses in curves]), above=most)


def _is_an_l(amounts: Any, losses: pd.DataFrame) -> bool:
    """Whether a loss did most of its fall in so little of the axis that it looks like an L."""
    known = losses["loss"].notna().to_numpy()
    values, at = losses["loss"].to_numpy()[known], np.asarray(amounts)[known]
    if values.size < _MANY_LOSSES:
        return False
    last = float(np.median(values[-values.size // 20 :]))
    fallen = values <= values[0] - _FALL * (values[0] - last)
    return values[0] > last and bool(at[np.argmax(fallen)] < _OF_AXIS * at[-1])


def efficiency(runs: Sequence[RunData], look: Look) -> Figure:
    """Energy of a token (devices, before PUE) and tokens per second over steps. Raises
    CarbontrackError for a run whose steps have no token counts.
    """
    need(runs, "tokens")
    with page(look) as room:
        figure = Figure(figsize=room.size(2), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True)
        blocks = [_blocks(data) for data in runs]
        to_joule, joule = scaled(_usual([joules for _, joules, _ in blocks]), "J")
        to_tokens, prefix = scaled(_usual([speed for _, _, speed in blocks]), "")
        for data, (step, joules, speed), how in zip(runs, blocks, looks(), strict=False):
            upper.plot(step, joules * to_joule, lw=line(1), label=literal(data.run.name), **how)
            lower.plot(step, speed * to_tokens, lw=line(1), **how)
        upper.set_ylabel(f"energy ({joule}/token)")
        lower.set_ylabel(f"speed ({_TOKENS[prefix]}/s)")
        lower.set_xlabel("step")
        # A pause for a checkpoint or an evaluation would press all else to the ground.
        usual = max(float(np.nanmedian(joules)) for _, joules, _ in blocks)
        every = np.concatenate([joules for _, joules, _ in blocks])
        leave_out_highest(upper, every * to_joule, above=_PAUSE * usual * to_joule)
        for ax in (upper, lower):
            ax.set_ylim(0, 1.12 * ax.get_ylim()[1])
        lower.set_xlim(left=0)
        figure.align_ylabels([upper, lower])
        below = words.coverage([data.estimate for data in runs])
        finish(figure, room, look, runs, "Efficiency", below)
    return figure


def finish(
    figure: Figure, room: Page, look: Look, runs: Sequence[RunData], what: str, below: str
) -> None:
    """Title, footnote, legend: one run is named in the title with its devices."""
    heading = words.title(runs[0]) if len(runs) == 1 else words.title_of(runs, what)
    words.put(figure, room, look, heading, below)
    if len(runs) > 1:
        legend_above(figure.axes[0])


def looks() -> Iterator[dict[str, Any]]:
    """A colour and a dash for each run, always in this order."""
    number = 0
    while True:
        yield {"color": CYCLE[number % len(CYCLE)], "linestyle": DASHES[number % len(DASHES)]}
        number += 1


def _usual(amounts: Sequence[Any]) -> float:
    return max(float(np.nanmedian(x)) if np.isfinite(x).any() else 0.0 for x in amounts)


def need(runs: Sequence[RunData], column: str) -> None:
    for data in runs:
        if not data.steps[column].notna().any():
            raise CarbontrackError(
                f"Run {data.run.name} has no steps with {column}.",
                hint="The job logs them with carbontrack.log_step(); --kind power needs none.",
            )


def _blocks(data: RunData) -> tuple[Any, Any, Any]:
    """Step, J/token and tokens/s as means over blocks of steps; J/token is NaN where the energy of
    one of the block's steps is unknown.
    """
    with_tokens = data.steps.dropna(subset=["tokens"])
    # Between steps of one time there is neither energy nor time: their tokens are one span's.
    steps = with_tokens.groupby("time", as_index=False).agg({"step": "last", "tokens": "sum"})
    frame = pd.DataFrame(
        {
            "step": steps["step"],
            "energy_j": np.diff(energies_j(data, steps["time"]), prepend=np.nan),
            "seconds": steps["time"].diff().dt.total_seconds(),
            "tokens": steps["tokens"],
        }
    ).dropna()
    frame["energy_j"] = frame["energy_j"].where(frame["energy_j"] > 0)  # a gap is not known
    block = np.arange(len(frame)) // max(1, len(frame) // _BLOCKS)
    sums = frame.groupby(block)[["energy_j", "seconds", "tokens"]].sum()
    energies = sums["energy_j"].where(frame["energy_j"].notna().groupby(block).all())
    middle = frame.groupby(block)["step"].mean()
    return middle, energies / sums["tokens"], sums["tokens"] / sums["seconds"]
