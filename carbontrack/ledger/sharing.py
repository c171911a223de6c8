"""Time of a device that several sensors recorded, and who counts what of it. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from carbontrack.units import MS_PER_HOUR, MS_PER_S

_NOTHING_S = 1e-6  # that a whole window may lack: covered time is a sum of ns


@dataclass(frozen=True, slots=True)
class Part:
    """What one of them has of some time. `key` says whose it is, `seconds` how much it covers."""

    key: int
    energy_j: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Stretch:
    """Windows in a row, of one hour, in which the same sensors recorded a device all the time; or
    one window of which they did not all record everything.
    """

    start_ms: int
    length_s: float
    parts: tuple[Part, ...]  # by sensor, in the order of their keys

    @property
    def hour_ms(self) -> int:
        """The hour that it is in."""
        return self.start_ms // MS_PER_HOUR * MS_PER_HOUR


def stretches(
    windows: Iterable[tuple[int, Part]], level_s: int, cuts_ms: Container[int] = frozenset()
) -> Iterator[Stretch]:
    """The stretches of one device with more than one part: of its sensors' windows of one level as
    (start in ms, part), in the order of time and sensor. Each ends at the latest at one of
    `cuts_ms`.
    """
    going: Stretch | None = None
    for start_ms, found in groupby(windows, key=lambda window: window[0]):
        now = Stretch(start_ms, level_s, tuple(part for _, part in found))
        if going is not None and start_ms not in cuts_ms and _goes_on(going, now):
            going = _together(going, now)
            continue
        if going is not None:
            yield going
        going = now if len(now.parts) > 1 else None
    if going is not None:
        yield going


def repeated(parts: Sequence[Part], length_s: float) -> list[Part]:
    """What of each part one before it has, too: where all of them cover more time than there is, at
    least so much was recorded twice, and the first ones count.
    """
    left_s = length_s
    found = []
    for part in parts:
        lost_s = max(0.0, part.seconds - left_s)
        left_s = max(0.0, left_s - part.seconds)
        share = lost_s / part.seconds if lost_s else 0.0
        found.append(Part(part.key, part.energy_j * share, lost_s))
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
    return Stretch(going.start_ms, going.length_s + now.length_s, tuple(parts))
