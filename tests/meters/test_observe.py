"""A short look at devices, of which one hangs and one is lost."""

from __future__ import annotations

import threading
from dataclasses import replace

from carbontrack.meters.base import DeviceLost, MeterContext, Reading, Source, Vitals
from carbontrack.meters.observe import Observation, _period_ms, observe
from carbontrack.meters.registry import find_meters
from carbontrack.units import NS_PER_MS


class _Other:
    """A simulated device that reads differently."""

    def __init__(self, source: Source) -> None:
        self.device = source.device

    def vitals(self) -> Vitals | None:
        return None


class _Hanging(_Other):
    def read(self) -> Reading:
        threading.Event().wait()
        raise AssertionError


class _Lost(_Other):
    def read(self) -> Reading:
        raise DeviceLost("GPU is lost")


class _Slow(_Other):
    """Refreshes its power every `refresh_ms` and has no counter. By its own clock, 25 ms lie
    between two looks at it.
    """

    refresh_ms = 50

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._now_ns = 0

    def read(self) -> Reading:
        self._now_ns += 25 * NS_PER_MS
        return Reading(
            self._now_ns, None, float(self._now_ns // (self.refresh_ms * NS_PER_MS) % 100)
        )


def test_a_device_that_hangs_or_is_lost_does_not_hold_up_the_others() -> None:
    (meter,) = find_meters("sim:a100x4", MeterContext()).meters
    healthy, a, b, c = meter.sources
    hanging, lost, healthy_look, slow = observe(
        [_Hanging(a), _Lost(b), healthy, _Slow(c)], seconds=0.6, patience_s=2.0
    )

    assert hanging == lost == Observation(answers=False)
    assert healthy_look.answers
    assert healthy_look.power_w is not None and healthy_look.power_w > 50
    assert healthy_look.update_period_ms is None  # it changes as often as one observed
    assert slow.update_period_ms in (50, None), "None where it was hardly looked at"


def test_the_period_is_the_usual_time_between_changes() -> None:
    (meter,) = find_meters("sim:a100x2", MeterContext()).meters
    source = _Slow(meter.sources[0])
    assert _period_ms([source.read() for _ in range(40)]) == 50


def test_a_sensor_that_changes_with_every_look_has_no_period_however_seldom_it_is_looked_at() -> (
    None
):
    """As on a busy machine: 25 ms lie between two looks, and each finds another value."""
    (meter,) = find_meters("sim:a100x2", MeterContext()).meters
    source = _Slow(meter.sources[0])
    source.refresh_ms = 25
    (look,) = observe([source], seconds=0.05)
    assert look.answers
    assert look.update_period_ms is None


def test_what_the_meter_knows_of_its_period_is_kept_and_a_share_is_shown_as_one() -> None:
    (meter,) = find_meters("sim:a100x2", MeterContext()).meters
    source = _Slow(meter.sources[0])
    source.device = replace(source.device, update_period_ms=7.0, share=0.5)
    (look,) = observe([source], seconds=0.02)

    assert look.update_period_ms == 7.0
    assert look.power_w is not None and look.power_w < 50
