"""How long windows are kept, by their length: the ages of `--keep`, and what these mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from carbontrack.errors import CarbontrackError
from carbontrack.ledger import KEEP
from carbontrack.ledger.batch import Batch
from carbontrack.ledger.window import LEVELS_S
from carbontrack.units import MS_PER_DAY, age_ms

EVERYTHING = "all"
_EXAMPLE = f"Example: --keep {KEEP} keeps seconds for 7 days, minutes for 90, hours for ever."
_FINE_S = {f"{level_s}s": level_s for level_s in LEVELS_S[:-1]}

Keep = Mapping[int, int]
"""How long windows are kept in ms, by level in s. One that is not there is kept for ever."""


def parse_keep(text: str) -> dict[int, int]:
    """The ages of "1s:7d,60s:90d", or of "all".

    Raises CarbontrackError for anything else, and where minutes would go before seconds.
    """
    keep: dict[int, int] = {}
    for part in () if text == EVERYTHING else text.split(","):
        level, _, age = part.strip().partition(":")
        try:
            level_s, kept_ms = _FINE_S[level], age_ms(age)
        except (KeyError, ValueError):
            raise CarbontrackError(f"--keep {text}: invalid.", hint=_EXAMPLE) from None
        if level_s in keep:
            raise CarbontrackError(f"--keep {text}: invalid.", hint=_EXAMPLE)
        keep[level_s] = kept_ms
    ages = [keep[level_s] for level_s in _FINE_S.values() if level_s in keep]
    if ages != sorted(ages):
        what = f"--keep {text}: minutes have to be kept at least as long as seconds."
        raise CarbontrackError(what, hint=_EXAMPLE)
    return keep


def first_kept_ms(keep: Keep, level_s: int, now_ms: int) -> int | None:
    """From when on windows of a level are kept: whole days, of UTC. None if all are."""
    age = keep.get(level_s)
    return None if age is None else (now_ms - age) // MS_PER_DAY * MS_PER_DAY


def without_late(batch: Batch, keep: Keep, now_ms: int) -> tuple[Batch, int]:
    """A batch without the rows of windows that are not kept any more, and how many these are."""
    firsts = {level_s: first_kept_ms(keep, level_s, now_ms) or 0 for level_s in keep}
    windows = tuple(
        (uuid, window)
        for uuid, window in batch.windows
        if window.start_ms >= firsts.get(window.level_s, 0)
    )
    segments = tuple(
        (uuid, segment)
        for uuid, segment in batch.segments
        if segment.start_ms >= firsts.get(LEVELS_S[0], 0)
    )
    late = len(batch.windows) - len(windows) + len(batch.segments) - len(segments)
    return (replace(batch, windows=windows, segments=segments) if late else batch), late
