"""The run as Prometheus metrics, served over HTTP in threads of their own while it is recorded.

Names and units follow prometheus.io/docs/practices/naming: base units (joules, watts, grams,
seconds, ratios), and `_total` for what only grows. They are as of the recorder's last commit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from carbontrack.account.result import Estimate
from carbontrack.ledger.live_row import LOOK_BACK_MS
from carbontrack.ledger.recorded_rows import Run, Sensor, Usage
from carbontrack.ledger.window import Window
from carbontrack.units import J_PER_KWH, MS_PER_S

if TYPE_CHECKING:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    Family = CounterMetricFamily | GaugeMetricFamily

_G_PER_T = 1e6


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is served: of each device its energy and power, and of the run what it has spent."""

    as_of_ms: int
    sensors: Sequence[Sensor]
    energies_j: Mapping[str, float]  # by UUID; none where it is unknown
    powers_w: Mapping[str, float]
    estimate: Estimate
    steps: int
    tokens: int | None
    loss: float | None


@dataclass(slots=True, eq=False)
class Metrics:
    """The metrics of a run. A recorder updates them; any thread may collect them."""

    run: Run
    host: str
    _now: Snapshot | None = None
    _newest: dict[str, Window] = field(default_factory=dict)  # second with a power, by UUID
    _grown: dict[tuple[str, str], float] = field(default_factory=dict)

    def serve(self, address: str, port: int) -> None:
        """Serve them from now on. Raises OSError if the port is in use."""
        from prometheus_client import CollectorRegistry, start_http_server

        registry = CollectorRegistry()
        registry.register(self)
        start_http_server(port, addr=address, registry=registry)

    def update(
        self,
        as_of_ms: int,
        sensors: Sequence[Sensor],
        usages: Sequence[Usage],
        windows: Sequence[tuple[str, Window]],
        estimate: Estimate,
        steps: int,
        *,
        set_ms: int = 0,
    ) -> None:
        """As of a commit; `usages` add up to the run, `windows` are those since the last one. The
        clock of the system, which who asks has, was set by `set_ms` since the recording began.
        """
        uuid_of = {sensor.device_key: sensor.uuid for sensor in sensors}
        energies_j: dict[str, float] = {}
        for usage in usages:
            if usage.energy_j is not None:
                uuid = uuid_of[usage.device_key]
                energies_j[uuid] = energies_j.get(uuid, 0.0) + usage.energy_j
        for uuid, window in windows:
            self._see(uuid, window)
        since_ms = as_of_ms - LOOK_BACK_MS
        powers_w = {
            uuid: window.power_mean_w
            for uuid, window in self._newest.items()
            if window.power_mean_w is not None and window.start_ms >= since_ms
        }
        self._now = Snapshot(
            as_of_ms=as_of_ms + set_ms,
            sensors=tuple(sensors),
            energies_j=energies_j,
            powers_w=powers_w,
            estimate=estimate,
            steps=steps,
            tokens=estimate.tokens,
            loss=estimate.final_loss,
        )

    def _see(self, uuid: str, window: Window) -> None:
        if window.level_s != 1 or window.power_mean_w is None:
            return
        before = self._newest.get(uuid)
        if before is None or window.start_ms >= before.start_ms:  # one may be written again later
            self._newest[uuid] = window

    def collect(self) -> Iterator[Family]:
        """As `prometheus_client` asks for them; what is unknown is left out, never 0."""
        from prometheus_client.core import GaugeMetricFamily

        info = GaugeMetricFamily(
            "carbontrack_run_info",
            "The run that is recorded; always 1.",
            labels=("run_id", "name", "project", "host"),
        )
        info.add_metric((self.run.id, self.run.name, self.run.project or "", self.host), 1)
        yield info
        now = self._now
        if now is None:
            return
        yield from self._of_devices(now)
        yield from self._of_run(now)

    def _of_devices(self, now: Snapshot) -> Iterator[Family]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        labels = ("device", "kind", "model", "quality")
        energy = CounterMetricFamily(
            "carbontrack_energy_joules", "Energy of a device, before PUE.", labels=labels
        )
        power = GaugeMetricFamily(
            "carbontrack_power_watts", "Mean power of a device in the last second.", labels=labels
        )
        for sensor in now.sensors:
            said = (sensor.uuid, str(sensor.kind), sensor.name, str(sensor.quality))
            if (joules := now.energies_j.get(sensor.uuid)) is not None:
                energy.add_metric(said, self._grows("energy", sensor.uuid, joules))
            if (watts := now.powers_w.get(sensor.uuid)) is not None:
                power.add_metric(said, watts)
        yield energy
        yield power

    def _of_run(self, now: Snapshot) -> Iterator[Family]:
        one = now.estimate
        facility_j = None if one.facility_kwh is None else one.facility_kwh * J_PER_KWH
        grams = None if one.tco2e is None else one.tco2e * _G_PER_T
        counters = (
            ("facility_energy_joules", "Energy of the facility, PUE included.", facility_j),
            ("co2e_grams", "Emissions of the facility's energy.", grams),
            ("steps", "Training steps that were logged.", now.steps or None),
            ("tokens", "Tokens of all steps and ranks.", now.tokens),
        )
        for name, text, value in counters:
            yield from self._counter(name, text, value)
        yield from self._counter("cost", "Money.", one.cost, currency=one.currency or "")
        yield from _gauge("coverage_ratio", "Device-seconds that samples watched.", one.coverage)
        yield from _gauge("loss", "Of the last step that has one.", now.loss)
        as_of_s = now.as_of_ms / MS_PER_S
        yield from _gauge("as_of_timestamp_seconds", "When all this was so.", as_of_s)

    def _counter(
        self, name: str, text: str, value: float | None, **labels: str
    ) -> Iterator[Family]:
        from prometheus_client.core import CounterMetricFamily

        if value is not None:
            found = CounterMetricFamily(f"carbontrack_{name}", text, labels=tuple(labels))
            found.add_metric(tuple(labels.values()), self._grows(name, "", value))
            yield found

    def _grows(self, name: str, of: str, value: float) -> float:
        """A counter that falls would be taken for one that began again at 0: a second whose energy
        waits for the device's counter may turn out a little smaller.
        """
        self._grown[name, of] = max(value, self._grown.get((name, of), 0.0))
        return self._grown[name, of]


def _gauge(name: str, text: str, value: float | None) -> Iterator[Family]:
    from prometheus_client.core import GaugeMetricFamily

    if value is not None:
        yield GaugeMetricFamily(f"carbontrack_{name}", text, value=value)
