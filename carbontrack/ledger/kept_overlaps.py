"""What several recordings have of a device at one time, written while its seconds are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from carbontrack.ledger import backlog
from carbontrack.ledger.contested import (
    Reading,
    Source,
    WindowsOf,
    board_keys,
    contested,
    covers,
    decided,
    read_sensors,
    with_boards,
)
from carbontrack.ledger.rows import OverlapPart
from carbontrack.ledger.set_clocks import heard_sql
from carbontrack.ledger.sql import listed
from carbontrack.ledger.tables import OVERLAPS
from carbontrack.ledger.transaction import Transaction, WritableLedger
from carbontrack.ledger.window import LAST_MS, LEVELS_S
from carbontrack.units import MS_PER_DAY, MS_PER_HOUR


def keep(ledger: WritableLedger, recordings: Sequence[int]) -> None:
    """Write what can be decided of the seconds of these recordings, by key, and of all that had
    their boards at the same time: before the seconds go, or when a recording has ended.

    An hour is a transaction. What is kept stays, unless another sensor has come since and all have
    their seconds. Left out is an hour to which a running recorder may still add: it is over, and a
    few minutes more, when it is kept.
    """
    if not recordings:
        return
    with ledger.begin() as transaction:
        of_these = f"select device_key from sensors where recording_key in ({listed(recordings)})"
        devices = (row["device_key"] for row in transaction.ask(of_these, {}))
        of_boards = with_boards(devices, board_keys(transaction.ask))
        if not of_boards:
            return
        wanted = f"sensors.device_key in ({listed(of_boards)})"
        sensors = read_sensors(transaction.ask, wanted, heard_sql(transaction))
    own = [one for one in sensors.values() if one.recording_key in set(recordings)]
    # One that was not over when the last recording ended may be now.
    first_ms = min((one.from_ms for one in own), default=0) - MS_PER_DAY
    _keep(ledger, sensors, first_ms - MS_PER_HOUR, LAST_MS)


def keep_between(ledger: WritableLedger, from_ms: int, to_ms: int) -> None:
    """As `keep`, of all recordings, in the hours that begin between two times."""
    of_then = (
        f"recordings.started_ms < {to_ms} and "
        f"(recordings.heartbeat_ms > {from_ms} or recordings.ended_ms > {from_ms})"
    )
    with ledger.begin() as transaction:
        sensors = read_sensors(transaction.ask, of_then, heard_sql(transaction))
    _keep(ledger, sensors, from_ms, to_ms)


def _keep(ledger: WritableLedger, sensors: Mapping[int, Reading], from_ms: int, to_ms: int) -> None:
    """What these sensors share in the hours that begin between two times, an hour a transaction."""
    with ledger.begin() as transaction:
        hours = {
            hour_ms: boards
            for hour_ms, boards in contested(sensors.values()).items()
            if from_ms <= hour_ms < to_ms
        }
        kept = Source(transaction.ask, sensors).kept(hours) if hours else {}
    for hour_ms, boards in sorted(hours.items()):
        wanted = {
            board_key: keys
            for board_key, keys in boards.items()
            if all(sensors[key].final_ms >= hour_ms + MS_PER_HOUR for key in keys)
            and not covers(kept.get((hour_ms, board_key), ()), keys)
        }
        if not wanted:
            continue
        with ledger.begin() as transaction:
            seconds = LEVELS_S[:1]
            windows_of = WindowsOf(transaction.ask, sensors, {hour_ms: wanted})
            for board_key, found in decided(windows_of, hour_ms, wanted, sensors, seconds):
                keys = wanted[board_key]
                for key in keys:
                    forget(transaction, key, hour_ms)
                # A part of nothing at the start of the hour says that its sensor was looked at.
                rows = {(key, hour_ms): OverlapPart(hour_ms, 0.0, 0.0) for key in keys}
                for stretch in found:
                    start_ms = stretch.start_ms
                    for part in stretch.parts:
                        row = OverlapPart(start_ms, part.energy_j, part.seconds)
                        rows[part.key, start_ms] = row
                transaction.write(
                    OVERLAPS.upsert,
                    [OVERLAPS.written(row, sensor_key=key) for (key, _), row in rows.items()],
                )
                backlog.decided(transaction, keys)


def forget(transaction: Transaction, sensor_key: int, hour_ms: int) -> None:
    """Remove what is kept of an hour of a sensor: it is to be decided again."""
    transaction.write(
        'delete from "overlaps" where sensor_key = :sensor_key '
        "and start_ms >= :from_ms and start_ms < :to_ms",
        [{"sensor_key": sensor_key, "from_ms": hour_ms, "to_ms": hour_ms + MS_PER_HOUR}],
    )
