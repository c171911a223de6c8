"""Simulated GPUs, for demonstrations and tests: `sim:a100x8`, `sim:h100x4`, `sim:a100x2@trace.csv`.

Without a trace each GPU follows a training run: a ramp while data and weights load, steady steps
with the dip of each gradient exchange, and a pause at every checkpoint. The curve is piecewise
constant or linear, so the energy counter is its exact integral. Every row made from it says
*simulated*.
"""

from __future__ import annotations

import bisect
import csv
import itertools
import math
import re
import socket
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from carbontrack.decimals import decimal
from carbontrack.errors import CarbontrackError
from carbontrack.meters.base import Device, Meter, MeterContext, Reading, Vitals
from carbontrack.units import NS_PER_S, monotonic_ns
from carbontrack.vocabulary import DeviceKind, MeterName, Quality, Scope


@dataclass(frozen=True, slots=True)
class _Model:
    name: str
    rated_power_w: float
    idle_w: float
    memory_bytes: int
    sm_clock_mhz: float


_MODELS = {
    "a100": _Model("NVIDIA A100-SXM4-80GB", 400.0, 56.0, 80 * 2**30, 1410.0),
    "h100": _Model("NVIDIA H100 80GB HBM3", 700.0, 70.0, 80 * 2**30, 1980.0),
}
_FORMS = "sim:a100x8, sim:h100x4, or sim:a100x8@FILE.csv with columns seconds,watts"
_SPEC = re.compile(r"(?P<model>[a-z0-9]+?)x(?P<count>[0-9]{1,3})(?:@(?P<trace>.+))?")


class PowerCurve(Protocol):
    """Power over time, and its exact integral. Times are seconds from the meter's opening."""

    def power_w(self, t_s: float) -> float: ...

    def energy_j(self, t_s: float) -> float:
        """Energy in J from 0 to `t_s`."""
        ...


@dataclass(frozen=True, slots=True)
class TrainingCurve:
    """A training run: ramp from idle, then cycles of steps with a checkpoint at each end."""

    idle_w: float
    compute_w: float  # forward and backward pass
    exchange_w: float  # optimizer and gradient exchange, the end of each step
    checkpoint_w: float
    ramp_s: float = 6.0
    step_s: float = 1.3
    exchange_s: float = 0.2
    cycle_s: float = 60.0  # steps, then a checkpoint in its last `checkpoint_s`
    checkpoint_s: float = 4.0

    def power_w(self, t_s: float) -> float:
        if t_s < self.ramp_s:
            return self.idle_w + (self.compute_w - self.idle_w) * max(t_s, 0.0) / self.ramp_s
        in_cycle_s = (t_s - self.ramp_s) % self.cycle_s
        if in_cycle_s >= self.cycle_s - self.checkpoint_s:
            return self.checkpoint_w
        exchanging = in_cycle_s % self.step_s >= self.step_s - self.exchange_s
        return self.exchange_w if exchanging else self.compute_w

    def energy_j(self, t_s: float) -> float:
        ramp_s = min(max(t_s, 0.0), self.ramp_s)
        slope = (self.compute_w - self.idle_w) / self.ramp_s
        energy_j = self.idle_w * ramp_s + slope * ramp_s**2 / 2
        cycles, in_cycle_s = divmod(max(t_s - self.ramp_s, 0.0), self.cycle_s)
        return energy_j + cycles * self._cycle_j(self.cycle_s) + self._cycle_j(in_cycle_s)

    def _cycle_j(self, t_s: float) -> float:
        """Energy of the first `t_s` of a cycle."""
        training_s = min(t_s, self.cycle_s - self.checkpoint_s)
        steps, in_step_s = divmod(training_s, self.step_s)
        compute_s = self.step_s - self.exchange_s
        exchange_s = steps * self.exchange_s + max(in_step_s - compute_s, 0.0)
        return (
            self.exchange_w * exchange_s
            + self.compute_w * (training_s - exchange_s)
            + self.checkpoint_w * (t_s - training_s)
        )


class TraceCurve:
    """A recorded trace: each power holds until the next line, the last one for ever."""

    def __init__(self, seconds: Sequence[float], watts: Sequence[float]) -> None:
        self._seconds = list(seconds)
        self._watts = list(watts)
        self._energy_j = [0.0]
        for i in range(1, len(self._seconds)):
            held_s = self._seconds[i] - self._seconds[i - 1]
            self._energy_j.append(self._energy_j[-1] + self._watts[i - 1] * held_s)

    def power_w(self, t_s: float) -> float:
        return self._watts[self._line_at(t_s)]

    def energy_j(self, t_s: float) -> float:
        line = self._line_at(t_s)
        return self._energy_j[line] + self._watts[line] * (max(t_s, 0.0) - self._seconds[line])

    def _line_at(self, t_s: float) -> int:
        return max(bisect.bisect_right(self._seconds, t_s) - 1, 0)


def check(argument: str) -> None:
    """Raise CarbontrackError for a form that is not known, or a trace that cannot be read."""
    open_meter(argument, MeterContext())  # it opens no device


def open_meter(argument: str, context: MeterContext) -> Meter:
    """The meter of `sim:ARGUMENT`. Raises CarbontrackError for a form it does not know."""
    match = _SPEC.fullmatch(argument)
    if match is None or match["model"] not in _MODELS or int(match["count"]) < 1:
        raise CarbontrackError(
            f"Unknown simulation sim:{argument}.", hint=f"Known forms: {_FORMS}."
        )
    model = _MODELS[match["model"]]
    trace = _read_trace(Path(match["trace"])) if match["trace"] else None
    opened_ns = monotonic_ns()
    return _SimulatedMeter(
        [
            _SimulatedSource(
                _device(match["model"], model, index),
                model,
                trace or training_curve(match["model"], index),
                opened_ns,
            )
            for index in range(int(match["count"]))
        ]
    )


def training_curve(model: str, index: int) -> TrainingCurve:
    """The curve of GPU `index`: cards of one kind differ by a few per cent, always the same."""
    card = 1 + 0.02 * math.sin(1.7 * index)
    of = _MODELS[model]
    return TrainingCurve(
        idle_w=of.idle_w,
        compute_w=0.92 * of.rated_power_w * card,
        exchange_w=0.66 * of.rated_power_w * card,
        checkpoint_w=0.28 * of.rated_power_w * card,
    )


def _device(kind: str, model: _Model, index: int) -> Device:
    identity = uuid.uuid5(uuid.NAMESPACE_DNS, f"{socket.gethostname()}/{kind}/{index}")
    return Device(
        uuid=f"SIM-GPU-{identity}",
        kind=DeviceKind.GPU,
        name=f"Simulated {model.name}",
        meter=MeterName.SIMULATED,
        quality=Quality.SIMULATED,
        field="simulated_energy",
        scope=Scope.GPU,
        rated_power_w=model.rated_power_w,
        power_limit_w=model.rated_power_w,
    )


def _read_trace(path: Path) -> TraceCurve:
    """Read a CSV file with the columns seconds (from 0, rising) and watts."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [
                (decimal(row["seconds"]), decimal(row["watts"])) for row in csv.DictReader(file)
            ]
    except OSError as error:
        raise CarbontrackError(f"Cannot read the trace {path}: {error.strerror}.") from error
    except (KeyError, TypeError, ValueError) as error:
        raise CarbontrackError(
            f"The trace {path} is not a power trace: {error}.",
            hint="It needs the columns seconds,watts with a number in each.",
        ) from error
    seconds = [row[0] for row in rows]
    rising = all(a < b for a, b in itertools.pairwise(seconds))
    if not rows or seconds[0] != 0 or not rising:
        raise CarbontrackError(
            f"The trace {path} must begin at 0 seconds and rise from line to line."
        )
    return TraceCurve(seconds, [row[1] for row in rows])


class _SimulatedSource:
    def __init__(self, device: Device, model: _Model, curve: PowerCurve, opened_ns: int) -> None:
        self.device = device
        self._model = model
        self._curve = curve
        self._opened_ns = opened_ns

    def read(self) -> Reading:
        now_ns = monotonic_ns()
        t_s = (now_ns - self._opened_ns) / NS_PER_S
        return Reading(now_ns, self._curve.energy_j(t_s), self._curve.power_w(t_s))

    def vitals(self) -> Vitals:
        t_s = (monotonic_ns() - self._opened_ns) / NS_PER_S
        model = self._model
        load = self._curve.power_w(t_s) / model.rated_power_w
        warm = 1 - math.exp(-t_s / 60)
        return Vitals(
            util_pct=min(100.0, 100 * load / 0.92),
            memory_used_bytes=round(0.86 * model.memory_bytes * min(1.0, 0.1 + t_s / 6)),
            temperature_c=32 + 34 * load * warm,
            sm_clock_mhz=model.sm_clock_mhz,
        )


class _SimulatedMeter:
    name: str = MeterName.SIMULATED
    note = "Simulated GPUs: no real device was read."

    def __init__(self, sources: Sequence[_SimulatedSource]) -> None:
        self.sources = sources

    def close(self) -> None:
        """Nothing is held open."""
