"""An hour of one sensor brought to levels that agree, after rows of it have come from elsewhere.

Two that hold the same recording may have more or less of it: a copy that was made while it went on,
a ledger whose seconds were dropped, a journal. Of an hour, the copy with most of it counts.
"""

from __future__ import annotations

from carbontrack.ledger.tables import WINDOWS
from carbontrack.ledger.transaction import Transaction
from carbontrack.ledger.window import LEVELS_S, Pyramid, Window, merge
from carbontrack.units import MS_PER_HOUR

_SECOND, _MINUTE, _HOUR = LEVELS_S
_OF_HOUR = (
    "from windows_between(:level, :from_ms, :to_ms) windows "
    "where recording_key = :recording_key and sensor_key = :sensor_key"
)
TOLERANCE_J = 1e-3
TOLERANCE_S = 1e-3
"""By which sums of the same windows may differ: they were added in another order."""


def settle(
    transaction: Transaction,
    recording_key: int,
    sensor_key: int,
    hour_ms: int,
    *,
    more_may_come: bool = False,
) -> None:
    """Compute the coarse windows of an hour from the finest that have all that the hour has.

    Finer ones with less are removed: their sum would contradict the hour, which keeps its total.
    Unless `more_may_come`: then what is missing is expected, as of a journal that is still away.
    """
    hour = _Hour(transaction, recording_key, sensor_key, hour_ms)
    known = next(iter(hour.read(_HOUR)), None)
    for level_s in (_SECOND, _MINUTE):
        parts = hour.read(level_s)
        if not parts:
            continue
        whole = merge(parts, start_ms=hour_ms, level_s=_HOUR)
        if known is None or not is_less(whole, known):
            hour.write(_coarser(parts) if level_s == _SECOND else [whole])
            return
        if not more_may_come:
            hour.remove(level_s)


def has_windows(
    transaction: Transaction, recording_key: int, sensor_key: int, hour_ms: int, level_s: int
) -> bool:
    """Whether there are windows of this length in an hour of a sensor."""
    return _Hour(transaction, recording_key, sensor_key, hour_ms).has(level_s)


def is_less(window: Window, other: Window) -> bool:
    """Whether a window was made of less than another one of the same time."""
    if window.samples != other.samples:
        return window.samples < other.samples
    return window.energy_s < other.energy_s - TOLERANCE_S


def _coarser(seconds: list[Window]) -> list[Window]:
    pyramid = Pyramid()
    for second in seconds:
        pyramid.add(second)
    return pyramid.take_changed()


class _Hour:
    """The windows of one sensor in one hour."""

    def __init__(
        self, transaction: Transaction, recording_key: int, sensor_key: int, hour_ms: int
    ) -> None:
        self._transaction = transaction
        self._keys = (recording_key, sensor_key)
        self._where = {
            "recording_key": recording_key,
            "sensor_key": sensor_key,
            "from_ms": hour_ms,
            "to_ms": hour_ms + MS_PER_HOUR,
        }

    def read(self, level_s: int) -> list[Window]:
        asked = f"select {', '.join(WINDOWS.columns)} {_OF_HOUR} order by start_ms"
        found = self._transaction.ask(asked, {**self._where, "level": level_s})
        return [WINDOWS.read(row) for row in found]

    def has(self, level_s: int) -> bool:
        asked = f"select 1 as one {_OF_HOUR} limit 1"
        found = self._transaction.ask(asked, {**self._where, "level": level_s})
        return next(iter(found), None) is not None

    def write(self, windows: list[Window]) -> None:
        self._transaction.put(WINDOWS, [WINDOWS.in_order(one, *self._keys) for one in windows])

    def remove(self, level_s: int) -> None:
        recording_key, sensor_key = self._keys
        from_ms, to_ms = self._where["from_ms"], self._where["to_ms"]
        self._transaction.remove_windows(
            recording_key, [level_s], from_ms=from_ms, to_ms=to_ms, sensors=[sensor_key]
        )
