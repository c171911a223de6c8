"""A run's energy as a curve over time, and what can be read off it against the training steps.
Pure.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from carbontrack.errors import CarbontrackError
from carbontrack.ledger.rows import Series, Step
from carbontrack.units import MS_PER_S

WARM_UP = 0.1  # share of the steps at the start that is left out in any case
STALL = 3.0  # a step this many times as long as the median is no steady step
_SETTLED = 0.2  # relative difference to the usual step's time that ends the warm-up
_MIN_STEPS = 5
_BLOCKS = 10


@dataclass(frozen=True, slots=True)
class EnergyCurve:
    """Cumulative energy of all devices: straight lines between the ends of windows."""

    times_ms: tuple[int, ...]
    energies_j: tuple[float, ...]

    @classmethod
    def of(cls, series: Series, *, from_ms: int, to_ms: int) -> EnergyCurve:
        """From windows of any level, whose energy lies between `from_ms` and `to_ms`."""
        spent: dict[int, float] = {}
        for start_ms, energy_j in zip(
            series.columns["start_ms"], series.columns["energy_j"], strict=True
        ):
            spent[start_ms] = spent.get(start_ms, 0.0) + (energy_j or 0.0)
        times, energies = [from_ms], [0.0]
        for start_ms in sorted(spent):
            end_ms = min(to_ms, start_ms + series.level_s * MS_PER_S)
            begin_ms = max(start_ms, times[-1])
            if begin_ms > times[-1]:  # a gap: nothing is known to be spent in it
                times.append(begin_ms)
                energies.append(energies[-1])
            times.append(max(end_ms, begin_ms))
            energies.append(energies[-1] + spent[start_ms])
        return cls(tuple(times), tuple(energies))

    @property
    def total_j(self) -> float:
        return self.energies_j[-1]

    def energy_j(self, time_ms: float) -> float:
        """Energy in J from the start until a time."""
        after = bisect.bisect_right(self.times_ms, time_ms)
        if after == 0:
            return 0.0
        if after == len(self.times_ms):
            return self.total_j
        t0, t1 = self.times_ms[after - 1], self.times_ms[after]
        e0, e1 = self.energies_j[after - 1], self.energies_j[after]
        return e0 + (e1 - e0) * (time_ms - t0) / (t1 - t0)


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


@dataclass(frozen=True, slots=True)
class _Span:
    """What passed between two steps."""

    seconds: float
    energy_j: float
    tokens: int


def loss_at(steps: Sequence[Step], curve: EnergyCurve, energy_j: float) -> float | None:
    """The loss of the last step that was done within this energy; None if there is none."""
    done = [s.loss for s in steps if s.loss is not None and curve.energy_j(s.time_ms) <= energy_j]
    return done[-1] if done else None


def steady_state(steps: Sequence[Step], curve: EnergyCurve, *, name: str) -> SteadyState:
    """J/token and tokens/s without the warm-up and without stalls.

    The warm-up is the first tenth of the steps, and what follows until steps take as long as
    those of the later half do; never more than half of them. The range is that of ten equal
    blocks of the steady steps. Raises CarbontrackError where too few steps of the run `name`
    tell their tokens, or no energy was measured.
    """
    spans = [
        _Span(
            (b.time_ms - a.time_ms) / MS_PER_S,
            curve.energy_j(b.time_ms) - curve.energy_j(a.time_ms),
            b.tokens,
        )
        for a, b in pairwise(sorted(steps, key=lambda step: step.time_ms))
        if b.tokens and a.time_ms < b.time_ms <= curve.times_ms[-1]  # a live run: not yet known
    ]
    after_warm_up = spans[_warm_up_steps(spans) :]
    if len(after_warm_up) < _MIN_STEPS:
        raise CarbontrackError(
            f"{name} has {len(spans)} timed steps with tokens, too few for a steady state.",
            hint=f"At least {_MIN_STEPS} are needed after the warm-up; the job logs them.",
        )
    usual_s = median(span.seconds for span in after_warm_up)
    steady = [span for span in after_warm_up if span.seconds <= STALL * usual_s]
    if sum(span.energy_j for span in steady) <= 0:
        raise CarbontrackError(f"{name} has no energy to project.", hint="Was a meter there?")
    size = max(1, len(steady) // _BLOCKS)
    blocks = [steady[i : i + size] for i in range(0, len(steady) - size + 1, size)]
    return SteadyState(
        j_per_token=_range(_j_per_token(steady), [_j_per_token(block) for block in blocks]),
        tokens_per_s=_range(_tokens_per_s(steady), [_tokens_per_s(block) for block in blocks]),
        steps=len(steady),
        left_out=len(spans) - len(steady),
    )


def _warm_up_steps(spans: Sequence[_Span]) -> int:
    """How many steps at the start are not like those of the later half."""
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
