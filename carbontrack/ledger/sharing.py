"""Time of a device that several sensors recorded, and who counts what of it. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from operator import itemgetter
from typing import NamedTuple

from carbontrack.ledger.recorded_rows import Span
from carbontrack.units import MS_PER_HOUR, MS_PER_S

_NOTHING_S = 1e-6  # that a whole window may lack: covered time is a sum of ns
LATE_S = 0.01
"""By which windows may reach beyond their recording, in s."""


class Part(NamedTuple):
    """What one of them has of some time. `key` says whose it is, `seconds` how much it covers."""

    key: int
    energy_j: float
    seconds: float


class Of(NamedTuple):
    """Which device of a board a part is of, and how much of the board that is: a MIG instance is of
    its parent, any other device is a board of its own.
    """

    device_key: int
    share: float = 1.0

    def conflicts(self, other: Of) -> bool:
        """Whether both, of one board, have some of the same."""
        return self.device_key == other.device_key or max(self.share, other.share) >= 1.0


class Stretch(NamedTuple):
    """Windows in a row, of one hour, in which the same sensors recorded a board all the time; or
    one window of which they did not all record everything.
    """

    start_ms: int
    length_s: float
    parts: tuple[Part, ...]  # by sensor, in the order of their keys
    level_s: int = 1  # of the windows that say so

    @property
    def hour_ms(self) -> int:
        """The hour that it is in."""
        return self.start_ms // MS_PER_HOUR * MS_PER_HOUR


@dataclass(frozen=True, slots=True)
class Piece:
    """What a sensor has of a window, or of a part of one."""

    start_ms: int
    length_s: float
    part: Part


@dataclass(frozen=True, slots=True)
class Lost:
    """What a sensor loses of a stretch to others."""

    key: int
    start_ms: int
    end_ms: int
    energy_j: float
    seconds: float

    @property
    def is_whole(self) -> bool:
        """Whether all of the time is lost."""
        length_s = (self.end_ms - self.start_ms) / MS_PER_S
        return self.seconds >= length_s - _NOTHING_S * max(1.0, length_s)


def pieces(
    windows: Iterable[tuple[int, Part]],
    level_s: int,
    spans_ms: Mapping[int, Span],
    cuts_ms: Iterable[int] = (),
) -> list[Piece]:
    """Windows of one device, as (start in ms, part), cut where a recording of it begins or ends,
    and at `cuts_ms`; `spans_ms` has by sensor from and to when its recording lasted.

    A minute or an hour does not say when in it a sensor was read, but it was while its recording
    lasted: what is covered of the window is spread evenly over that time.
    """
    edges = sorted({*cuts_ms, *(edge for span in spans_ms.values() for edge in span)})
    found = []
    for start_ms, part in windows:
        end_ms = start_ms + level_s * MS_PER_S
        from_ms, to_ms = spans_ms[part.key]
        begin_ms, until_ms = max(start_ms, from_ms), min(end_ms, to_ms)
        if (until_ms - begin_ms) / MS_PER_S < part.seconds - LATE_S:
            begin_ms, until_ms = start_ms, end_ms
        inside = (edge for edge in edges if begin_ms < edge < until_ms)
        for at_ms, next_ms in pairwise((begin_ms, *inside, until_ms)):
            share = (next_ms - at_ms) / (until_ms - begin_ms)
            own = Part(part.key, part.energy_j * share, part.seconds * share)
            found.append(Piece(at_ms, (next_ms - at_ms) / MS_PER_S, own))
    return sorted(found, key=lambda piece: (piece.start_ms, piece.part.key))


def stretches(
    found: Iterable[Piece], level_s: int, cuts_ms: Container[int] = frozenset()
) -> Iterator[Stretch]:
    """The stretches of one board with more than one part: of its sensors' windows of one level, or
    pieces of them, in the order of time and sensor. Each ends at the latest at one of `cuts_ms`.
    """
    going: Stretch | None = None
    for start_ms, group in groupby(found, key=lambda piece: piece.start_ms):
        of_time = list(group)
        parts = tuple(piece.part for piece in of_time)
        now = Stretch(start_ms, of_time[0].length_s, parts, level_s)
        if going is not None and start_ms not in cuts_ms and _goes_on(going, now):
            going = _together(going, now)
            continue
        if going is not None:
            yield going
        going = now if len(now.parts) > 1 else None
    if going is not None:
        yield going


def repeated(parts: Sequence[Part], length_s: float, of: Sequence[Of]) -> list[Part]:
    """What of each part one before it has, too: where all of them cover more time than there is, at
    least so much was recorded twice, and the first ones count. `of` says what each part is of.
    """
    left_of_s: dict[int, float] = defaultdict(lambda: length_s)
    board_left_s = length_s
    found = []
    for part, on in zip(parts, of, strict=True):
        own_s = min(part.seconds, left_of_s[on.device_key])
        left_of_s[on.device_key] -= own_s
        # All instances of a board fit into it, but for sums in another order.
        fits = own_s * on.share <= board_left_s + _NOTHING_S
        lost_s = part.seconds - (own_s if fits else board_left_s / on.share)
        board_left_s = max(0.0, board_left_s - own_s * on.share)
        share = lost_s / part.seconds if lost_s else 0.0
        found.append(Part(part.key, part.energy_j * share, lost_s))
    return found


def devices_at_once(read: Iterable[tuple[int, int, Iterable[int]]]) -> set[int]:
    """The keys of the devices that two of these read at the same time: each of them is (from and to
    when, in ms, the keys of its devices).
    """
    found: set[int] = set()
    until_ms: dict[int, int] = {}
    for from_ms, to_ms, keys in sorted(read, key=itemgetter(0)):
        for key in keys:
            before_ms = until_ms.get(key, from_ms)
            if before_ms > from_ms:
                found.add(key)
            until_ms[key] = max(before_ms, to_ms)
    return found


def total(key: int, parts: Sequence[Part]) -> Part:
    """Parts added up; `key` says whose they are."""
    return Part(key, sum(one.energy_j for one in parts), sum(one.seconds for one in parts))


def unsure(parts: Sequence[Part], length_s: float, of: Sequence[Of]) -> list[Part]:
    """What of each part one before it may have, too, beyond what is `repeated`: where they do not
    cover all of the time, they may have been read at the same times or not.
    """
    found = []
    counted: list[tuple[Of, float]] = []
    for part, lost, on in zip(parts, repeated(parts, length_s, of), of, strict=True):
        before_s = sum(
            seconds * min(1.0, other.share / on.share)
            for other, seconds in counted
            if on.conflicts(other)
        )
        counted.append((on, part.seconds - lost.seconds))
        more_s = max(0.0, min(part.seconds, before_s) - lost.seconds)
        share = more_s / part.seconds if more_s else 0.0
        found.append(Part(part.key, part.energy_j * share, more_s))
    return found


def divided(lost: Sequence[Lost], windows: Mapping[int, Part], level_ms: int) -> dict[int, Part]:
    """How much of what a sensor loses in an hour is in each of its windows of `level_ms`, by their
    starts; it is no more than they have, and adds up to all of it.

    A window of whose time all is lost loses all that it has. What is left is in the first and the
    last one of a stretch, by time.
    """
    wanted_j: dict[int, float] = defaultdict(float)
    wanted_s: dict[int, float] = defaultdict(float)
    for one in _joined(lost):
        touched = range(one.start_ms // level_ms * level_ms, one.end_ms, level_ms)
        inside_ms = {at: min(one.end_ms, at + level_ms) - max(one.start_ms, at) for at in touched}
        whole = [at for at in touched if one.is_whole and inside_ms[at] == level_ms]
        for at in whole:
            wanted_j[at] += windows[at].energy_j if at in windows else 0.0
            wanted_s[at] += windows[at].seconds if at in windows else 0.0
        edges = [at for at in touched if at not in whole]
        edges_ms = sum(inside_ms[at] for at in edges)
        left_j = one.energy_j - sum(windows[at].energy_j for at in whole if at in windows)
        left_s = one.seconds - sum(windows[at].seconds for at in whole if at in windows)
        for at in edges:
            wanted_j[at] += max(0.0, left_j) * inside_ms[at] / edges_ms
            wanted_s[at] += max(0.0, left_s) * inside_ms[at] / edges_ms
    energies_j = _fitted(wanted_j, {at: part.energy_j for at, part in windows.items()})
    seconds = _fitted(wanted_s, {at: part.seconds for at, part in windows.items()})
    return {at: Part(lost[0].key, energies_j[at], seconds.get(at, 0.0)) for at in energies_j}


def _joined(lost: Iterable[Lost]) -> Iterator[Lost]:
    """Those that go on where another one ended as one, if all of both is lost."""
    going: Lost | None = None
    for one in sorted(lost, key=lambda one: one.start_ms):
        if going and going.end_ms == one.start_ms and going.is_whole and one.is_whole:
            energy_j, seconds = going.energy_j + one.energy_j, going.seconds + one.seconds
            going = replace(going, end_ms=one.end_ms, energy_j=energy_j, seconds=seconds)
            continue
        if going is not None:
            yield going
        going = one
    if going is not None:
        yield going


def _fitted(wanted: Mapping[int, float], room: Mapping[int, float]) -> dict[int, float]:
    """Amounts where they are wanted as far as there is room, else where there is some."""
    found = {at: min(amount, room.get(at, 0.0)) for at, amount in wanted.items()}
    left = sum(wanted.values()) - sum(found.values())
    for at in (*wanted, *sorted(room.keys() - wanted.keys())):
        if left <= 0:
            break
        more = min(left, room.get(at, 0.0) - found.get(at, 0.0))
        found[at] = found.get(at, 0.0) + more
        left -= more
    return found


def _goes_on(going: Stretch, now: Stretch) -> bool:
    return (
        now.start_ms == going.start_ms + going.length_s * MS_PER_S
        and now.hour_ms == going.hour_ms
        and [part.key for part in now.parts] == [part.key for part in going.parts]
        and all(
            part.seconds >= one.length_s - _NOTHING_S for one in (going, now) for part in one.parts
        )
    )


def _together(going: Stretch, now: Stretch) -> Stretch:
    parts = (
        Part(a.key, a.energy_j + b.energy_j, a.seconds + b.seconds)
        for a, b in zip(going.parts, now.parts, strict=True)
    )
    length_s = going.length_s + now.length_s
    return Stretch(going.start_ms, length_s, tuple(parts), going.level_s)
