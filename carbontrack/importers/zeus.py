"""Zeus' windows: a row a window, with the energy of each GPU, and of CPU and memory, in J."""

from __future__ import annotations

import re

from carbontrack.importers import plausible
from carbontrack.importers.clock import Clock, given_start, moved, plausible_ns
from carbontrack.importers.model import FileOptions, FoundDevice, FoundRun, Refused, Rejected, Tally
from carbontrack.importers.rows import names_of, rows
from carbontrack.importers.source import Source
from carbontrack.importers.stated import even
from carbontrack.units import NS_PER_S
from carbontrack.vocabulary import DeviceKind, ImportKind, Quality, Scope

KIND = ImportKind.ZEUS
_DEVICE = re.compile(r"((gpu|cpu|dram)_?\d*)_energy(?:\s*\(J\))?", re.IGNORECASE)
_LEAST_EPOCH_S, _MOST_S = 1e9, 1e10


def matches(head: str) -> bool:
    """Whether its columns are those of a window."""
    names = names_of(head)
    return {"start_time", "elapsed_time"} <= set(names) and any(map(_DEVICE.fullmatch, names))


def read(source: Source, options: FileOptions, tally: Tally) -> list[FoundRun]:
    """The windows as one run; of windows within each other the outer one counts. Raises Refused
    for a table without energies.
    """
    columns = [name for name in names_of(source.head) if _DEVICE.fullmatch(name)]
    if not columns:
        raise Refused(f"{source.name} has no column of a device's energy, as gpu0_energy.")
    windows = []
    for row in rows(source, tally, ("start_time", "elapsed_time")):
        try:
            energies = {name: row.value(name) or 0.0 for name in columns}
            start_s, length_s = row.known("start_time"), row.known("elapsed_time")
            _check_time(start_s, length_s)
        except Rejected as error:
            tally.reject(row.number, str(error))
            continue
        for name, energy_j in energies.items():
            plausible.check(source.name, row.number, name, energy_j, length_s, plausible.MAX_GPU_W)
        windows.append((start_s, start_s + length_s, row.number, energies))
        tally.taken += 1
    if not windows:
        raise Refused(f"{source.name} has no window.", tally.why)
    outer = _outer(source, windows, tally)
    first_s = outer[0][0]
    shift_ns = 0
    if first_s < _LEAST_EPOCH_S:  # seconds since the machine was started
        given_ns = given_start(source.name, options, Clock(source.name, options.tz))
        shift_ns = given_ns - round(first_s * NS_PER_S)
    spans = [
        (round(begin * NS_PER_S) + shift_ns, round(end * NS_PER_S) + shift_ns, energies)
        for begin, end, _, energies in outer
    ]
    devices = {
        _device(name): even((begin, end, energies[name]) for begin, end, energies in spans)
        for name in columns
    }
    numbers = [number for _, _, number, _ in windows]
    return [
        FoundRun(
            identity=(KIND, str(spans[0][0]), repr(outer[0])),
            name=None,
            started_ns=spans[0][0],
            ended_ns=max(end for _, end, _ in spans),
            devices=devices,
            rows=(min(numbers), max(numbers)),
        )
    ]


def _check_time(start_s: float, length_s: float) -> None:
    """Raises Rejected for a window that cannot be, in seconds of the epoch or of the machine."""
    if start_s + length_s >= _MOST_S:
        raise Rejected(f"{start_s:g} + {length_s:g} s is not a time")
    if start_s >= _LEAST_EPOCH_S:
        moved(plausible_ns(round(start_s * NS_PER_S), f"{start_s:.0f}"), length_s)


_Window = tuple[float, float, int, dict[str, float]]


def _outer(source: Source, windows: list[_Window], tally: Tally) -> list[_Window]:
    """Those that lie in no other. Raises Refused where two overlap otherwise."""
    found: list[_Window] = []
    for window in sorted(windows, key=lambda w: (w[0], -w[1])):
        if found and window[0] < found[-1][1]:
            if window[1] > found[-1][1]:
                raise Refused(
                    f"{source.name}, row {window[2]}: its window overlaps that of row "
                    f"{found[-1][2]} in part."
                )
            tally.note("windows within others are not counted again")
            continue
        found.append(window)
    return found


def _device(column: str) -> FoundDevice:
    match = _DEVICE.fullmatch(column)
    kind = DeviceKind(match[2].lower()) if match else DeviceKind.GPU
    name = match[1] if match else column
    return FoundDevice(name, kind, kind.upper(), Quality.POWER, column, Scope(kind.value))
