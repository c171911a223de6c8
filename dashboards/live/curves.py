"""The training steps of long runs, for all their zooms: merged from buckets that are kept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carbontrack.ledger import read
from carbontrack.ledger.rows import Run, StepMean
from dashboards.live.kept import Kept

if TYPE_CHECKING:
    from sqlalchemy import Connection

# The ledger adds up a thousand steps in a millisecond. A run of 500,000 would make every look at
# the whole of it wait for half a second.
_MANY = 30_000
_FINE_POINTS = 20_000
_MOST = 32  # runs; each has some megabytes
_ALL_ANEW_S = 60.0  # a step that comes late, into a bucket of long ago, is seen then


@dataclass(frozen=True, slots=True)
class _Fine:
    length_ms: int
    means: list[StepMean]


class Curves:
    """`read.step_means`, fast where a run has many steps."""

    def __init__(self) -> None:
        self._fine: Kept[_Fine] = Kept(_ALL_ANEW_S, most=_MOST)

    def steps(
        self,
        connection: Connection,
        run: Run,
        *,
        count: int,
        from_ms: int | None = None,
        to_ms: int | None = None,
        points: int,
    ) -> list[StepMean]:
        """As `read.step_means` gives them; `count` is how many steps the run has."""
        if count <= _MANY:
            return read.step_means(connection, run, from_ms=from_ms, to_ms=to_ms, points=points)
        length_ms = read.step_bucket_ms(run, from_ms=from_ms, to_ms=to_ms, points=points)
        fine_ms = read.step_bucket_ms(run, from_ms=None, to_ms=None, points=_FINE_POINTS)
        fine = self._fine.get(run, lambda known: _read(connection, run, fine_ms, known))
        touched = _touched(fine, length_ms, from_ms, to_ms)
        if length_ms % fine_ms == 0:
            return read.merge_steps(touched, length_ms)
        if not touched:
            return []
        numbers = min(mean.first_step for mean in touched), max(mean.step for mean in touched)
        return read.steps_in_buckets(
            connection, run, length_ms, from_ms=from_ms, to_ms=to_ms, numbers=numbers
        )


def _read(connection: Connection, run: Run, length_ms: int, known: _Fine | None) -> _Fine:
    """All buckets; where the earlier ones are known, from the last of them on."""
    if known is None or known.length_ms != length_ms or not known.means:
        return _Fine(length_ms, read.steps_in_buckets(connection, run, length_ms))
    last_ms = known.means[-1].time_ms
    newer = read.steps_in_buckets(connection, run, length_ms, from_ms=last_ms)
    return _Fine(length_ms, [*known.means[:-1], *newer])


def _touched(fine: _Fine, length_ms: int, from_ms: int | None, to_ms: int | None) -> list[StepMean]:
    """Those of the fine buckets that hold steps of the buckets of `length_ms` in the range."""
    first_ms, end_ms = 0.0, math.inf
    if from_ms is not None:
        first_ms = from_ms // length_ms * length_ms // fine.length_ms * fine.length_ms
    if to_ms is not None:
        end_ms = -(-(to_ms // length_ms + 1) * length_ms // fine.length_ms) * fine.length_ms
    return [mean for mean in fine.means if first_ms <= mean.time_ms < end_ms]
