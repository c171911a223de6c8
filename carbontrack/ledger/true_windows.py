"""Minutes and hours of a recording whose clock was off, as true ones: each goes to the true windows
that it touches, so that what is added up of them stays as it was recorded.

What of it is in each of these is known from shorter windows; where there are none, it is by time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from carbontrack.ledger import coarser, stored_windows
from carbontrack.ledger.coarser import Reader
from carbontrack.ledger.recorded_rows import Shifts, Span
from carbontrack.ledger.true_time import Segment, segments_of
from carbontrack.ledger.window import LEVELS_S
from carbontrack.units import MS_PER_S


class Stored(NamedTuple):
    """What is known of a window: of which sensor it is, when it begins, and its sums."""

    sensor_key: int
    start_ms: int
    energy_j: float | None
    energy_s: float


class Share(NamedTuple):
    """What of a window is in a true one, which begins at `start_ms`."""

    start_ms: int
    energy: float
    time: float


_ROUNDING = 1e-12  # of a window: so much may be left of one of which all is known to be elsewhere

_Found = Mapping[tuple[int, Span], tuple[float, float]]
"""Energy in J and the time that it accounts for in s, by sensor and stretch of time; what has no
windows is missing.
"""


def shares(
    connection: Connection,
    readers: Mapping[int, Reader],
    clocks: Mapping[int, Shifts],
    level_s: int,
    rows: Sequence[Stored],
) -> list[list[Share]]:
    """Where each of these windows of a level belongs; all shares of one are 1 together. `readers`
    have the times of their recordings by the clocks of these.
    """
    length_ms = level_s * MS_PER_S
    divided = [_segments(readers[row.sensor_key], clocks, row.start_ms, length_ms) for row in rows]
    wanted: dict[int, set[Span]] = defaultdict(set)
    for row, segments in zip(rows, divided, strict=True):
        for one in _smaller(segments) if len(segments) > 1 else ():
            wanted[readers[row.sensor_key].recording_key].add((one.from_ms, one.to_ms))
    found = _within(connection, readers, level_s, wanted)
    return [
        _shared(row, readers[row.sensor_key], level_s, segments, found)
        for row, segments in zip(rows, divided, strict=True)
    ]


def _segments(
    reader: Reader, clocks: Mapping[int, Shifts], start_ms: int, length_ms: int
) -> list[Segment]:
    shifts = clocks.get(reader.recording_key)
    if shifts is None:
        return [Segment(start_ms, start_ms + length_ms, start_ms)]
    return segments_of(shifts, start_ms, length_ms)


def _smaller(segments: Sequence[Segment]) -> list[Segment]:
    """All but the longest: that one has what is left."""
    longest = max(segments, key=_length)
    return [one for one in segments if one is not longest]


def _length(segment: Segment) -> int:
    return segment.to_ms - segment.from_ms


def _shared(
    row: Stored, reader: Reader, level_s: int, segments: Sequence[Segment], found: _Found
) -> list[Share]:
    if len(segments) == 1:
        return [Share(segments[0].start_ms, 1.0, 1.0)]
    left = Share(max(segments, key=_length).start_ms, 1.0, 1.0)
    parts: list[Share] = []
    for one in _smaller(segments):
        span_ms = one.from_ms, one.to_ms
        known = found.get((row.sensor_key, span_ms))
        if known is None:
            by_time = _by_time(row, reader, level_s, span_ms)
            energy, time = by_time, by_time
        else:
            energy, time = _share(known[0], row.energy_j or 0.0), _share(known[1], row.energy_s)
        energy, time = min(energy, left.energy), min(time, left.time)
        parts.append(Share(one.start_ms, energy, time))
        left = Share(left.start_ms, left.energy - energy, left.time - time)
    return [one for one in (left, *parts) if max(one.energy, one.time) > _ROUNDING]


def _share(part: float, whole: float) -> float:
    return max(0.0, part / whole) if whole > 0 else 0.0


def _by_time(row: Stored, reader: Reader, level_s: int, span_ms: Span) -> float:
    begin_ms, end_ms = coarser.time_of(reader, row.start_ms, level_s, row.energy_s)
    inside_ms = min(end_ms, span_ms[1]) - max(begin_ms, span_ms[0])
    return max(0, inside_ms) / (end_ms - begin_ms)


def _within(
    connection: Connection,
    readers: Mapping[int, Reader],
    level_s: int,
    wanted: Mapping[int, set[Span]],
) -> _Found:
    """What windows shorter than those of a level have in stretches of time by the clocks of
    recordings, which are known by their keys.
    """
    shorter = [one for one in LEVELS_S if one < level_s]
    if not shorter or not wanted:
        return {}
    length_ms = shorter[-1] * MS_PER_S
    touched: dict[tuple[int, int], list[Span]] = defaultdict(list)
    for key, spans in wanted.items():
        for from_ms, to_ms in spans:
            for at_ms in range(from_ms // length_ms * length_ms, to_ms, length_ms):
                touched[key, at_ms].append((from_ms, to_ms))
    asked: dict[int, set[int]] = defaultdict(set)
    divided: dict[int, set[Span]] = defaultdict(set)
    for (key, at_ms), spans_ms in touched.items():
        asked[key].add(at_ms)
        divided[key] |= {_common(span, at_ms, length_ms) for span in spans_ms}
        divided[key].discard((at_ms, at_ms + length_ms))
    parts = _within(connection, readers, shorter[-1], divided)
    found: dict[tuple[int, Span], tuple[float, float]] = {}
    for row in stored_windows.windows_at(connection, shorter[-1], asked):
        own = Stored(*row)
        reader = readers[own.sensor_key]
        for span_ms in touched[reader.recording_key, own.start_ms]:
            inside = _common(span_ms, own.start_ms, length_ms)
            energy_j, energy_s = own.energy_j or 0.0, own.energy_s
            if inside[1] - inside[0] < length_ms:
                by_time = _by_time(own, reader, shorter[-1], inside)
                energy_j, energy_s = parts.get(
                    (own.sensor_key, inside), (energy_j * by_time, energy_s * by_time)
                )
            before = found.get((own.sensor_key, span_ms), (0.0, 0.0))
            found[own.sensor_key, span_ms] = before[0] + energy_j, before[1] + energy_s
    return found


def _common(span_ms: Span, start_ms: int, length_ms: int) -> Span:
    """What of a stretch of time is in a window."""
    return max(span_ms[0], start_ms), min(span_ms[1], start_ms + length_ms)
