"""Several runs over each other: what was learnt, and what it took."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from carbontrack.errors import CarbontrackError
from carbontrack.units import J_PER_KWH
from dashboards.data import RunData, energies_j, known_s
from dashboards.figures import words
from dashboards.style import (
    CYCLE,
    DASHES,
    GREY,
    Page,
    from_zero,
    legend_above,
    page,
    scaled,
    scaled_mass,
)

_WH_PER_KWH = 1000.0
_G_PER_KG = 1000.0
_BLOCKS = 60  # that a curve of efficiency is averaged over: single steps are noise
_TOKENS = {
    "": "tokens",
    "m": "millitokens",
    "k": "10³ tokens",
    "M": "10⁶ tokens",
    "G": "10⁹ tokens",
}
_KNOWN_SHARE = 0.95  # of a block's time, else its energy would look too small
_AMOUNTS = {"": "", "k": " (thousands)", "M": " (millions)", "G": " (billions)"}


def loss(runs: Sequence[RunData], *, style: str = "paper") -> Figure:
    """Training loss over tokens, as in Figure 5 of the Llama 2 report; over steps where a job
    does not tell its tokens. Raises CarbontrackError for a run without losses.
    """
    _need(runs, "loss")
    has_tokens = all(data.steps["tokens"].notna().any() for data in runs)
    with page(style) as room:
        figure = Figure(figsize=(room.width, room.height), layout="constrained")
        ax = figure.subplots()
        amounts = [
            data.steps["tokens"].fillna(0).cumsum() if has_tokens else data.steps["step"]
            for data in runs
        ]
        factor, prefix = scaled(max(float(x.max()) for x in amounts), "")
        for data, x, look in zip(runs, amounts, _looks(), strict=False):
            ax.plot(x * factor, data.steps["loss"], label=data.run.name, **look)
        _leave_out_highest(ax, pd.concat([data.steps["loss"].dropna() for data in runs]))
        ax.set_xlabel(("tokens" if has_tokens else "steps") + _AMOUNTS[prefix])
        ax.set_ylabel("training loss (nats per token)")
        _finish(figure, room, runs, "Training loss")
    return figure


def efficiency(runs: Sequence[RunData], *, style: str = "paper") -> Figure:
    """Energy of a token (devices, before PUE) and tokens per second over steps. Raises
    CarbontrackError for a run whose steps tell no tokens.
    """
    _need(runs, "tokens")
    with page(style) as room:
        figure = Figure(figsize=(room.width, 0.9 + 2 * room.panel), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True)
        blocks = [_blocks(data) for data in runs]
        to_joule, joule = scaled(_largest([joules for _, joules, _ in blocks]), "J")
        to_tokens, prefix = scaled(_largest([speed for _, _, speed in blocks]), "")
        for data, (step, joules, speed), look in zip(runs, blocks, _looks(), strict=False):
            upper.plot(step, joules * to_joule, label=data.run.name, **look)
            lower.plot(step, speed * to_tokens, **look)
        upper.set_ylabel(f"energy ({joule}/token)")
        lower.set_ylabel(f"speed ({_TOKENS[prefix]}/s)")
        lower.set_xlabel("step")
        for ax in (upper, lower):
            from_zero(ax)
        figure.align_ylabels([upper, lower])
        _finish(figure, room, runs, "Efficiency")
    return figure


def compare(runs: Sequence[RunData], *, style: str = "paper") -> Figure:
    """Loss against facility energy and against CO2e: what a better recipe saves. Raises
    CarbontrackError for a run without losses.
    """
    _need(runs, "loss")
    curves = [data.steps.dropna(subset=["loss"]) for data in runs]
    energies_wh = [
        energies_j(data, steps["time"]) * data.facility_factor / J_PER_KWH * _WH_PER_KWH
        for data, steps in zip(runs, curves, strict=True)
    ]
    grams = [
        energy * (data.estimate.intensity_kg_per_kwh or np.nan) * _G_PER_KG / _WH_PER_KWH
        for data, energy in zip(runs, energies_wh, strict=True)
    ]
    with page(style) as room:
        figure = Figure(figsize=(room.width, 1.3 + 2 * room.panel), layout="constrained")
        upper, lower = figure.subplots(2, 1)
        for ax, amounts, what, (factor, unit) in (
            (upper, energies_wh, "facility energy", scaled(_largest(energies_wh), "Wh")),
            (lower, grams, "emissions", scaled_mass(_largest(grams))),
        ):
            for data, x, steps, look in zip(runs, amounts, curves, _looks(), strict=False):
                ax.plot(x * factor, steps["loss"], label=data.run.name, **look)
            _leave_out_highest(ax, pd.concat([steps["loss"] for steps in curves]))
            ax.set_xlim(left=0)
            ax.set_xlabel(f"{what} ({unit})")
            ax.set_ylabel("loss (nats per token)")
        _finish(figure, room, runs, "What the loss took")
    return figure


def _finish(figure: Figure, room: Page, runs: Sequence[RunData], what: str) -> None:
    """One run is named in the title with its devices, several also in the legend."""
    heading = words.title(runs[0]) if len(runs) == 1 else words.title_of(runs, what)
    words.put(figure, room, heading, words.footnote([data.estimate for data in runs]))
    if len(runs) > 1:
        legend_above(figure.axes[0])


def _looks() -> Iterator[dict[str, Any]]:
    """A colour and a dash for each run, always in this order."""
    number = 0
    while True:
        yield {
            "color": CYCLE[number % len(CYCLE)],
            "linestyle": DASHES[number % len(DASHES)],
            "linewidth": 1.0,
        }
        number += 1


def _largest(amounts: Sequence[Any]) -> float:
    return max((float(np.nanmax(x)) for x in amounts if np.isfinite(x).any()), default=0.0)


def _leave_out_highest(ax: Axes, losses: pd.Series[float]) -> None:
    """The first steps fall from far above: leave out the highest hundredth where it dwarfs the
    rest, and say so.
    """
    low, high, highest = np.quantile(losses, [0.0, 0.99, 1.0])
    if len(losses) >= 100 and highest - low > 2 * (high - low):
        margin = 0.05 * (high - low)
        ax.set_ylim(low - margin, high + margin)
        ax.annotate(
            "highest 1 % not shown",
            (0.99, 0.96),
            xycoords="axes fraction",
            ha="right",
            va="top",
            color=GREY,
            fontsize="small",
        )


def _need(runs: Sequence[RunData], column: str) -> None:
    for data in runs:
        if not data.steps[column].notna().any():
            raise CarbontrackError(
                f"Run {data.run.name} has no steps with {column}.",
                hint="The job logs them with carbontrack.log_step(); --kind power needs none.",
            )


def _blocks(data: RunData) -> tuple[Any, Any, Any]:
    """Step, J/token and tokens/s as means over blocks of steps; J/token is NaN where the energy of
    a good part of the block is not known.
    """
    steps = data.steps.dropna(subset=["tokens"]).sort_values("time")
    frame = pd.DataFrame(
        {
            "step": steps["step"],
            "energy_j": np.diff(energies_j(data, steps["time"]), prepend=np.nan),
            "known_s": np.diff(known_s(data, steps["time"]), prepend=np.nan),
            "seconds": steps["time"].diff().dt.total_seconds(),
            "tokens": steps["tokens"],
        }
    ).dropna()
    frame["energy_j"] = frame["energy_j"].where(frame["energy_j"] > 0)  # a gap is not known
    block = np.arange(len(frame)) // max(1, len(frame) // _BLOCKS)
    sums = frame.groupby(block)[["energy_j", "seconds", "tokens"]].sum(skipna=False)
    middle = frame.groupby(block)["step"].mean()
    return middle, sums["energy_j"] / sums["tokens"], sums["tokens"] / sums["seconds"]
