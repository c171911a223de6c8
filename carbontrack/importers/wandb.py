"""W&B's system events as JSON lines: a row is the mean of the time since the row before.

Source: github.com/wandb/wandb, sdk/internal/stats.py of 2020: samples are averaged over about 30 s.
No newer export was found: of one, a row is taken in the same way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from carbontrack.decimals import decimal
from carbontrack.importers.clock import moved, plausible_ns
from carbontrack.importers.model import FileOptions, FoundDevice, FoundRun, Refused, Rejected, Tally
from carbontrack.importers.power import held_ns, usual_ns
from carbontrack.importers.readings import UNKNOWN, Readings
from carbontrack.importers.source import Source
from carbontrack.units import NS_PER_S
from carbontrack.vocabulary import DeviceKind, ImportKind, Quality, Scope

KIND = ImportKind.WANDB
_POWER = re.compile(r"(?:system[./])?gpu\.(\d+)\.powerWatts")


@dataclass(frozen=True, slots=True)
class _Event:
    row: int
    at_ns: int
    runtime_ns: int | None
    powers_w: dict[str, float]


def matches(head: str) -> bool:
    """Whether it is JSON lines of the system's state."""
    line = head.lstrip().partition("\n")[0]
    return line.startswith("{") and '"_timestamp"' in line and "gpu" in head


def read(source: Source, options: FileOptions, tally: Tally) -> list[FoundRun]:
    """The file as one run. Raises Refused for one without any power."""
    events = sorted(_events(source, tally), key=lambda event: event.at_ns)
    if not any(event.powers_w for event in events):
        raise Refused(f"{source.name} has no gpu.N.powerWatts.")
    first = events[0]
    steps = [b.at_ns - a.at_ns for a, b in pairwise(events)]
    usual, held = usual_ns(steps), held_ns(steps)
    started_ns = first.at_ns - (usual if first.runtime_ns is None else first.runtime_ns)
    readings = Readings(source.name, tally)
    before_ns = started_ns
    for event in events:
        far = usual and event.at_ns - before_ns > held
        begin_ns = event.at_ns - usual if far else before_ns
        for key, power_w in event.powers_w.items():
            if event.at_ns > begin_ns:
                readings.mean(key, begin_ns, event.at_ns, power_w)
        before_ns = event.at_ns
    return [
        FoundRun(
            identity=(KIND, str(started_ns), json.dumps(first.powers_w)),
            name=None,
            started_ns=started_ns,
            ended_ns=events[-1].at_ns,
            devices=readings.devices(_device),
            rows=(first.row, events[-1].row),
        )
    ]


def _device(key: str, quality: Quality) -> FoundDevice:
    field = f"{key}.powerWatts"
    return FoundDevice(key, DeviceKind.GPU, "GPU", quality, field, Scope.GPU)


def _events(source: Source, tally: Tally) -> Iterator[_Event]:
    for number, line in source.lines():
        try:
            found = json.loads(line)
            if not isinstance(found, dict) or "_timestamp" not in found:
                raise Rejected("it has no _timestamp")
            at = found["_timestamp"]
            at_ns = plausible_ns(round(decimal(at) * NS_PER_S), at)
            runtime = found.get("_runtime")
            runtime_ns = None if runtime is None else at_ns - moved(at_ns, -decimal(runtime))
            yield _Event(number, at_ns, runtime_ns, dict(_powers(found)))
            tally.taken += 1
        except Rejected as error:
            tally.reject(number, str(error))
        except (ValueError, TypeError, OverflowError) as error:
            tally.reject(number, f"{error}")


def _powers(found: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in found.items():
        if (match := _POWER.fullmatch(name)) is not None:
            yield f"gpu.{match[1]}", UNKNOWN if value is None else decimal(value)
