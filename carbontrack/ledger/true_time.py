"""The true time of what a recording wrote by a clock that was off. Pure.

What is stored stays as it was written; whoever reads it adds the offset that was measured then, in
whole seconds, so that a window of a second stays one. An offset of 1 s or less is left alone, and
one that is not known better than it is large.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from carbontrack.ledger.clock import is_noted
from carbontrack.ledger.recorded_rows import Recording, Shifts, Span
from carbontrack.ledger.rows import ClockOffset
from carbontrack.ledger.window import FIRST_MS, LAST_MS
from carbontrack.units import MS_PER_S


class Piece(NamedTuple):
    """A stretch of time by the node's clock, and what is to be added to times in it, in ms."""

    from_ms: int
    to_ms: int
    shift_ms: int


class Segment(NamedTuple):
    """A stretch of a window by the node's clock, and the start of the true window that it is in."""

    from_ms: int
    to_ms: int
    start_ms: int


def shifts_of(offsets: Iterable[ClockOffset], sets_ms: Sequence[int] = ()) -> Shifts:
    """What is to be added to the times of a recording; empty where that is nothing.

    An offset holds from the full second after it was measured up to the next one; the first one
    before that, too. Of those in a row that agree within their errors the best known one holds.
    Recordings go on by the clock as it was when they began: `sets_ms` say how far that of the
    system, of which the offsets are, was set since.
    """
    known: list[tuple[int, ClockOffset]] = []
    for one in sorted(_of_recording(offsets, sets_ms), key=lambda one: one.time_ms):
        from_ms = -(-one.time_ms // MS_PER_S) * MS_PER_S if known else FIRST_MS
        if known and _agree(one, known[-1][1]):
            from_ms, before = known.pop()
            one = min(before, one, key=lambda one: one.error_ms)
        elif known and known[-1][0] == from_ms:
            known.pop()  # of one second the newest
        known.append((from_ms, one))
    found = [(from_ms, _shift_ms(one)) for from_ms, one in known]
    changes = [one for n, one in enumerate(found) if n == 0 or found[n - 1][1] != one[1]]
    return tuple(changes) if any(shift_ms for _, shift_ms in changes) else ()


def _agree(one: ClockOffset, other: ClockOffset) -> bool:
    """Whether two measurements may be of one offset: a slow network, or a busy node, takes both its
    time and its exactness.
    """
    return abs(one.offset_ms - other.offset_ms) <= one.error_ms + other.error_ms


def _shift_ms(one: ClockOffset) -> int:
    return round(one.offset_ms / MS_PER_S) * MS_PER_S if is_noted(one) else 0


def _of_recording(offsets: Iterable[ClockOffset], sets_ms: Sequence[int]) -> Iterator[ClockOffset]:
    """Offsets of the clock that a recording goes on by: it drifts, but is never set, so each is the
    one that is nearest to the one before.
    """
    before_ms: int | None = None
    for one in sorted(offsets, key=lambda one: one.time_ms + one.offset_ms):
        set_ms = 0
        if before_ms is not None:
            far = [(abs(one.offset_ms + by_ms - before_ms), by_ms) for by_ms in (0, *sets_ms)]
            set_ms = min(far)[1]
        before_ms = one.offset_ms + set_ms
        yield replace(one, time_ms=one.time_ms - set_ms, offset_ms=before_ms)


def pieces_of(shifts: Shifts) -> list[Piece]:
    """All of time, in order."""
    found = shifts or ((FIRST_MS, 0),)
    ends = [*(from_ms for from_ms, _ in found[1:]), LAST_MS]
    return [
        Piece(from_ms, to_ms, shift_ms)
        for (from_ms, shift_ms), to_ms in zip(found, ends, strict=True)
    ]


def shift_at(shifts: Shifts, recorded_ms: int) -> int:
    """What is to be added to a time by the node's clock, in ms."""
    if not shifts:
        return 0
    return shifts[max(0, bisect_right(shifts, (recorded_ms, LAST_MS)) - 1)][1]


def farthest_ms(clocks: Mapping[int, Shifts]) -> int:
    """The most that is added to a time of these recordings, or taken off, in ms."""
    of_all = (abs(shift_ms) for shifts in clocks.values() for _, shift_ms in shifts)
    return max(of_all, default=0)


def true_ms(shifts: Shifts, recorded_ms: int) -> int:
    """The true time of one by the node's clock."""
    return recorded_ms + shift_at(shifts, recorded_ms)


def recorded_ms(shifts: Shifts, time_ms: int) -> int:
    """What the node's clock said at a true time: the last of such times where it was set back; the
    first that came after where it was set forward over all of them.
    """
    if not shifts:
        return time_ms
    for piece in reversed(pieces_of(shifts)):
        if time_ms - piece.shift_ms >= piece.from_ms:
            return min(time_ms - piece.shift_ms, piece.to_ms)
    return time_ms - shifts[0][1]


def recorded_spans(shifts: Shifts, span_ms: Span) -> list[Span]:
    """The stretches by the node's clock of which all true times are in a span, and no others: spans
    that meet have each recorded time once.
    """
    found = [
        (max(one.from_ms, span_ms[0] - one.shift_ms), min(one.to_ms, span_ms[1] - one.shift_ms))
        for one in pieces_of(shifts)
    ]
    return [(from_ms, to_ms) for from_ms, to_ms in found if from_ms < to_ms]


def segments_of(shifts: Shifts, start_ms: int, length_ms: int) -> list[Segment]:
    """A window by the node's clock, divided where true windows of its length begin."""
    end_ms = start_ms + length_ms
    found: list[Segment] = []
    for piece in pieces_of(shifts):
        at_ms, until_ms = max(piece.from_ms, start_ms), min(piece.to_ms, end_ms)
        while at_ms < until_ms:
            window_ms = (at_ms + piece.shift_ms) // length_ms * length_ms
            next_ms = min(until_ms, window_ms + length_ms - piece.shift_ms)
            if found and found[-1].start_ms == window_ms:
                found.append(found.pop()._replace(to_ms=next_ms))
            else:
                found.append(Segment(at_ms, next_ms, window_ms))
            at_ms = next_ms
    return found


def corrected(recording: Recording, shifts: Shifts) -> Recording:
    """The recording at its true times."""
    if not shifts:
        return recording
    ended_ms = recording.ended_ms
    return replace(
        recording,
        started_ms=true_ms(shifts, recording.started_ms),
        ended_ms=None if ended_ms is None else true_ms(shifts, ended_ms),
        heartbeat_ms=true_ms(shifts, recording.heartbeat_ms),
        shifts=shifts,
    )
