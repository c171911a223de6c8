"""Polling: what is read when, and into which second it goes."""

from __future__ import annotations

import itertools
import time

from carbontrack.meters.base import Device, Reading, Vitals
from carbontrack.record.reduce import Clock
from carbontrack.record.sampler import Sampler
from carbontrack.units import NS_PER_MS, NS_PER_S
from carbontrack.vocabulary import DeviceKind, Quality


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
