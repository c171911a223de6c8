"""The pyramid in the ledger: what to read of it."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Select, select

from carbontrack.ledger import models
from carbontrack.ledger.recorded_rows import Run, Span
from carbontrack.ledger.window import LEVELS_S
from carbontrack.units import MS_PER_DAY, MS_PER_HOUR, MS_PER_S

# Each from 1 s on is made of whole windows of some level.
_ROUND_MS = (
    *(1, 2, 5, 10, 20, 50, 100, 200, 500),
    *(MS_PER_S * s for s in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800)),
    *(MS_PER_HOUR * h for h in (1, 2, 6, 12)),
)


def bucket_ms(length_ms: int, points: int, *, least_ms: int = 1) -> int:
    """The shortest round length in ms of which at most `points` touch a range this long, wherever
    it begins; whole days where there is no other.
    """
    between = max(1, points - 1)  # one more is touched than fits
    fits = (b for b in _ROUND_MS if b >= least_ms and length_ms <= between * b)
    return next(fits, -(-length_ms // (between * MS_PER_DAY)) * MS_PER_DAY)


def mergeable_ms(length_ms: int, points: int) -> int:
    """About as `bucket_ms`, or shorter: of such buckets all longer round ones can be made."""
    longest = bucket_ms(length_ms, points)
    return max(b for b in _ROUND_MS if b <= longest and all(c % b == 0 for c in _ROUND_MS if c > b))


def range_of(run: Run, from_ms: int | None, to_ms: int | None) -> Span:
    """All of the run where no time is given; to its last heartbeat if its end was not seen."""
    begin_ms = run.started_ms if from_ms is None else from_ms
    return begin_ms, run.end_ms if to_ms is None else to_ms


def level_for(bucket_s: int) -> int:
    """The coarsest level, in seconds, whose windows add up to buckets of this length."""
    return max(level_s for level_s in LEVELS_S if bucket_s % level_s == 0)


def keys_of(connection: Connection, run_key: int) -> Sequence[int]:
    """The keys of a run's recordings, as values: PostgreSQL finds packed seconds by these alone."""
    return connection.scalars(recordings_of(run_key)).all()


def recordings_of(run_key: int) -> Select[int]:
    """The keys of a run's recordings."""
    return select(models.Recording.key).where(models.Recording.run_key == run_key)
