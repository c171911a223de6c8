"""The devices of a run: meters opened and sensors timed, each in a thread of its own.

A driver may hang in any call, and a thread cannot be taken out of it; so nothing here is waited for
longer than a moment.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from carbontrack.errors import CarbontrackError
from carbontrack.ledger.recorded_rows import Sensor
from carbontrack.meters import AUTO
from carbontrack.meters.base import Device, MeterContext, Source
from carbontrack.meters.registry import Found, find_meters
from carbontrack.vocabulary import Quality

_OPENING_S = 10.0  # a driver that takes longer to open is left alone
_MOMENT_S = 0.7  # what the exit of a short job may wait for it
_LOOK_S = 0.02


class MeterOpener(threading.Thread):
    """Opens the meters apart from the rest: a driver may hang in its initialisation."""

    def __init__(self, spec: str, context: MeterContext) -> None:
        super().__init__(name="meters", daemon=True)
        self._spec = spec
        self._context = context
        self.found = Found([])
        self.problem: str | None = None

    @property
    def sources(self) -> list[Source]:
        """What is to be polled; empty while the meters are opening, or if none works."""
        return [source for meter in self.found.meters for source in meter.sources]

    def wait(self, job_ended: Callable[[], bool]) -> None:
        """Until they are open; for a job that has ended meanwhile, a moment more at most, each
        without the time that this process did not run in. A `problem` says why they are not.
        """
        began_s = time.monotonic()
        left_s, hurried = _OPENING_S, False
        while self.is_alive() and left_s > 0:
            self.join(_LOOK_S)
            left_s -= _LOOK_S
            if not hurried and job_ended():
                left_s, hurried = min(left_s, _MOMENT_S), True
        if self.is_alive():
            waited_s = time.monotonic() - began_s
            self.problem = f"the meter had not opened after {waited_s:.1f} s"
        elif self.problem is None and not self.sources and self._spec != AUTO:
            self.problem = f"--meter {self._spec} finds no device that the job can see"

    def run(self) -> None:
        try:
            self.found = find_meters(self._spec, self._context)
        except CarbontrackError as error:
            self.problem = str(error)
        except Exception as error:
            self.problem = f"the meter failed: {error}"


def require_meter(spec: str, context: MeterContext, what: str = "--require-meter") -> None:
    """Raise CarbontrackError, beginning with `what`, unless the meters of `spec` open now and have
    a device; for `auto`, a device that is measured, not estimated.
    """
    opener = MeterOpener(spec, context)
    opener.start()
    opener.wait(lambda: False)
    problem = opener.problem
    estimated = all(source.device.quality is Quality.ESTIMATE for source in opener.sources)
    if problem is None and spec == AUTO and estimated:
        problem = opener.found.note
    if opener.is_alive():  # its meters are not ours to close
        raise CarbontrackError(f"{what}: {problem}.", exit_code=1)
    for meter in opener.found.meters:
        meter.close()
    if problem is not None:
        raise CarbontrackError(f"{what}: {problem.rstrip('.')}.", exit_code=1)


class RefreshTimer(threading.Thread):
    """Measures how often the sensors refresh, beside the recording: it takes a second or hangs.

    `sensors` are the ledger's rows of them on this host, by all that is known.
    """

    def __init__(self, sources: Sequence[Source], host: str) -> None:
        super().__init__(name="refresh-timer", daemon=True)
        self._sources = sources
        self._host = host
        self.sensors: list[Sensor] = []
        self.add(sources)
        self._given = self.sensors  # as they were at the last call of `changed`
        self._measured_ms: dict[str, float] = {}

    def run(self) -> None:
        from carbontrack.meters.observe import measured_periods

        self._measured_ms = measured_periods(self._sources)

    def add(self, sources: Sequence[Source]) -> None:
        """These belong to the recording, too; how often they refresh is not measured."""
        added = [
            _sensor_of(source.device, self._host, number)
            for number, source in enumerate(sources, len(self.sensors))
        ]
        self.sensors = [*self.sensors, *added]

    def changed(self, by_power: Collection[str]) -> list[Sensor] | None:
        """The sensors if more is known of them than at the last call, else None. `by_power` are the
        UUIDs of devices whose counter is not believed: their energy is power's integral.
        """
        measured_ms, before = self._measured_ms, self._given
        self.sensors = self._given = [
            replace(
                sensor,
                update_period_ms=measured_ms.get(sensor.uuid, sensor.update_period_ms),
                quality=str(Quality.POWER) if sensor.uuid in by_power else sensor.quality,
            )
            for sensor in self.sensors
        ]
        return None if self.sensors == before else self.sensors


def _sensor_of(device: Device, host: str, number: int) -> Sensor:
    """The ledger's row of how this device is read on this host."""
    return Sensor(
        uuid=device.uuid,
        kind=str(device.kind),
        name=device.name,
        rated_power_w=device.rated_power_w,
        power_limit_w=device.power_limit_w,
        mig_parent=device.mig_parent,
        host=host,
        meter=str(device.meter),
        quality=str(device.quality),
        field=device.field,
        scope=str(device.scope),
        update_period_ms=device.update_period_ms,
        share=device.share,
        device_key=number,
    )
