"""What a longer training would use, from the steady state of one that was measured. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from carbontrack.account import published
from carbontrack.account.pricing import priced
from carbontrack.account.published import PublishedRow
from carbontrack.account.result import Estimate
from carbontrack.account.steady import Range, SteadyState
from carbontrack.errors import CarbontrackError
from carbontrack.factors.resolve import Factors
from carbontrack.units import J_PER_KWH, S_PER_HOUR

AGREES = 0.1  # relative difference of steady and whole run's J/token that needs no word
_AMOUNT = re.compile(r"([0-9.]+(?:[eE][+]?[0-9]+)?)\s*([kKMGBT]?)", re.ASCII)
_MOST = 1e18  # tokens, a million times those of any training
_PREFIX = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "T": 1e12}


@dataclass(frozen=True, slots=True)
class Target:
    """How far to train, and what. `flops_ratio`: FLOPs per token ÷ the measured model's."""

    label: str
    tokens: float
    flops_ratio: float = 1.0
    report: PublishedRow | None = None  # the published figure of that model


@dataclass(frozen=True, slots=True)
class Projection:
    """The estimate at the middle, and at the ends of the steady state's range.

    `whole_j_per_token` is that of the whole measured run, None if unknown; `whole_over_steady`
    that ÷ the J/token of its steady state. `run_notes` are what is said of the measured run: what
    is doubtful there is so here.
    """

    target: Target
    state: SteadyState
    estimate: Estimate
    low: Estimate
    high: Estimate
    whole_j_per_token: float | None = None
    whole_over_steady: float | None = None
    run_notes: tuple[str, ...] = ()

    @property
    def doubt(self) -> str:
        """A warning if the projection does not fit the run it is made from; else empty."""
        ratio = self.whole_over_steady
        if ratio is None or abs(ratio - 1) <= AGREES:
            return ""
        why = (
            "its warm-up, stalls and pauses are in that, and not in the projection"
            if ratio > 1
            else "no warm-up or stall explains that: check the tokens and the times of its steps"
        )
        return (
            f"the run as a whole took {self.whole_j_per_token:.4g} J/token, {ratio:.3g} × its "
            f"steady state: {why}"
        )


def amount(text: str, *, where: str) -> float:
    """A count with a prefix: 2T, 300B, 10M. Raises CarbontrackError for anything else."""
    match = _AMOUNT.fullmatch(text.strip())
    try:
        found = float(match[1]) * _PREFIX[match[2]] if match else 0.0
    except ValueError:
        found = 0.0
    if not 0 < found <= _MOST:
        raise CarbontrackError(f"{where} {text}: not a count.", hint="Example: 2T, 300B, 5000.")
    return found


def published_as(name: object) -> PublishedRow | None:
    """The published row of a model by name (llama2-70b, Llama 2 70B); None if there is none, also
    of what is no text: a job may call its model anything.
    """
    wanted = _fold(name) if isinstance(name, str) else ""
    rows = (row for row in published.all_rows() if row.parameters and row.tokens)
    return next((row for row in rows if wanted and _fold(row.model) == wanted), None)


def published_model(name: str) -> PublishedRow:
    """The same. Raises CarbontrackError if there is none."""
    row = published_as(name)
    if row is not None:
        return row
    known = sorted({row.model for row in published.all_rows() if row.parameters and row.tokens})
    raise CarbontrackError(f"no published model {name!r}.", hint=f"Known: {', '.join(known)}.")


def target_of(
    model: Mapping[str, Any],
    state_tokens_per_step: float | None,
    *,
    tokens: str | None,
    steps: int | None,
    to_model: str | None,
) -> Target:
    """What is asked for; by default the tokens that the run's model had planned.

    The published figure is that of the model asked for, else of the one that the run's card names.
    A model is scaled by 6 FLOPs per parameter and token (Kaplan et al. 2020, arXiv:2001.08361): an
    extrapolation. Raises CarbontrackError where the run lacks what that needs.
    """
    if steps is not None and (tokens is not None or to_model is not None):
        raise CarbontrackError("--steps goes with neither --tokens nor --model.")
    if to_model is not None:
        row = published_model(to_model)
        parameters = model.get("parameters")
        if not parameters or not row.parameters or not row.tokens:
            raise CarbontrackError(
                "the run's model card has no parameters.",
                hint="Log them: carbontrack.describe_model(parameters=...).",
            )
        wanted = amount(tokens, where="--tokens") if tokens else row.tokens
        return Target(row.model, wanted, row.parameters / float(parameters), row)
    if tokens is not None:
        wanted = amount(tokens, where="--tokens")
        return Target("to the given tokens", wanted, report=published_as(model.get("name")))
    if steps is not None:
        if state_tokens_per_step is None:
            raise CarbontrackError("the run's steps have no token counts.", hint="Give --tokens.")
        wanted = steps * state_tokens_per_step
        return Target(f"to step {steps:,}", wanted, report=published_as(model.get("name")))
    planned = model.get("planned_tokens")
    if not planned:
        raise CarbontrackError("No target given.", hint="Give --tokens 2T, --steps or --model.")
    report = published_as(model.get("name"))
    return Target("to the planned tokens", float(planned), report=report)


def project(run: Estimate, state: SteadyState, target: Target) -> Projection:
    """Tokens × J/token and tokens ÷ tokens/s on as many devices as the run had at a time, priced
    like the run.

    The low end takes the best block's energy and speed, the high end the worst's. Raises
    CarbontrackError for a run whose factors cannot be found.
    """
    whole, steady = _whole_j_per_token(run), state.j_per_token.value
    state = scaled(state, target.flops_ratio)
    energy, speed, factors = state.j_per_token, state.tokens_per_s, run.factors
    if factors is None:
        raise CarbontrackError(f"{run.label}: {'; '.join(run.notes) or 'no factors are known'}")
    return Projection(
        target,
        state,
        estimate=_at(run, target, factors, energy.value, speed.value),
        low=_at(run, target, factors, energy.low, speed.high),
        high=_at(run, target, factors, energy.high, speed.low),
        whole_j_per_token=whole,
        whole_over_steady=None if whole is None else whole / steady,
        run_notes=tuple(f"{run.label}: {note}" for note in run.notes),
    )


def _whole_j_per_token(run: Estimate) -> float | None:
    if run.energy_kwh is None or not run.tokens:
        return None
    return run.energy_kwh * J_PER_KWH / run.tokens


def scaled(state: SteadyState, ratio: float) -> SteadyState:
    """The steady state with `ratio` times the FLOPs per token, at the same efficiency."""
    e, s = state.j_per_token, state.tokens_per_s
    return SteadyState(
        Range(e.value * ratio, e.low * ratio, e.high * ratio),
        Range(s.value / ratio, s.low / ratio, s.high / ratio),
        state.steps,
        state.left_out,
        state.times_spread,
    )


def _at(
    run: Estimate, target: Target, factors: Factors, j_per_token: float, tokens_per_s: float
) -> Estimate:
    seconds = target.tokens / tokens_per_s
    energy_kwh = target.tokens * j_per_token / J_PER_KWH
    longer = seconds / run.active_s
    base = Estimate(
        label=target.label,
        method="projected",
        factors=factors,
        duration_s=seconds,
        devices=round(run.primary_expected_s / run.active_s),
        nodes=round(run.node_hours * S_PER_HOUR / run.active_s),
        device_names=run.device_names,
        gpu_hours_of={name: hours * longer for name, hours in run.gpu_hours_of.items()},
        device_hours=run.device_hours * longer,
        node_hours=run.node_hours * longer,
        energy_kwh=energy_kwh,
        scope=run.scope,
        meter=run.meter,
        quality="projected",
        tokens=round(target.tokens),
    )
    return priced(base, factors, embodied=run.embodied_tco2e is not None)


def _fold(name: str) -> str:
    return "".join(sign for sign in name.casefold() if sign.isalnum())
