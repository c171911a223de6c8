"""Metrics of exporters: which of them are powers or energies of devices, and in what unit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from carbontrack.errors import CarbontrackError
from carbontrack.importers.model import FoundDevice, Refused, Tally
from carbontrack.importers.power import read_in_turn
from carbontrack.importers.readings import Readings, known
from carbontrack.units import J_PER_KWH
from carbontrack.vocabulary import DeviceKind, Quality, Scope

_POWER, _ENERGY = "power", "energy"
# By the end of the name: to W, or to J of a counter.
_UNITS: Mapping[str, tuple[str, float]] = {
    "w": (_POWER, 1.0),
    "mw": (_POWER, 1e-3),
    "kw": (_POWER, 1e3),
    "j": (_ENERGY, 1.0),
    "mj": (_ENERGY, 1e-3),
    "kwh": (_ENERGY, J_PER_KWH),
}
_NAMES = (
    (re.compile(r"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION(_mJ)?", re.I), "mj"),
    (re.compile(r"DCGM_FI_DEV_POWER_USAGE(_INSTANT)?", re.I), "w"),
    (re.compile(r".*(?:power|pwr).*_milli_?watts", re.I), "mw"),
    (re.compile(r".*(?:power|pwr).*_watts", re.I), "w"),
    (re.compile(r".*energy.*_milli_?joules?(_total)?", re.I), "mj"),
    (re.compile(r".*(?:energy|joules).*_joules?(_total)?", re.I), "j"),
)
_DEVICE = (
    *("UUID", "uuid", "gpu_uuid", "GPU_UUID", "pci_bus_id", "device"),
    *("gpu", "gpu_id", "gpu_index", "minor_number"),
)
_HOST = ("Hostname", "hostname", "node", "host", "instance")
_MODEL = ("modelName", "model_name", "model", "name")


@dataclass(frozen=True, slots=True)
class _Known:
    """A device of a metric."""

    name: str
    host: str | None
    uuid: str | None


class Metrics:
    """Collects the series of all devices, whatever labels of pods and containers they change."""

    def __init__(self, file: str, tally: Tally, unit: str | None, device_label: str | None) -> None:
        if unit is not None and unit.lower() not in _UNITS:
            raise CarbontrackError(
                f"--unit {unit!r} is not known.", hint="Known: W, mW, kW, J, mJ, kWh."
            )
        self._unit = unit and unit.lower()
        self._device = (device_label,) if device_label else _DEVICE
        self._file = file
        self._fields: dict[str, str] = {}
        self._unnamed: dict[str, set[int]] = {}  # times of what no label says the device of
        self._known: dict[str, _Known] = {}
        self.readings = Readings(file, tally)
        self.passed: dict[str, None] = {}  # names of metrics that are not read

    def is_read(self, name: str) -> bool:
        """Whether a metric is a power or an energy."""
        if self._unit is None and _unit_of(name) is None:
            self.passed[name or "a series without a name"] = None
            return False
        return True

    def add(self, labels: Mapping[str, str], time_ns: int, value: float) -> None:
        """A value of a metric that is read, whose name is the label `__name__`."""
        name = labels.get("__name__", "")
        measured, factor = _UNITS[self._unit or _unit_of(name) or "w"]
        named = next((labels[label] for label in self._device if labels.get(label)), None)
        uuid = named or "GPU"
        host = next((labels[label] for label in _HOST if labels.get(label)), None)
        unique = uuid.startswith("GPU-")
        key = uuid if unique or host is None else f"{host} {uuid}"
        model = next((labels[label] for label in _MODEL if labels.get(label)), "GPU")
        self._known.setdefault(key, _Known(model, host, uuid if unique else None))
        put = self.readings.power if measured == _POWER else self.readings.counter
        of = f"{key} {measured}"
        self._fields[of] = name or measured
        if named is None:
            self._add_unnamed(of, time_ns)
        put(key, time_ns, known(value) * factor)

    def _add_unnamed(self, of: str, time_ns: int) -> None:
        times_ns = self._unnamed.setdefault(of, set())
        if time_ns in times_ns:
            self._refuse_several(of)
        times_ns.add(time_ns)

    def check(self) -> None:
        """Raises Refused where samples that no label names a device of are those of several."""
        import numpy as np

        for of, times_ns in self._unnamed.items():
            if read_in_turn(np.array(sorted(times_ns), np.int64)) > 1:
                self._refuse_several(of)

    def _refuse_several(self, of: str) -> NoReturn:
        what = self._fields[of]
        raise Refused(
            f"{self._file}: several series of {what} have no label that names a device.",
            "Give --device-column LABEL.",
        )

    def device(self, key: str, quality: Quality) -> FoundDevice:
        """A device by its key."""
        of = self._known[key]
        measured = _ENERGY if quality is Quality.COUNTER else _POWER
        field = self._fields[f"{key} {measured}"]
        return FoundDevice(
            key, DeviceKind.GPU, of.name, quality, field, Scope.GPU, of.uuid, of.host
        )


def _unit_of(name: str) -> str | None:
    return next((unit for pattern, unit in _NAMES if pattern.fullmatch(name)), None)
