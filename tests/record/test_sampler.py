"""Polling: what is read when, and into which second it goes."""

from __future__ import annotations

import itertools
import sqlite3
import time
from contextlib import closing
from datetime import datetime
from typing import Any

import pytest

from carbontrack.meters.base import Device, Reading, Vitals
from carbontrack.record.clock import Clock
from carbontrack.record.sampler import Sampler
from carbontrack.units import MS_PER_S, NS_PER_MS, NS_PER_S, monotonic_ns
from carbontrack.vocabulary import DeviceKind, Quality
from tests.fixtures.wrap import Wrapper

_LAST_SECONDS = "select start_ms from windows where level = 1"


class Stamped:
    """A device whose readings are dated by itself: 100 ms apart, each as old as `ages_ms` say."""

    device = Device(
        uuid="GPU-1",
        kind=DeviceKind.GPU,
        name="test",
        meter="test",
        quality=Quality.COUNTER,
        field="test",
        scope="gpu",
    )

    def __init__(self, *ages_ms: int) -> None:
        self._ages_ms = itertools.cycle(ages_ms)
        self.time_ns = -100 * NS_PER_MS

    def read(self) -> Reading:
        self.time_ns += 100 * NS_PER_MS
        counted_ns = self.time_ns - next(self._ages_ms) * NS_PER_MS
        return Reading(self.time_ns, 300.0 * counted_ns / NS_PER_S, 300.0, counted_ns)

    def vitals(self) -> Vitals:
        return Vitals(util_pct=97.0)


def test_every_second_has_vitals_whatever_the_age_of_a_reading() -> None:
    """One that is read just after a second's begin may belong to the second before."""
    source = Stamped(*[90] * 11, *[0] * 10)
    sampler = Sampler([source], Clock(0, 0), start_ns=0, hz=50.0, host="node1")
    sampler.start()
    while source.time_ns < 4 * NS_PER_S:
        time.sleep(0.05)
    windows = [w for _, w in sampler.finish(source.time_ns).windows if w.level_s == 1]
    whole = [window.vitals for window in windows if window.energy_s > 0.999]
    assert len(whole) >= 4
    assert all(whole)


def test_what_is_recorded_is_as_of_the_end_of_the_last_second(wrapper: Wrapper) -> None:
    """So a run that goes on is not missing the second that is not written yet."""
    job = wrapper.hold()
    job.until_recorded(3)
    shown = wrapper.json("show")  # one transaction
    assert "as of" in wrapper.ask("show").stdout
    with closing(sqlite3.connect(wrapper.ledger)) as ledger:
        ends_ms = [ms + MS_PER_S for (ms,) in ledger.execute(_LAST_SECONDS)]
    as_of_ms = shown["nodes"][0]["heartbeat_ms"]
    assert any(abs(as_of_ms - end_ms) <= 20 for end_ms in ends_ms)
    assert shown["duration_s"] == pytest.approx((as_of_ms - _start_ms(shown)) / MS_PER_S, abs=0.01)
    job.end()


def _start_ms(shown: dict[str, Any]) -> int:
    return round(datetime.fromisoformat(shown["started"]).timestamp() * MS_PER_S)


def test_a_device_that_does_not_answer_is_missing_from_what_is_recorded() -> None:
    sampler = Sampler([Stamped(0)], Clock(0, 0), start_ns=0, hz=50.0, host="node1")
    assert abs(sampler.drain().as_of_ms - monotonic_ns() // NS_PER_MS) < MS_PER_S
