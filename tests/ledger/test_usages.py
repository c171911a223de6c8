"""What the database adds up is what `merge` makes of the same windows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection

from carbontrack.ledger import read
from carbontrack.ledger.recorded_rows import Usage, usage_of
from carbontrack.ledger.transaction import WritableLedger
from carbontrack.ledger.window import Flag, Window, merge
from carbontrack.ledger.write import RunWriter
from carbontrack.query.runs import list_items
from carbontrack.units import MS_PER_HOUR
from tests.fixtures.runs import Recorded, recording_of

ONE = Recorded(count=3, seconds=3 * 3600.0)
ODD: dict[str, Any] = {
    "flags": Flag.INTEGRAL | Flag.GAP,
    "util_pct": 40.0,
    "vitals": 3,
    "power_max_w": 900.0,
    "energy_s": 1800.0,
    "sampled_s": 1800.0,
}
LESS: dict[str, Any] = {
    "energy_j": None,
    "util_pct": None,
    "power_min_w": None,
    "power_max_w": None,
}


@pytest.fixture
def hours(ledger: WritableLedger) -> dict[tuple[int, int], list[Window]]:
    """The windows of each device and hour. Two recordings have a half each of the second hour of
    the first device; the second device has an hour without energy, and the third has no other.
    """
    others: dict[int, dict[str, Any]] = {1: ODD, 4: LESS, 6: LESS, 7: LESS, 8: LESS}
    rows = [
        (uuid, replace(window, **others.get(number, {})))
        for number, (uuid, window) in enumerate(ONE.windows)
    ]
    second = replace(rows[1][1], flags=Flag.COUNTER, util_pct=90.0, vitals=1, energy_j=7.0)
    write(ledger, "node1", rows)
    write(ledger, "node2", [(rows[1][0], second)])
    found: dict[tuple[int, int], list[Window]] = {}
    for uuid, window in [*rows, (rows[1][0], second)]:
        found.setdefault((int(uuid[-1]), window.start_ms), []).append(window)
    return found


def write(ledger: WritableLedger, host: str, rows: list[tuple[str, Window]]) -> None:
    run = RunWriter(ledger, ONE.begun, recording_of(ONE.begun, host), ONE.sensors)
    run.commit(windows=rows, steps=[], events=[], heartbeat_ms=ONE.end_ms)


def whole(number: int, windows: list[Window]) -> Usage:
    """The device's usage; its key is not known here."""
    start_ms = min(window.start_ms for window in windows)
    return usage_of(number, merge(windows, start_ms=start_ms, level_s=3600))


def test_sums_are_those_of_the_windows(
    hours: dict[tuple[int, int], list[Window]], reader: Connection
) -> None:
    run = read.resolve_run(reader, "last")
    number = {s.device_key: int(s.uuid[-1]) for s in read.sensors(reader, run)}

    def named(usages: list[Usage]) -> list[Usage]:
        return [replace(usage, device_key=number[usage.device_key]) for usage in usages]

    of_hours = [whole(device, windows) for (device, _), windows in hours.items()]
    assert named(read.hours(reader, run)) == of_hours
    parts = {
        device: [w for (of, _), windows in hours.items() if of == device for w in windows]
        for device in number.values()
    }
    totals = [whole(device, windows) for device, windows in parts.items()]
    assert named(read.totals(reader, run)) == totals
    assert [usage.energy_j is None for usage in totals] == [False, False, True]

    second_ms = ONE.start_ms + MS_PER_HOUR
    span_ms = second_ms, second_ms + MS_PER_HOUR
    assert {one.start_ms for one in read.hours(reader, run, span_ms=span_ms)} == {second_ms}
    for usage in read.hours_of_all(reader, run):
        beside = [one for one in of_hours if one.start_ms == usage.start_ms]
        assert usage.energy_j == sum(one.energy_j or 0.0 for one in beside)
        assert usage.sampled_s == sum(one.sampled_s for one in beside)


def test_what_two_recordings_have_is_in_each_sum_once(
    ledger: WritableLedger, reader: Connection
) -> None:
    for host in ("node1", "node2"):
        write(ledger, host, ONE.windows)
    run = read.resolve_run(reader, "last")
    once_j = ONE.power_w * 3600.0
    assert [usage.energy_j for usage in read.hours(reader, run)] == [once_j] * 9
    assert [usage.energy_j for usage in read.totals(reader, run)] == [3 * once_j] * 3
    (item,) = list_items(reader, [run])
    assert item.energy_kwh == pytest.approx(9 * once_j / 3.6e6), "as `runs` lists it"
    assert [usage.energy_j for usage in read.hours_of_all(reader, run)] == [3 * once_j] * 3
    assert {usage.device_key for usage in read.hours_of_all(reader, run)} == {0}
