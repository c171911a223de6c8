"""Minutes that were written into after all of them had been there: they are shipped once more.

A minute is shipped as soon as the heartbeat of its recording is behind it. What a recorder writes
into it later, for a counter that had not answered or a device that was silent does again, is noted
here with numbers that grow; how far these are shipped is a part of the watermark.
"""

from __future__ import annotations

from collections.abc import Collection

from carbontrack.ledger.transaction import Transaction

_NOTE = (
    "insert into late_minutes (recording_key, sensor_key, start_ms, number) "
    "select recording_key, :sensor_key, :start_ms, "
    "(select coalesce(max(number), 0) + 1 from late_minutes where recording_key = :key) "
    "from (select distinct recording_key from watermarks where recording_key = :key) shipped "
    "where true on conflict (recording_key, sensor_key, start_ms) "
    "do update set number = excluded.number"
)


def note(
    transaction: Transaction, recording_key: int, minutes: Collection[tuple[int, int]]
) -> None:
    """Note minutes, by the keys of sensors and their starts in ms. Of a recording that nobody
    ships nothing is noted.
    """
    rows = [
        {"key": recording_key, "sensor_key": sensor_key, "start_ms": start_ms}
        for sensor_key, start_ms in sorted(minutes)
    ]
    transaction.write(_NOTE, rows)
