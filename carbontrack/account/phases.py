"""A run by the phases that its job logged: spans of time, and what its devices used in each. Pure.

A phase lasts until the next one begins, or its recording ends; where there is none it is *other*.
What is in a window that several phases share is split by their time in it, so that all phases add
up to the run.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from operator import itemgetter
from typing import NamedTuple

from carbontrack.ledger.outcome import status_of
from carbontrack.ledger.recorded_rows import Event, Recording, Span, Usage
from carbontrack.ledger.window import LEVELS_S
from carbontrack.units import MS_PER_S
from carbontrack.vocabulary import EventKind, Status

OTHER = "other"
OUTSIDE = ""
"""What is not in the part of a run that a timeline is of; no phase is called so."""
_HOUR_S = LEVELS_S[-1]
_NEGLIGIBLE_S = 1e-3  # what windows and their parts may differ by, through rounding
_NEGLIGIBLE_J = 5e-4


@dataclass(frozen=True, slots=True)
class Timeline:
    """Which phase it is: `names[i]` from `starts_ms[i]` up to the next start, or to `end_ms`."""

    starts_ms: tuple[int, ...]
    names: tuple[str, ...]
    end_ms: int

    @classmethod
    def of(cls, events: Iterable[Event], *, from_ms: int, to_ms: int) -> Timeline:
        """Between two times, from the events of a run in order."""
        starts, names = [from_ms], [OTHER]
        for event in events:
            if event.kind != EventKind.PHASE or event.time_ms >= to_ms:
                continue
            name = _name(event)
            if event.time_ms <= starts[-1]:
                names[-1] = name
            elif name != names[-1]:
                starts.append(event.time_ms)
                names.append(name)
        return cls(tuple(starts), tuple(names), max(from_ms, to_ms))

    def amid(self, from_ms: int, to_ms: int) -> Timeline:
        """The same with what is before and after it, between these times, as *outside*."""
        starts, names = self.starts_ms, self.names
        if from_ms < starts[0]:
            starts, names = (from_ms, *starts), (OUTSIDE, *names)
        if self.end_ms < to_ms:
            starts, names = (*starts, self.end_ms), (*names, OUTSIDE)
        return Timeline(starts, names, max(self.end_ms, to_ms))

    def spans(self) -> dict[str, tuple[Span, ...]]:
        """The spans of each phase, in the order in which they first begin, *other* last."""
        found: dict[str, list[Span]] = {}
        for name, span in zip(self.names, pairwise((*self.starts_ms, self.end_ms)), strict=True):
            found.setdefault(name, []).append(span)
        ordered = sorted(found, key=lambda name: name == OTHER)
        return {name: tuple(found[name]) for name in ordered}

    def lengths_ms(self, begin_ms: int, until_ms: int) -> dict[str, int]:
        """How long each phase is in a stretch of time, of which only what is in the run counts."""
        begin_ms, until_ms = max(begin_ms, self.starts_ms[0]), min(until_ms, self.end_ms)
        at = max(0, bisect.bisect_right(self.starts_ms, begin_ms) - 1)
        found: dict[str, int] = {}
        while begin_ms < until_ms:
            last = at + 1 == len(self.starts_ms)
            end_ms = until_ms if last else min(until_ms, self.starts_ms[at + 1])
            found[self.names[at]] = found.get(self.names[at], 0) + end_ms - begin_ms
            begin_ms, at = end_ms, at + 1
        return found

    def at(self, time_ms: int) -> str:
        """The phase at a time; before the first that of the start, after the last that of the end.

        A step belongs to the phase in which it ended, and so that moment to the phase before it.
        """
        return self.names[max(0, bisect.bisect_left(self.starts_ms, time_ms) - 1)]


def close_open(
    logged: Iterable[tuple[int, Event]], recordings: Iterable[Recording], *, now_ms: int
) -> list[Event]:
    """Phase events in order, each with the key of its recording, and one more where a recording
    ended in a phase that it had logged: a job that dies closes none.
    """
    ends = (
        (one.end_ms, one.key, None)
        for one in recordings
        if status_of(one, now_ms=now_ms) is not Status.RUNNING
    )
    found: list[Event] = []
    whose = 0  # the recording that logged the phase that is open
    changes = ((event.time_ms, key, event) for key, event in logged)
    for time_ms, key, event in sorted((*changes, *ends), key=itemgetter(0)):
        if event is not None:
            found.append(event)
            whose = key
        elif key == whose:
            found.append(Event(time_ms, EventKind.PHASE, ""))
    return found


def _name(event: Event) -> str:
    return str(event.data.get("name") or event.message or OTHER)


class Used(NamedTuple):
    """What a device used in a window."""

    device_key: int
    start_ms: int
    energy_j: float | None
    energy_s: float
    sampled_s: float
    samples: float


Finer = Callable[[int, int, int], Sequence[Used]]
"""The windows of a level (in s) between two times, of all devices; none where they were dropped."""


def usages_by_phase(
    hours: Sequence[Usage], timeline: Timeline, finer: Finer
) -> tuple[dict[str, list[Usage]], int]:
    """What each device used in each hour of each phase, and the length in s of the longest window
    that was split by time.

    `hours` are those of some devices of the run; `finer` is asked where phases share a window.
    """
    split = _Split(timeline, finer)
    by_start: dict[int, list[Used]] = {}
    for usage in hours:
        row = Used(*(getattr(usage, name) for name in Used._fields))
        by_start.setdefault(usage.start_ms, []).append(row)
    for start_ms in sorted(by_start):
        split.place(by_start[start_ms], start_ms, _HOUR_S, start_ms)
    flags = {(usage.device_key, usage.start_ms): usage.flags for usage in hours}
    found: dict[str, list[Usage]] = {name: [] for name in timeline.spans()}
    for (name, device_key, hour_ms), total in split.sums.items():
        found.setdefault(name, []).append(total.usage(device_key, hour_ms, flags))
    return found, split.level_s


@dataclass(slots=True)
class _Sum:
    energy_j: float | None = None
    energy_s: float = 0.0
    sampled_s: float = 0.0
    samples: float = 0.0

    def add(self, row: Used, share: float = 1.0) -> None:
        if row.energy_j is not None:
            self.energy_j = (self.energy_j or 0.0) + row.energy_j * share
        self.energy_s += row.energy_s * share
        self.sampled_s += row.sampled_s * share
        self.samples += row.samples * share

    def usage(self, device_key: int, hour_ms: int, flags: dict[tuple[int, int], int]) -> Usage:
        return Usage(
            device_key=device_key,
            start_ms=hour_ms,
            energy_j=self.energy_j,
            energy_s=self.energy_s,
            sampled_s=self.sampled_s,
            samples=round(self.samples),
            power_min_w=None,
            power_max_w=None,
            util_pct=None,
            flags=flags[device_key, hour_ms],
        )


@dataclass(slots=True)
class _Split:
    """Adds up windows by phase, device and hour."""

    timeline: Timeline
    finer: Finer
    sums: dict[tuple[str, int, int], _Sum] = field(default_factory=dict)
    level_s: int = LEVELS_S[0]
    lengths: dict[tuple[tuple[int, ...], int], dict[str, int]] = field(default_factory=dict)

    def place(self, rows: Sequence[Used], start_ms: int, level_s: int, hour_ms: int) -> None:
        """Windows of several devices that begin together."""
        lengths = self.timeline.lengths_ms(start_ms, start_ms + level_s * MS_PER_S)
        if len(lengths) < 2 or level_s == LEVELS_S[0]:
            for row in rows:
                self._add(row, lengths, hour_ms)
            return
        below_s = max(level for level in LEVELS_S if level < level_s)
        rows = _united(rows)
        keys = {row.device_key for row in rows}
        parts: dict[int, list[Used]] = {}
        for part in self.finer(below_s, start_ms, start_ms + level_s * MS_PER_S):
            if part.device_key in keys:
                parts.setdefault(part.start_ms, []).append(part)
        for part_ms, beside in parts.items():
            self.place(beside, part_ms, below_s, hour_ms)
        of_device: dict[int, list[Used]] = {}
        for some in parts.values():
            for part in some:
                of_device.setdefault(part.device_key, []).append(part)
        slots = range(start_ms, start_ms + level_s * MS_PER_S, below_s * MS_PER_S)
        for row in rows:
            mine = of_device.get(row.device_key, ())
            rest = _without(row, mine)
            if rest is not None:
                known = {part.start_ms for part in mine}
                missing = tuple(at for at in slots if at not in known)
                if missing:
                    self.level_s = max(self.level_s, level_s)
                self._add(rest, self._lengths_ms(missing, below_s) or lengths, hour_ms)

    def _lengths_ms(self, slots: tuple[int, ...], level_s: int) -> dict[str, int]:
        """Of a thousand devices most lack the same."""
        found = self.lengths.get((slots, level_s))
        if found is None:
            found = self.lengths[slots, level_s] = {}
            for at in slots:
                of_slot = self.timeline.lengths_ms(at, at + level_s * MS_PER_S)
                for name, length_ms in of_slot.items():
                    found[name] = found.get(name, 0) + length_ms
        return found

    def _add(self, row: Used, lengths: dict[str, int], hour_ms: int) -> None:
        whole_ms = sum(lengths.values())
        shares = {name: length_ms / whole_ms for name, length_ms in lengths.items()}
        for name, share in shares.items() or _all_of(self.timeline.at(row.start_ms)):
            total = self.sums.setdefault((name, row.device_key, hour_ms), _Sum())
            total.add(row, share)


def _all_of(name: str) -> Iterator[tuple[str, float]]:
    yield name, 1.0


def _united(rows: Sequence[Used]) -> Sequence[Used]:
    """Windows of one time, those of a device together."""
    if len({row.device_key for row in rows}) == len(rows):
        return rows
    sums: dict[int, _Sum] = {}
    for row in rows:
        sums.setdefault(row.device_key, _Sum()).add(row)
    return [
        Used(key, rows[0].start_ms, of.energy_j, of.energy_s, of.sampled_s, of.samples)
        for key, of in sums.items()
    ]


def _without(row: Used, parts: Sequence[Used]) -> Used | None:
    """What of a window its finer ones do not account for; None if they are all of it."""
    total = _Sum()
    for part in parts:
        total.add(part)
    energy_s, sampled_s = row.energy_s - total.energy_s, row.sampled_s - total.sampled_s
    energy_j = None if row.energy_j is None else row.energy_j - (total.energy_j or 0.0)
    if max(energy_s, sampled_s) < _NEGLIGIBLE_S and abs(energy_j or 0.0) < _NEGLIGIBLE_J:
        return None
    samples = row.samples - total.samples
    return Used(row.device_key, row.start_ms, energy_j, energy_s, sampled_s, samples)
