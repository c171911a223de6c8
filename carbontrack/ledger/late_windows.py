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
_place = itemgetter(*map(_COLUMNS.index, WINDOWS.key))
_of_level = itemgetter(*map(_COLUMNS.index, ("recording_key", "level")))
_HERE = (
    f"{WINDOWS.query} where recording_key = :recording and level = :level "
    "and start_ms between :first and :last"
)


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
        for (recording, level), group in groupby(
            late, key=lambda row: (_recording(row), _level(row))
        ):
            self._put_late(recording, level, list(group))

    def settle(self) -> set[int]:
        """Compute the coarse windows of what changed; gives the recordings of these."""
        for recording, sensor, hour_ms in self._changed:
            settle(self._transaction, recording, sensor, hour_ms)
            if has_windows(self._transaction, recording, sensor, hour_ms, LEVELS_S[0]):
                kept_overlaps.forget(self._transaction, sensor, hour_ms)  # they decide it again
        return {recording for recording, _, _ in self._changed}

    def _put_late(self, recording: int, level: int, rows: Sequence[_Row]) -> None:
        times = [_start_ms(row) for row in rows]
        range_ = {"first": min(times), "last": max(times)}
        sensors = ", ".join(str(int(key)) for key in sorted({_sensor(row) for row in rows}))
        asked = f"{_HERE} and sensor_key in ({sensors})"
        found = self._transaction.ask(asked, {"recording": recording, "level": level, **range_})
        here = {_place(row): row for row in (tuple(one.values()) for one in found)}
        better = []
        for row in rows:
            before = here.get(_place(row))
            if before is None and level < LEVELS_S[-1] and self._is_dropped(row):
                continue
            if before is None or is_better(row, before):
                better.append(row)
                self._changed[_hour_of(row)] = None
            elif level == LEVELS_S[-1] and row != before:
                self._whole_here.add(_hour_of(row))
        self._transaction.put(WINDOWS, better)

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
