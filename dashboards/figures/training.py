"""Several runs over each other: how they learnt, and how efficiently."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from carbontrack.errors import CarbontrackError
from dashboards.data import RunData, energies_j, known_s
from dashboards.figures import words
from dashboards.figures.panels import draw_losses, note_not_finite
from dashboards.style import (
    CYCLE,
    DASHES,
    Page,
    leave_out_highest,
    legend_above,
    line,
    literal,
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
_KNOWN_SHARE = 0.95  # of a block's time, else its energy would look too small
_AMOUNTS = {"": "", "k": " (thousands)", "M": " (millions)", "G": " (billions)"}


def loss(runs: Sequence[RunData], *, style: str = "paper", width: float | None = None) -> Figure:
    """Training loss over tokens, as in Figure 5 of the Llama 2 report; over steps where a job
    has no token counts. Raises CarbontrackError for a run without losses.
    """
    need(runs, "loss")
    has_tokens = all(data.steps["tokens"].notna().any() for data in runs)
    with page(style, width) as room:
        figure = Figure(figsize=room.size(), layout="constrained")
        ax = figure.subplots()
        amounts = [
            data.steps["tokens"].fillna(0).cumsum() if has_tokens else data.steps["step"]
            for data in runs
        ]
        factor, prefix = scaled(max(float(x.max()) for x in amounts), "")
        curves = [data.losses for data in runs]
        for data, x, losses, look in zip(runs, amounts, curves, looks(), strict=False):
            draw_losses(ax, x[losses.index] * factor, losses, label=literal(data.run.name), **look)
        leave_out_highest(ax, pd.concat([losses["loss_max"] for losses in curves]))
        note_not_finite(ax, curves)
        ax.set_xlim(left=0)
        ax.set_xlabel(("tokens" if has_tokens else "steps") + _AMOUNTS[prefix])
        ax.set_ylabel("loss (nats per token)")
        finish(figure, room, runs, "Training loss")
    return figure


def efficiency(
    runs: Sequence[RunData], *, style: str = "paper", width: float | None = None
) -> Figure:
    """Energy of a token (devices, before PUE) and tokens per second over steps. Raises
    CarbontrackError for a run whose steps have no token counts.
    """
    need(runs, "tokens")
    with page(style, width) as room:
        figure = Figure(figsize=room.size(2), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True)
        blocks = [_blocks(data) for data in runs]
        to_joule, joule = scaled(_usual([joules for _, joules, _ in blocks]), "J")
        to_tokens, prefix = scaled(_usual([speed for _, _, speed in blocks]), "")
        for data, (step, joules, speed), look in zip(runs, blocks, looks(), strict=False):
            upper.plot(step, joules * to_joule, lw=line(1), label=literal(data.run.name), **look)
            lower.plot(step, speed * to_tokens, lw=line(1), **look)
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
        finish(figure, room, runs, "Efficiency")
    return figure


def finish(figure: Figure, room: Page, runs: Sequence[RunData], what: str) -> None:
    """Title, footnote, legend: one run is named in the title with its devices."""
    heading = words.title(runs[0]) if len(runs) == 1 else words.title_of(runs, what)
    words.put(figure, room, heading, words.footnote([data.estimate for data in runs]))
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
    a good part of the block is not known.
    """
    with_tokens = data.steps.dropna(subset=["tokens"])
    # Between steps of one time there is neither energy nor time: their tokens are one span's.
    steps = with_tokens.groupby("time", as_index=False).agg({"step": "last", "tokens": "sum"})
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
