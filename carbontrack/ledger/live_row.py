"""What is now of a recording: one row, made of its newest seconds where it is recorded.

A node sends it first with each batch, for its minutes come only when they are closed. It is of one
ledger: written by what takes batches, removed when the recording ends, and never carried on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from carbontrack.ledger.recorded_rows import Recording
from carbontrack.ledger.rows import Live
from carbontrack.ledger.tables import LIVE
from carbontrack.ledger.transaction import Transaction
from carbontrack.ledger.window import LEVELS_S
from carbontrack.units import MS_PER_S

_SECOND, _, _HOUR = LEVELS_S
LOOK_BACK_MS = 10 * MS_PER_S  # a device that was not read since then has no power now
_UPSERT = f"{LIVE.upsert} where live.time_ms <= excluded.time_ms"


def of_recording(
    transaction: Transaction, recording: Recording, sensor_keys: Sequence[int]
) -> Live:
    """What is now, by the newest seconds of a ledger that has them."""
    since_ms = recording.heartbeat_ms - LOOK_BACK_MS
    seconds = transaction.ask(
        "select sensor_key, start_ms, power_mean_w, util_pct from windows "
        f"where recording_key = :key and level = {_SECOND} and start_ms >= :since "
        "order by start_ms",
        {"key": recording.key, "since": since_ms},
    )
    last = {row["sensor_key"]: row for row in seconds}
    hours = transaction.ask(
        "select sensor_key, sum(energy_j) as energy_j from windows "
        f"where recording_key = :key and level = {_HOUR} group by sensor_key",
        {"key": recording.key},
    )
    energy_j = {row["sensor_key"]: row["energy_j"] for row in hours}
    return Live(
        time_ms=max((row["start_ms"] for row in last.values()), default=recording.heartbeat_ms),
        power_w=tuple(last[key]["power_mean_w"] if key in last else None for key in sensor_keys),
        energy_j=tuple(energy_j.get(key) for key in sensor_keys),
        util_pct=tuple(last[key]["util_pct"] if key in last else None for key in sensor_keys),
    )


def put(transaction: Transaction, now: Mapping[int, tuple[Sequence[int], Live]]) -> None:
    """Write what is now of recordings by their keys, with the keys of the sensors; not where
    something newer is there.
    """
    heard_ms = transaction.now_ms()
    rows = []
    for key, (sensor_keys, live) in now.items():
        row = LIVE.written(
            live, recording_key=key, heard_ms=heard_ms, sensor_keys=list(sensor_keys)
        )
        rows.append(row | {name: transaction.array(row[name]) for name in LIVE.arrays})
    transaction.write(_UPSERT, rows)


def forget(transaction: Transaction, before_ms: int) -> None:
    """Nothing is now of nodes that were not heard of since a time: they do not come back."""
    transaction.write("delete from live where heard_ms < :before", [{"before": before_ms}])


def remove(transaction: Transaction, recording_key: int) -> None:
    """Nothing is now of a recording that has ended."""
    transaction.write("delete from live where recording_key = :key", [{"key": recording_key}])
