"""MLPerf's power logs: JSON behind `:::MLLOG`, a reading of a node's power at the wall a line.

Source: github.com/mlcommons/training_policies, power measurement: key power_reading, in W.
"""

from __future__ import annotations

import json
from typing import Any

from carbontrack.decimals import decimal
from carbontrack.importers import plausible
from carbontrack.importers.clock import plausible_ns
from carbontrack.importers.model import FileOptions, FoundDevice, FoundRun, Refused, Tally
from carbontrack.importers.readings import Readings
from carbontrack.importers.source import Source
from carbontrack.units import NS_PER_MS
from carbontrack.vocabulary import DeviceKind, ImportKind, Quality, Scope

KIND = ImportKind.MLPERF
_MARK = ":::MLLOG"
_READING = "power_reading"


def matches(head: str) -> bool:
    """Whether it has such lines, with powers among them."""
    return _MARK in head and '"power_' in head


def read(source: Source, options: FileOptions, tally: Tally) -> list[FoundRun]:
    """The log as one run. Raises Refused for one without readings."""
    readings = Readings(source.name, tally)
    first, last, first_line = 0, 0, ""
    for number, line in source.lines():
        _, mark, text = line.partition(_MARK)
        if not mark:
            continue
        try:
            found: dict[str, Any] = json.loads(text)
            if found.get("key") != _READING:
                continue
            at = found["time_ms"]
            time_ns = plausible_ns(round(decimal(at)) * NS_PER_MS, at)
            power_w = decimal(found["value"])
        except (ValueError, TypeError, OverflowError, KeyError, AttributeError) as error:
            tally.reject(number, f"{error}")
            continue
        readings.power("node", time_ns, power_w)
        tally.taken += 1
        first, last, first_line = first or number, number, first_line or text.strip()
    if not tally.taken:
        raise Refused(f"{source.name} has no {_READING}.", tally.why)
    started_ns, ended_ns = readings.times_ns
    return [
        FoundRun(
            identity=(KIND, str(started_ns), first_line),
            name=None,
            started_ns=started_ns,
            ended_ns=ended_ns,
            devices=readings.devices(_device, most_w=plausible.MAX_NODE_W),
            rows=(first, last),
        )
    ]


def _device(key: str, quality: Quality) -> FoundDevice:
    return FoundDevice(key, DeviceKind.NODE, "node, at the wall", quality, _READING, Scope.NODE)
