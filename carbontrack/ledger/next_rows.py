"""The rows of a recording that come next of what is shipped: see `backlog`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from carbontrack.ledger.joined import Row
from carbontrack.ledger.packed import Segment, minute_of, pack, segment_of
from carbontrack.ledger.recorded_rows import Sensor
from carbontrack.ledger.rows import ClockOffset, LateMinute, OverlapPart, Watermark
from carbontrack.ledger.tables import CLOCKS, EVENTS, LATE_MINUTES, OVERLAPS, STEPS, WINDOWS, Table
from carbontrack.ledger.transaction import Transaction
from carbontrack.ledger.window import LEVELS_S, Window
from carbontrack.units import MS_PER_HOUR, MS_PER_S

_SECOND, _MINUTE, _HOUR = LEVELS_S
_STEPS_AGAIN_MS = 30_000  # a step of another rank may come later with an earlier time
_MOST_ROWS = 5_000  # in a batch, of each kind
_MOST_CHARS = 1 << 20  # of the texts in these: a collector takes 4 MiB, compressed
_MOST_CLOCKS = 100
_MOST_LATE = 200  # minutes of a sensor, each asked for by itself
_MINUTE_MS = _MINUTE * MS_PER_S
_start_ms, _sensor = map(itemgetter, map(WINDOWS.columns.index, ("start_ms", "sensor_key")))

NEWEST_FIRST = "order by time_ms + offset_ms desc"
"""Of clocks: one that is set may go back."""


@dataclass(frozen=True, slots=True)
class Found:
    """Some rows, where the next begin, and whether there are more."""

    rows: list[Any]
    next: int
    more: bool
    segments: Sequence[tuple[str, Segment]] = ()


class Rows:
    """Rows of one recording in their order."""

    def __init__(self, transaction: Transaction, key: int) -> None:
        self._transaction = transaction
        self._key = key
        self.sensors = _sensors(transaction, key)

    def windows(self, level_s: int, from_ms: int, until_ms: int) -> Found:
        """Of one level, that begin from one time on, and before the other."""
        found = self._windows(level_s, from_ms, until_ms)
        rows = [self._window(row) for row in found]
        more = len(found) == self._most
        if not rows:
            return Found(rows, from_ms, more)
        last_ms = rows[-1][1].start_ms  # of which not all may be there
        return Found(rows, last_ms if more else last_ms + level_s * MS_PER_S, more)

    def seconds(self, from_ms: int, until_ms: int) -> Found:
        """Packed by whole minutes; as rows those that do not fit."""
        found = self._windows(_SECOND, from_ms, until_ms)
        more = len(found) == self._most
        if not found:
            return Found([], from_ms, more)
        last_ms = _start_ms(found[-1])
        next_ms = last_ms // _MINUTE_MS * _MINUTE_MS if more else last_ms + _SECOND * MS_PER_S
        odd, segments = self._packed([row for row in found if _start_ms(row) < next_ms])
        return Found(odd, next_ms, more, segments)

    def late(self, mark: Watermark, first_ms: int | None) -> Found:
        """What was written into minutes since they were shipped: with their hours, and with their
        seconds from `first_ms` on, or without.
        """
        late = self._noted_after(mark.late)
        shipped_ms = max(mark.minutes_ms, mark.seconds_ms)
        minutes = {(key, one.start_ms) for key, one in late if one.start_ms < shipped_ms}
        hours = {(key, start_ms // MS_PER_HOUR * MS_PER_HOUR) for key, start_ms in minutes}
        rows: list[Any] = []
        fine: list[Row] = []
        for level_s, places in ((_MINUTE, minutes), (_HOUR, hours)):
            for key, start_ms in sorted(places):
                found = self._windows(level_s, start_ms, start_ms + 1, sensor_key=key)
                rows += [self._window(row) for row in found]
        for key, start_ms in sorted(minutes):
            if first_ms is not None and start_ms >= first_ms:
                fine += self._windows(_SECOND, start_ms, start_ms + _MINUTE_MS, sensor_key=key)
        odd, segments = self._packed(fine)
        last = max((one.number for _, one in late), default=mark.late)
        return Found(rows + odd, last, len(late) == _MOST_LATE, segments)

    def _noted_after(self, number: int) -> list[tuple[int, LateMinute]]:
        """The late minutes that were noted after this number, in their order, with the key of the
        sensor.
        """
        found = self._transaction.ask(
            f"{LATE_MINUTES.query} where recording_key = :key and number > :number "
            f"order by number limit {_MOST_LATE}",
            {"key": self._key, "number": number},
        )
        return [(row["sensor_key"], LATE_MINUTES.read(row)) for row in found]

    @property
    def _most(self) -> int:
        """More than two minutes have, so that there is always a next one."""
        return max(_MOST_ROWS, 2 * _MINUTE * len(self.sensors))

    def _windows(
        self, level_s: int, from_ms: int, until_ms: int, *, sensor_key: int | None = None
    ) -> list[Row]:
        of_sensor = "" if sensor_key is None else "and sensor_key = :sensor "
        found = self._transaction.ask(
            f"select {', '.join(WINDOWS.columns)} "
            "from windows_between(:level, :from_ms, :until_ms) windows "
            f"where recording_key = :key {of_sensor}order by start_ms, sensor_key "
            f"limit {self._most}",
            {
                "key": self._key,
                "level": level_s,
                "from_ms": from_ms,
                "until_ms": until_ms,
                **({} if sensor_key is None else {"sensor": sensor_key}),
            },
        )
        return [tuple(row.values()) for row in found]

    def _window(self, row: Row) -> tuple[str, Window]:
        """With the UUID of its device."""
        return self._uuid(_sensor(row)), WINDOWS.read(dict(zip(WINDOWS.columns, row, strict=True)))

    def _packed(
        self, rows: Sequence[Row]
    ) -> tuple[list[tuple[str, Window]], list[tuple[str, Segment]]]:
        """Seconds by the minute, and those that do not fit."""
        minutes: dict[Any, list[Row]] = defaultdict(list)
        for row in rows:
            minutes[minute_of(row)].append(row)
        odd: list[tuple[str, Window]] = []
        segments: list[tuple[str, Segment]] = []
        for (_, _, sensor), of_minute in minutes.items():
            segment, others = pack(of_minute)
            odd += map(self._window, others)
            if segment is not None:
                segments.append((self._uuid(sensor), segment_of(segment)))
        return odd, segments

    def _uuid(self, sensor_key: int) -> str:
        return self.sensors[sensor_key].uuid

    def steps(self, from_ms: int) -> Found:
        """Those of a time on, all of a time together; the last of them come again."""
        in_order = f">= :ms order by time_ms limit {_MOST_ROWS + 1}"
        found, more = _fitting(self._steps(in_order, from_ms))
        rows = [read_row(STEPS, row) for row in found]
        last_ms = max((row.time_ms for row in rows), default=from_ms)
        if not more:
            return Found(rows, max(from_ms, last_ms - _STEPS_AGAIN_MS), more)
        if earlier := [row for row in rows if row.time_ms < last_ms]:
            return Found(earlier, last_ms, more)
        together = [read_row(STEPS, row) for row in self._steps("= :ms", last_ms)]
        return Found(together, last_ms + 1, more)

    def _steps(self, when: str, ms: int) -> Iterator[dict[str, Any]]:
        asked = f"{STEPS.query} where recording_key = :key and time_ms {when}"
        return self._transaction.ask(asked, {"key": self._key, "ms": ms})

    def overlaps(self) -> Iterator[tuple[str, OverlapPart]]:
        """All that is kept of the time that others recorded, too, with the UUID of the device."""
        found = self._transaction.ask(
            f"{OVERLAPS.query} where sensor_key in (select key from sensors where "
            "recording_key = :key) order by sensor_key, start_ms",
            {"key": self._key},
        )
        for row in found:
            yield self.sensors[row["sensor_key"]].uuid, read_row(OVERLAPS, row)

    def clocks(self) -> Iterator[ClockOffset]:
        """All that is known of the node's clock, the newest first; there are few."""
        found = self._transaction.ask(
            f"{CLOCKS.query} where recording_key = :key {NEWEST_FIRST} limit {_MOST_CLOCKS}",
            {"key": self._key},
        )
        for row in found:
            yield read_row(CLOCKS, row)

    def events(self, number: int) -> Found:
        """Those of a number on."""
        found, more = _fitting(
            self._transaction.ask(
                f"{EVENTS.query} where recording_key = :key and number >= :number "
                f"order by number limit {_MOST_ROWS + 1}",
                {"key": self._key, "number": number},
            )
        )
        rows = [(row["number"], read_row(EVENTS, row)) for row in found]
        return Found(rows, rows[-1][0] + 1 if rows else number, more)


def _fitting(found: Iterable[dict[str, Any]]) -> tuple[list[dict[str, Any]], bool]:
    """The first of some rows, as many as a batch has room for; and whether there are more."""
    rows: list[dict[str, Any]] = []
    chars = 0
    for row in found:
        if len(rows) == _MOST_ROWS or chars >= _MOST_CHARS:
            return rows, True
        rows.append(row)
        chars += sum(len(value) for value in row.values() if isinstance(value, str))
    return rows, False


def _sensors(transaction: Transaction, recording_key: int) -> dict[int, Sensor]:
    found = transaction.ask(
        "select sensors.*, devices.uuid, devices.kind, devices.name, devices.mig_parent "
        "from sensors join devices on devices.key = sensors.device_key "
        "where sensors.recording_key = :key order by sensors.key",
        {"key": recording_key},
    )
    names = [name for name in Sensor.__dataclass_fields__ if name not in ("device_key", "spans_ms")]
    return {row["key"]: Sensor(**{name: row[name] for name in names}) for row in found}


def read_row(table: Table[Any], columns: Mapping[str, Any]) -> Any:
    """The row of a `Table.query`."""
    return table.read(table.parsed(tuple(columns.values())))
