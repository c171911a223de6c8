"""Intel and AMD CPUs by RAPL: the energy counters of packages and memory, through Linux powercap.

Each package is one device and its DRAM domain, where it has one, another beside it: the package
does not include memory. Left out, because they are parts of a package or count it again: `core`,
`uncore`, `psys` (the whole platform) and the `intel-rapl-mmio` tree.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from carbontrack.meters.base import (
    Device,
    DeviceLost,
    Meter,
    MeterContext,
    MeterUnavailable,
    Reading,
    refuse_argument,
)
from carbontrack.meters.host import host_device_uuid
from carbontrack.units import NS_PER_S, monotonic_ns
from carbontrack.vocabulary import DeviceKind, MeterName, Quality, Scope

_UJ_PER_J = 1e6
# The counter moves about once a millisecond; the first power needs two readings a little apart.
_PRIMING_S = 0.02
# Two sockets of the largest kind together stay below it: a counter that fell farther did not wrap.
# One that was not read for longer than its range holds of it may have wrapped several times.
_IMPOSSIBLE_W = 2000.0
_FIX = (
    "Allow it with `sudo chmod -R a+r /sys/class/powercap/intel-rapl*` (until the next boot; a "
    "udev rule with that command makes it last), or run with CAP_DAC_READ_SEARCH."
)


def check(argument: str) -> None:
    """Raise CarbontrackError for any argument: rapl takes none."""
    refuse_argument(MeterName.RAPL, argument)


def open_meter(argument: str, context: MeterContext) -> Meter:
    """The meter `rapl`. Raises MeterUnavailable, with the fix, if there is none or it is barred."""
    check(argument)
    root = context.sysfs / "class/powercap"
    zones = list(_zones(root))
    if not zones:
        raise MeterUnavailable(
            f"no RAPL packages under {root}: a virtual machine, or the module intel_rapl_msr "
            "is not loaded."
        )
    try:
        sources = [RaplSource(zone, _device(zone)) for zone in zones]
    except PermissionError as error:
        raise MeterUnavailable(f"{error.filename} may only be read by root. {_FIX}") from error
    except (OSError, ValueError) as error:
        raise MeterUnavailable(f"RAPL under {root} cannot be read: {error}.") from error
    time.sleep(_PRIMING_S)
    for source in sources:
        source.read()
    return _RaplMeter(sources)


def _zones(root: Path) -> Iterator[Path]:
    """The powercap zones of packages and their memory, in order of package."""
    for package in sorted(root.glob("intel-rapl:*"), key=_place):
        if _name(package).startswith("package"):
            yield package
            yield from (zone for zone in _parts(root, package) if _name(zone) == "dram")


def _parts(root: Path, package: Path) -> list[Path]:
    """The sub-zones: linked beside the package by the kernel, inside it in some containers."""
    pattern = f"{package.name}:*"
    parts = {path.name: path for folder in (package, root) for path in folder.glob(pattern)}
    return [parts[name] for name in sorted(parts)]


def _place(zone: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in zone.name.split(":")[1:] if part.isdigit())


def _name(zone: Path) -> str:
    try:
        return (zone / "name").read_text().strip()
    except OSError:
        return ""


def _device(zone: Path) -> Device:
    package, *part = _place(zone)
    dram = bool(part)
    return Device(
        uuid=host_device_uuid("DRAM" if dram else "CPU", zone.name),
        kind=DeviceKind.DRAM if dram else DeviceKind.CPU,
        name=f"Memory of CPU package {package}"
        if dram
        else f"CPU package {_name(zone)[8:] or package}",
        meter=MeterName.RAPL,
        quality=Quality.COUNTER,
        field="energy_uj",
        scope=Scope.DRAM if dram else Scope.CPU,
        rated_power_w=_rated_w(zone),
        power_limit_w=_watts(zone / "constraint_0_power_limit_uw"),
        update_period_ms=1.0,
    )


def _rated_w(zone: Path) -> float | None:
    """The package's TDP: what the firmware gives as maximum of the long-term power limit."""
    return _watts(zone / "constraint_0_max_power_uw")


def _watts(path: Path) -> float | None:
    try:
        microwatts = int(path.read_text())
    except (OSError, ValueError):
        return None
    return microwatts / 1e6 if microwatts > 0 else None


class RaplSource:
    """One package, or its memory. Its energy is unwrapped; where what was used since the last poll
    cannot be known, as after a reset or a suspend, it falls.
    """

    def __init__(self, zone: Path, device: Device) -> None:
        """Raises OSError or ValueError if the counter cannot be read."""
        self.device = device
        self._counter = zone / "energy_uj"
        self._range_uj = int((zone / "max_energy_range_uj").read_text())
        self._lock = threading.Lock()
        self._raw_uj = self._read_uj()
        self._energy_uj = self._raw_uj
        self._last = Reading(monotonic_ns(), self._energy_uj / _UJ_PER_J, None)

    def read(self) -> Reading:
        """Poll once; the power is the mean since the last poll. Raises DeviceLost if it is gone."""
        with self._lock:
            try:
                raw_uj = self._read_uj()
            except (OSError, ValueError) as error:
                raise DeviceLost(f"{self._counter}: {error}") from error
            now_ns = monotonic_ns()
            elapsed_s = max(now_ns - self._last.time_ns, 1) / NS_PER_S
            most_uj = _IMPOSSIBLE_W * elapsed_s * _UJ_PER_J
            step_uj = raw_uj - self._raw_uj
            if step_uj < 0:  # it wraps within minutes on a busy server
                step_uj += self._range_uj + 1
                if step_uj > most_uj:
                    return self._begin_again(now_ns, raw_uj)
            if most_uj > self._range_uj:
                return self._begin_again(now_ns, raw_uj)
            self._raw_uj = raw_uj
            self._energy_uj += step_uj
            power_w = step_uj / _UJ_PER_J / elapsed_s
            self._last = Reading(now_ns, self._energy_uj / _UJ_PER_J, power_w)
            return self._last

    def vitals(self) -> None:
        """None: RAPL knows only energy."""

    def _begin_again(self, now_ns: int, raw_uj: int) -> Reading:
        """What was used since the last poll is unknown: the energy falls, and so the recorder sees
        it.
        """
        self._raw_uj, self._energy_uj = raw_uj, 0
        self._last = Reading(now_ns, 0.0, None)
        return self._last

    def _read_uj(self) -> int:
        return int(self._counter.read_text())


class _RaplMeter:
    name: str = MeterName.RAPL

    def __init__(self, sources: Sequence[RaplSource]) -> None:
        self.sources = sources
        packages = sum(source.device.kind is DeviceKind.CPU for source in sources)
        memory = " and memory" if len(sources) > packages else ", without memory"
        self.note = f"CPU: energy counters of {packages} packages{memory} (RAPL), whole machine."

    def close(self) -> None:
        """Nothing is held open."""
