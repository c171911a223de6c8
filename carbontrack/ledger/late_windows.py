"""Windows that come into recordings of which this ledger has some already."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from carbontrack.ledger import kept_overlaps
from carbontrack.ledger.join import is_better
from carbontrack.ledger.settle import has_windows, settle
from carbontrack.ledger.tables import WINDOWS
from carbontrack.ledger.transaction import Transaction
from carbontrack.ledger.window import LEVELS_S
from carbontrack.units import MS_PER_HOUR

_Row = tuple[Any, ...]
_Hour = tuple[int, int, int]  # recording, sensor, start in ms
_COLUMNS = WINDOWS.columns
_recording, _level, _start_ms, _sensor = (itemgetter(_COLUMNS.index(n)) for n in WINDOWS.key)


class LateWindows:
    """Writes windows, of each recording the longer ones first; of two of one sensor and time the
    better one stays. `settle` then brings the levels of what was changed into line.
    """

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._shared: set[int] = set()
        self._changed: dict[_Hour, None] = {}
        self._whole_here: set[_Hour] = set()  # of which this ledger has more
        self._dropped: dict[tuple[_Hour, int], bool] = {}

    def expect(self, recording_key: int) -> None:
        """Say that this ledger may have windows of a recording."""
        self._shared.add(recording_key)

    def put(self, rows: Sequence[_Row]) -> None:
        """Write windows, with the columns of `WINDOWS` in order."""
        self._transaction.put(WINDOWS, [row for row in rows if _recording(row) not in self._shared])
        late = [row for row in rows if _recording(row) in self._shared]
        for _, of_level in groupby(late, key=lambda row: (_recording(row), _level(row))):
            self._put_late(list(of_level))

    def settle(self) -> set[int]:
        """Compute the coarse windows of what changed; gives the recordings of these."""
        for recording, sensor, hour_ms in self._changed:
            settle(self._transaction, recording, sensor, hour_ms)
            if has_windows(self._transaction, recording, sensor, hour_ms, LEVELS_S[0]):
                kept_overlaps.forget(self._transaction, sensor, hour_ms)  # they decide it again
        return {recording for recording, _, _ in self._changed}

    def _put_late(self, rows: Sequence[_Row]) -> None:
        """Hours come first: they say of which this ledger has more, if no longer its seconds."""
        kept = [row for row in rows if _level(row) == LEVELS_S[-1] or not self._is_dropped(row)]
        joined = self._transaction.put_better(kept, is_better)
        self._changed |= {_hour_of(row): None for row in joined.written}
        hours = (row for row in joined.left if _level(row) == LEVELS_S[-1])
        self._whole_here |= {_hour_of(row) for row in hours}

    def _is_dropped(self, row: _Row) -> bool:
        """Whether this ledger has more of the hour, but no longer at this level."""
        hour, level = _hour_of(row), _level(row)
        if hour not in self._whole_here:
            return False
        if (hour, level) not in self._dropped:
            self._dropped[hour, level] = not has_windows(self._transaction, *hour, level)
        return self._dropped[hour, level]


def _hour_of(row: _Row) -> _Hour:
    start_ms = _start_ms(row)
    return _recording(row), _sensor(row), start_ms - start_ms % MS_PER_HOUR
