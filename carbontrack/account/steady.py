"""The steady state of a training: J per token and tokens per second without warm-up and stalls.
Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from statistics import median

from carbontrack.account.curve import EnergyCurve
from carbontrack.errors import CarbontrackError
from carbontrack.ledger.recorded_rows import Step
from carbontrack.units import MS_PER_S

WARM_UP = 0.1  # share of the steps at the start that is left out in any case
STALL = 3.0  # a step this many times as long as the median is not steady
_SETTLED = 0.2  # relative difference to the usual step's time that ends the warm-up
_MIN_STEPS = 5
_BLOCKS = 10
# Steps whose times were spread over a few readings of a log are even to the millisecond.
_FEW_READINGS = 3
_ROUNDING_S = 0.002
_LEAST_STEP_S = 0.05  # shorter ones may be that even


@dataclass(frozen=True, slots=True)
class Range:
    """A value with the lowest and the highest of its blocks."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class SteadyState:
    """Energy and speed of a run once it trains evenly."""

    j_per_token: Range
    tokens_per_s: Range
    steps: int  # that were counted
    left_out: int  # warm-up and stalls
    times_spread: bool = False  # and so the range has nothing of how steps differ


@dataclass(frozen=True, slots=True)
class _Span:
    """What passed from one time at which steps ended to the next."""

    seconds: float
    energy_j: float
    tokens: int
    steps: int


def steady_state(steps: Sequence[Step], curve: EnergyCurve, *, name: str) -> SteadyState:
    """J/token and tokens/s without the warm-up and without stalls.

    Steps of one and the same time are one span, with the tokens of all. The warm-up is the first
    tenth of the spans, and what follows until they take as long as those of the later half do;
    never more than half of them. The range is that of ten equal blocks of the steady ones. Raises
    CarbontrackError where too few steps of the run `name` have token counts, or no energy was
    measured.
    """
    spans = _spans(steps, curve)
    after_warm_up = spans[_warm_up(spans) :]
    if len(after_warm_up) < _MIN_STEPS:
        raise CarbontrackError(
            f"{name} has {len(spans)} timed steps with tokens, too few for a steady state.",
            hint=f"At least {_MIN_STEPS} are needed after the warm-up; the job logs them.",
        )
    usual_s = median(span.seconds for span in after_warm_up)
    steady = [span for span in after_warm_up if span.seconds <= STALL * usual_s]
    if sum(span.energy_j for span in steady) <= 0:
        raise CarbontrackError(f"{name} has no energy to project.", hint="No meter recorded it.")
    size = max(1, len(steady) // _BLOCKS)
    blocks = [steady[i : i + size] for i in range(0, len(steady) - size + 1, size)]
    counted = sum(span.steps for span in steady)
    return SteadyState(
        j_per_token=_range(_j_per_token(steady), [_j_per_token(block) for block in blocks]),
        tokens_per_s=_range(_tokens_per_s(steady), [_tokens_per_s(block) for block in blocks]),
        steps=counted,
        left_out=sum(span.steps for span in spans) - counted,
        times_spread=_are_spread([span.seconds for span in steady]),
    )


def _spans(steps: Sequence[Step], curve: EnergyCurve) -> list[_Span]:
    """Between the times of steps, as far as energy is known: a live run's last is not, yet."""
    in_time = sorted(steps, key=_time_ms)
    ends = [(time_ms, list(ended)) for time_ms, ended in groupby(in_time, key=_time_ms)]
    spans = [
        _Span(
            (time_ms - before_ms) / MS_PER_S,
            curve.energy_j(time_ms) - curve.energy_j(before_ms),
            sum(step.tokens or 0 for step in ended),
            sum(1 for step in ended if step.tokens),
        )
        for (before_ms, _), (time_ms, ended) in pairwise(ends)
        if time_ms <= curve.times_ms[-1]
    ]
    return [span for span in spans if span.tokens]


def _are_spread(seconds: Sequence[float]) -> bool:
    """Whether these steps' times are no measured ones: hardly any differs from its neighbour."""
    if len(seconds) < _BLOCKS or median(seconds) < _LEAST_STEP_S:
        return False
    changes = sum(abs(b - a) > _ROUNDING_S for a, b in pairwise(seconds))
    return changes < _FEW_READINGS


def _time_ms(step: Step) -> int:
    return step.time_ms


def _warm_up(spans: Sequence[_Span]) -> int:
    """How many spans at the start are not like those of the later half."""
    at_least = round(len(spans) * WARM_UP)
    at_most = max(at_least, min(len(spans) // 2, len(spans) - _MIN_STEPS))
    seconds = [span.seconds for span in spans]
    usual_s = median(seconds[len(spans) // 2 :] or [0.0])

    def settled(seconds: float) -> bool:
        return abs(seconds - usual_s) <= _SETTLED * usual_s

    return next(
        (
            at
            for at in range(at_least, at_most)
            if settled(seconds[at]) and settled(median(seconds[at : at + _MIN_STEPS]))
        ),
        at_most,
    )


def _range(value: float, blocks: Sequence[float]) -> Range:
    return Range(value, min(value, *blocks), max(value, *blocks))


def _j_per_token(spans: Sequence[_Span]) -> float:
    return sum(span.energy_j for span in spans) / sum(span.tokens for span in spans)


def _tokens_per_s(spans: Sequence[_Span]) -> float:
    return sum(span.tokens for span in spans) / sum(span.seconds for span in spans)
