"""The training steps of long runs, for all their zooms: merged from cached buckets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from carbontrack.ledger import read
from carbontrack.ledger.held import Held
from carbontrack.ledger.recorded_rows import Run
from carbontrack.ledger.rows import StepMean
from dashboards.live.cache import BUDGET_BYTES, RunCache

if TYPE_CHECKING:
    from sqlalchemy import Connection

# The ledger adds up a thousand steps in a millisecond. A run of 500,000 would make every look at
# the whole of it wait for half a second; of more than this many, buckets of some are cached: the
# more, the fewer steps are read for a range that they are too long for, and the longer they take.
_MANY = 30_000
_FEWEST_BUCKETS, _STEPS_OF_BUCKET = 4_000, 20
_MAX_BYTES = BUDGET_BYTES // 8  # a run has some megabytes
_READ_AGAIN_S = 60.0  # a step that comes late, into a bucket of long ago, is seen then

_Array = npt.NDArray[Any]
_Columns = Mapping[str, _Array]
_NAMES = tuple(field.name for field in fields(StepMean))
_MAYBE = ("loss", "loss_min", "loss_max", "tokens", "tokens_per_s")  # NaN for None


@dataclass(frozen=True, slots=True)
class _Fine:
    """Buckets of one length over the whole of a run, in order."""

    length_ms: int
    columns: _Columns

    @property
    def size_bytes(self) -> int:
        return sum(column.nbytes for column in self.columns.values())


class Curves:
    """`read.step_means`, fast where a run has many steps."""

    def __init__(self) -> None:
        self._fine: RunCache[_Fine] = RunCache(
            _READ_AGAIN_S, max_bytes=_MAX_BYTES, size_of=lambda fine: fine.size_bytes
        )

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
        fine_ms = read.mergeable_step_bucket_ms(run, _buckets(count))
        fine = self._fine.get(run, lambda known: _read(connection, run, fine_ms, known))
        touched = _touched(fine, length_ms, from_ms, to_ms)
        if len(touched["step"]) == 0:
            return []
        if length_ms % fine_ms == 0:
            return _merged(touched, length_ms)
        numbers = int(touched["first_step"].min()), int(touched["step"].max())
        return read.steps_in_buckets(
            connection, run, length_ms, from_ms=from_ms, to_ms=to_ms, numbers=numbers
        )

    def losses(
        self, held: Held, runs: Sequence[Run], counts: Sequence[int], points: int
    ) -> list[list[float | None]]:
        """The losses of `steps` over the whole of each run, of those that are held."""
        few = [run for run, count in zip(runs, counts, strict=True) if count <= _MANY]
        found = dict(zip((run.id for run in few), held.loss_means(few, points), strict=True))
        for run, count in zip(runs, counts, strict=True):
            if count > _MANY:
                steps = self.steps(held.connection, run, count=count, points=points)
                found[run.id] = [step.loss for step in steps]
        return [found[run.id] for run in runs]


def _buckets(count: int) -> int:
    """Of so many steps."""
    return min(_MANY, max(_FEWEST_BUCKETS, count // _STEPS_OF_BUCKET))


def _read(connection: Connection, run: Run, length_ms: int, known: _Fine | None) -> _Fine:
    """All buckets; where the earlier ones are known, from the last of them on."""
    if known is None or known.length_ms != length_ms or len(known.columns["step"]) == 0:
        return _Fine(length_ms, _columns(read.step_rows(connection, run, length_ms)))
    last_ms = int(known.columns["time_ms"][-1])
    newer = _columns(read.step_rows(connection, run, length_ms, from_ms=last_ms))
    both = {n: np.concatenate([known.columns[n][:-1], newer[n]]) for n in _NAMES}
    return _Fine(length_ms, both)


def _columns(rows: Sequence[Sequence[Any]]) -> _Columns:
    values = zip(*rows, strict=True) if rows else ([] for _ in _NAMES)
    return {
        name: np.array(column, dtype=float if name in _MAYBE else np.int64)
        for name, column in zip(_NAMES, values, strict=True)
    }


def _touched(fine: _Fine, length_ms: int, from_ms: int | None, to_ms: int | None) -> _Columns:
    """Those of the fine buckets that hold steps of the buckets of `length_ms` in the range."""
    first_ms, end_ms = 0.0, math.inf
    if from_ms is not None:
        first_ms = from_ms // length_ms * length_ms // fine.length_ms * fine.length_ms
    if to_ms is not None:
        end_ms = -(-(to_ms // length_ms + 1) * length_ms // fine.length_ms) * fine.length_ms
    begin, end = np.searchsorted(fine.columns["time_ms"], [first_ms, end_ms])
    return {name: column[begin:end] for name, column in fine.columns.items()}


def _merged(fine: _Columns, length_ms: int) -> list[StepMean]:
    """Buckets of a longer length, a multiple of that of `fine`, of which there is at least one."""
    bucket = fine["time_ms"] // length_ms
    begins = np.flatnonzero(np.diff(bucket, prepend=bucket[0] - 1))

    def total(of: _Array) -> _Array:
        added: _Array = np.add.reduceat(of, begins)
        return added

    def mean(name: str, weight: str) -> _Array:
        weights = total(fine[weight])
        known = total(np.nan_to_num(fine[name]) * fine[weight])
        means = np.full(len(begins), np.nan)
        np.divide(known, weights, out=means, where=weights > 0)
        return means

    counted = total(~np.isnan(fine["tokens"])) > 0
    merged = {
        "first_step": np.minimum.reduceat(fine["first_step"], begins),
        "step": np.maximum.reduceat(fine["step"], begins),
        "time_ms": np.maximum.reduceat(fine["time_ms"], begins),
        "steps": total(fine["steps"]),
        "losses": total(fine["losses"]),
        "loss": mean("loss", "losses"),
        "loss_min": np.fmin.reduceat(fine["loss_min"], begins),
        "loss_max": np.fmax.reduceat(fine["loss_max"], begins),
        "not_finite": total(fine["not_finite"]),
        "tokens": np.where(counted, total(np.nan_to_num(fine["tokens"])), np.nan),
        "rates": total(fine["rates"]),
        "tokens_per_s": mean("tokens_per_s", "rates"),
    }
    lists = {name: column.tolist() for name, column in merged.items()}
    for name in _MAYBE:
        lists[name] = [None if value != value else value for value in lists[name]]
    lists["tokens"] = [None if value is None else int(value) for value in lists["tokens"]]
    rows = zip(*(lists[name] for name in _NAMES), strict=True)
    return [StepMean(*row) for row in rows]
