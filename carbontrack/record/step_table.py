"""Which logged step counts, and the sums over those that do: the one rule of the recorder, whose
rows the ledger then has. Pure.
"""

from __future__ import annotations

import bisect
import math
from array import array
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice

from carbontrack.ledger.recorded_rows import (
    EDGE_STEPS,
    EdgeSteps,
    Step,
    StepTotals,
    final_loss,
    final_steps,
)
from carbontrack.record.logged import MAX_TOKENS, Dropped, LoggedStep

_UNKNOWN = -1  # tokens


class StepTable:
    """Of each step the newest start of the job's processes counts, of that the lowest rank that
    logged it, and of that rank its newest line.

    A step takes 32 bytes: a run of weeks has millions.
    """

    def __init__(self) -> None:
        self._numbers = array("q")  # ascending
        self._ranks = array("i")
        self._restarts = array("i")
        self._tokens = array("q")
        self._losses: array[float] = array("d")  # NaN if unknown, or not finite
        self._with_loss = 0
        self._with_tokens = 0
        self._sum_tokens = 0
        self._first = _Ends(EDGE_STEPS, highest=False)
        self._last = _Ends(EDGE_STEPS, highest=True)
        self._counter = TokenCounter()
        self.dropped = Dropped()  # tokens that no step can have

    def take(self, logged: Iterable[LoggedStep]) -> list[Step]:
        """The steps of these that count, as rows of the ledger."""
        return [step for one in logged if (step := self._take(one)) is not None]

    def _take(self, logged: LoggedStep) -> Step | None:
        step = logged.step
        if logged.tokens_total is not None:
            new = self._counter.tokens_of(step.step, logged.tokens_total)
            if step.tokens is None:
                step = replace(step, tokens=self._possible(new, step.step))
        at = bisect.bisect_left(self._numbers, step.step)
        if at < len(self._numbers) and self._numbers[at] == step.step:
            newer = step.restart - self._restarts[at]
            if newer < 0 or (newer == 0 and logged.rank > self._ranks[at]):
                return step if newer < 0 else None
            self._forget(at)
        else:
            self._numbers.insert(at, step.step)
            self._ranks.insert(at, 0)
            self._restarts.insert(at, 0)
            self._tokens.insert(at, _UNKNOWN)
            self._losses.insert(at, math.nan)
        self._set(at, step, logged.rank)
        self._first.put(step)
        self._last.put(step)
        return step

    def totals(self) -> StepTotals:
        """As `carbontrack.ledger.read.step_totals` gives them of the rows."""
        return StepTotals(
            steps=len(self._numbers),
            tokens=self._sum_tokens if self._with_tokens else None,
            final_loss=self._final_loss(),
            final_loss_steps=final_steps(self._with_loss) or None,
            first=self._first.steps(),
            last=self._last.steps(),
        )

    def _possible(self, tokens: int | None, number: int) -> int | None:
        """The tokens, if a step can have so many; else the count is one that goes on, while the
        numbers of steps began again.
        """
        if tokens is None or tokens <= MAX_TOKENS:
            return tokens
        what = f"tokens_total of step {number} rose by more than {MAX_TOKENS:,}"
        self.dropped += Dropped(1, what)
        return None

    def _forget(self, at: int) -> None:
        if self._tokens[at] != _UNKNOWN:
            self._with_tokens -= 1
            self._sum_tokens -= self._tokens[at]
        self._with_loss -= not math.isnan(self._losses[at])

    def _set(self, at: int, step: Step, rank: int) -> None:
        loss = math.nan if step.loss is None or not math.isfinite(step.loss) else step.loss
        self._ranks[at], self._losses[at] = rank, loss
        self._restarts[at] = step.restart
        self._tokens[at] = _UNKNOWN if step.tokens is None else step.tokens
        if step.tokens is not None:
            self._with_tokens += 1
            self._sum_tokens += step.tokens
        self._with_loss += not math.isnan(loss)

    def _final_loss(self) -> float | None:
        known = (loss for loss in reversed(self._losses) if not math.isnan(loss))
        return final_loss(list(islice(known, final_steps(self._with_loss))))


class TokenCounter:
    """Tokens of each step from the cumulative count that the job logs."""

    def __init__(self) -> None:
        self._numbers = array("q")  # ascending
        self._totals = array("q")

    def tokens_of(self, number: int, total: int) -> int | None:
        """Tokens since the step before. None if unknown: of the first step of a training that was
        resumed, whose count goes on, and where the count went back.
        """
        at = bisect.bisect_left(self._numbers, number)
        before = self._totals[at - 1] if at else 0 if number <= 1 else None
        if at < len(self._numbers) and self._numbers[at] == number:
            self._totals[at] = total
        else:
            self._numbers.insert(at, number)
            self._totals.insert(at, total)
        return None if before is None or total < before else total - before


def _edge_step(step: Step) -> Step:
    """What `EdgeSteps` have of a step: a value that is not finite is unknown, as in the ledger."""

    def finite(value: float | None) -> float | None:
        return value if value is not None and math.isfinite(value) else None

    return Step(
        step.step,
        step.time_ms,
        loss=finite(step.loss),
        tokens=step.tokens,
        tokens_per_s=finite(step.tokens_per_s),
    )


class _Ends:
    """The lowest or the highest steps by number."""

    def __init__(self, most: int, *, highest: bool) -> None:
        self._most = most
        self._highest = highest
        self._steps: dict[int, Step] = {}
        self._limit: int | None = None  # the number that a new one has to be beyond, once full

    def put(self, step: Step) -> None:
        if step.step not in self._steps and self._limit is not None:
            if step.step < self._limit if self._highest else step.step > self._limit:
                return
            del self._steps[self._limit]
        self._steps[step.step] = _edge_step(step)
        if len(self._steps) == self._most:
            self._limit = min(self._steps) if self._highest else max(self._steps)

    def steps(self) -> EdgeSteps:
        return EdgeSteps.of(self._steps[number] for number in sorted(self._steps))
