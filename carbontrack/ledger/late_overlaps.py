"""What two ledgers keep of the time that sensors of one board share: each hour whole, from one.

The stretches of an hour were decided with the sensors that a ledger had: those of two ledgers
cannot be put together, unless there are seconds of which they can be decided again. What a batch
brings is of one recording alone, and of each of its sensors the hour stays that knows of more.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any

from carbontrack.ledger import kept_overlaps
from carbontrack.ledger.contested import board_keys, with_boards
from carbontrack.ledger.sql import listed
from carbontrack.ledger.tables import OVERLAPS
from carbontrack.ledger.transaction import Transaction, Within
from carbontrack.units import MS_PER_HOUR

_Row = Mapping[str, Any]
_HERE = (
    f"{OVERLAPS.query} where start_ms >= :from_ms and start_ms < :to_ms "
    "and sensor_key in (select key from sensors where device_key in ({devices}))"
)


class LateOverlaps:
    """Takes what another ledger keeps, hour by hour and board by board."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._arrived: dict[tuple[int, int], list[_Row]] = defaultdict(list)

    def put(self, rows: Iterable[_Row]) -> None:
        """Rows of `overlaps` with this ledger's keys, until `settle`."""
        devices: dict[int, int] = {}
        for row in rows:
            sensor_key = row["sensor_key"]
            if sensor_key not in devices:
                asked = "select device_key from sensors where key = :key"
                (found,) = self._transaction.ask(asked, {"key": sensor_key})
                devices[sensor_key] = found["device_key"]
            hour_ms = row["start_ms"] // MS_PER_HOUR * MS_PER_HOUR
            self._arrived[devices[sensor_key], hour_ms].append(row)

    def settle(self, recordings: Collection[int]) -> None:
        """Write what arrived where it was decided with more sensors than here; then decide again
        what the seconds of these recordings, which are new or have grown, allow.
        """
        board_of = board_keys(self._transaction.ask) if self._arrived else {}
        of_boards: dict[tuple[int, int], list[_Row]] = defaultdict(list)
        for (device_key, hour_ms), rows in self._arrived.items():
            of_boards[board_of.get(device_key, device_key), hour_ms] += rows
        for (board_key, hour_ms), arrived in of_boards.items():
            asked = _HERE.format(devices=listed(with_boards([board_key], board_of)))
            hour = {"from_ms": hour_ms, "to_ms": hour_ms + MS_PER_HOUR}
            found = self._transaction.ask(asked, hour)
            here = list(found)
            if _rank(arrived) > _rank(here):
                for sensor_key in {row["sensor_key"] for row in here}:
                    kept_overlaps.forget(self._transaction, sensor_key, hour_ms)
                self._transaction.write(OVERLAPS.upsert, arrived)
        kept_overlaps.keep(Within(self._transaction), sorted(recordings))


def put_of_sensors(transaction: Transaction, rows: Iterable[_Row]) -> None:
    """Write what a batch has, but for hours of which what is here says more: they were decided
    with sensors that the sender did not have.
    """
    better: list[_Row] = []
    for sensor_key, of_sensor in groupby(sorted(rows, key=_place), key=itemgetter("sensor_key")):
        arrived = _by_hour(of_sensor)
        span = {"from_ms": min(arrived), "to_ms": max(arrived) + MS_PER_HOUR}
        here = _by_hour(transaction.ask(_OF_SENSOR, {"sensor_key": sensor_key, **span}))
        for hour_ms, of_hour in arrived.items():
            before = here.get(hour_ms, [])
            if before == of_hour or _shared(before) > _shared(of_hour):
                continue
            if before:
                kept_overlaps.forget(transaction, sensor_key, hour_ms)
            better += of_hour
    transaction.write(OVERLAPS.upsert, better)


_place = itemgetter("sensor_key", "start_ms")
_OF_SENSOR = (
    f"{OVERLAPS.query} where sensor_key = :sensor_key "
    "and start_ms >= :from_ms and start_ms < :to_ms order by start_ms"
)


def _by_hour(rows: Iterable[_Row]) -> dict[int, list[_Row]]:
    found: dict[int, list[_Row]] = defaultdict(list)
    for row in rows:
        found[row["start_ms"] // MS_PER_HOUR * MS_PER_HOUR].append(row)
    return found


def _shared(rows: Collection[_Row]) -> tuple[float, int]:
    """How much of an hour a sensor shares with others, and in how many stretches: with more others
    it is no less of both.
    """
    return round(sum(row["seconds"] for row in rows), 3), len(rows)


def _rank(rows: Collection[_Row]) -> tuple[int, str]:
    parts = sorted((row["start_ms"], row["energy_j"], row["seconds"]) for row in rows)
    return len({row["sensor_key"] for row in rows}), json.dumps(parts)
