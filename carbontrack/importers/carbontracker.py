"""carbontracker's output: blocks of what was consumed, and of what was predicted, which is no run.

Source: github.com/lfwa/carbontracker, components/component.py: its energies are multiplied by the
PUE of its constants, 1.59 in version 1.1.6, which no file says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from carbontrack.importers import plausible
from carbontrack.importers.clock import Clock, given_start
from carbontrack.importers.model import FileOptions, FoundRun, Refused, Tally
from carbontrack.importers.source import Source
from carbontrack.importers.stated import even, node
from carbontrack.units import J_PER_KWH, NS_PER_S
from carbontrack.vocabulary import ImportKind

KIND = ImportKind.CARBONTRACKER
PUE = 1.59
_STAMP = re.compile(r"(\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}) - ", re.ASCII)
_BLOCK = re.compile(r"(Actual|Predicted) consumption for (\d+) epoch", re.ASCII)
_TIME = re.compile(r"Time:\s*(?:(\d+) days?,\s*)?(\d+):(\d{2}):(\d{2})", re.ASCII)
_ENERGY = re.compile(r"Energy:\s*([\d.]+(?:[eE][+-]?\d+)?)\s*(\S+)", re.ASCII)
_FOUND = re.compile(r"components were found: (.*)")


@dataclass(slots=True)
class _Block:
    """What was consumed, as far as its lines are read."""

    row: int
    epochs: int
    stamp: str | None
    seconds: float | None = None
    energy_kwh: float | None = None


def matches(head: str) -> bool:
    """Whether it has such a block."""
    return _BLOCK.search(head) is not None or " - CarbonTracker: " in head


def read(source: Source, options: FileOptions, tally: Tally) -> list[FoundRun]:
    """A run each block of actual consumption. Raises Refused where nothing says when it was."""
    clock = Clock(source.name, options.tz)
    components = match[1].rstrip(". ") if (match := _FOUND.search(source.head)) else "CPU and GPU"
    next_ns: int | None = None
    runs = []
    for block in _blocks(source):
        if block.seconds is None or block.energy_kwh is None:
            tally.reject(block.row, "a block without time or energy")
            continue
        length_ns = round(block.seconds * NS_PER_S)
        if block.stamp is not None:
            started_ns = clock.read(block.stamp) - length_ns
        else:
            started_ns = given_start(source.name, options, clock) if next_ns is None else next_ns
        next_ns = started_ns + length_ns
        reported_j = block.energy_kwh * J_PER_KWH
        most_w = plausible.MAX_NODE_W * PUE
        plausible.check(source.name, block.row, "energy", reported_j, block.seconds, most_w)
        tally.taken += 1
        span = (started_ns, next_ns, reported_j / PUE)
        runs.append(
            FoundRun(
                identity=(KIND, str(started_ns), f"{block.energy_kwh} {block.seconds}"),
                name=None,
                started_ns=started_ns,
                ended_ns=next_ns,
                devices={node(components, "Energy", scope="gpu+cpu"): even([span])},
                rows=(block.row, block.row),
                facts={"epochs": block.epochs, "reported_kwh": block.energy_kwh, "pue": PUE},
            )
        )
    if not runs:
        raise Refused(f"{source.name} has no block of actual consumption.")
    tally.note(
        f"a PUE of {PUE:g}, that of carbontracker 1.1.6, is in the energies of the file, and was"
        " taken out"
    )
    return runs


def _blocks(source: Source) -> Iterator[_Block]:
    block: _Block | None = None
    stamp = None
    for number, line in source.lines():
        if found := _STAMP.match(line):
            stamp = found[1]
        if head := _BLOCK.search(line):
            if block is not None:
                yield block
            is_actual = head[1] == "Actual"
            block = _Block(number, int(head[2]), stamp) if is_actual else None
        elif block is not None:
            if time := _TIME.search(line):
                days, hours, minutes, seconds = (int(part or 0) for part in time.groups())
                block.seconds = ((days * 24 + hours) * 60 + minutes) * 60.0 + seconds
            elif energy := _ENERGY.search(line):
                block.energy_kwh = float(energy[1]) if energy[2] == "kWh" else None
    if block is not None:
        yield block
