"""Which seconds are shipped beside minutes and hours. Standard library only, for the recorder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from carbontrack.keys import OFF, SHIP_SECONDS
from carbontrack.units import MS_PER_HOUR, age_ms


@dataclass(frozen=True, slots=True)
class Seconds:
    """Of some runs, by their ids, all; of every other one those that are younger than so long, by
    whole hours: an hour that a ledger has a part of adds up to something else.
    """

    runs: frozenset[str] = frozenset()
    younger_ms: int = 0  # 0: none

    def first_ms(self, run_id: str, now_ms: int) -> int | None:
        """From when on those of a run are shipped, a whole hour; None if none are."""
        if run_id in self.runs:
            return 0
        if not self.younger_ms:
            return None
        return max(0, now_ms - self.younger_ms) // MS_PER_HOUR * MS_PER_HOUR


NO_SECONDS = Seconds()
EVERY_SECOND = Seconds(younger_ms=1 << 53)


def younger_ms(setting: Any) -> int:
    """The age up to which the setting `ship_seconds` lets seconds be shipped: 0 where it is off,
    the default's where it is None. Raises ValueError for what is no age.
    """
    text = SHIP_SECONDS if setting is None else str(setting)
    return 0 if text == OFF else age_ms(text)
