"""eco2AI's emission.csv: a row a run, in kWh as its header says; of a training a row an epoch.

Source: eco2ai/emission_track.py: `new_epoch` writes a row with the energy since the one before,
under the id of the training; otherwise the row of an id is written anew, with all since the start.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from carbontrack.importers import plausible
from carbontrack.importers.clock import Clock, moved
from carbontrack.importers.model import FileOptions, FoundRun, Refused, Rejected, Tally
from carbontrack.importers.rows import Row, names_of, rows
from carbontrack.importers.source import Source
from carbontrack.importers.stated import even, node
from carbontrack.units import J_PER_KWH, NS_PER_S
from carbontrack.vocabulary import ImportKind

KIND = ImportKind.ECO2AI
_ENERGY, _SECONDS, _START = "power_consumption(kWh)", "duration(s)", "start_time"
_DEFAULT_NAMES = ("", "Default project name", "Deafult project name")


@dataclass(frozen=True, slots=True)
class _Part:
    """What a row says: of a whole run so far, or of one epoch."""

    row: Row
    started_ns: int
    seconds: float
    energy_j: float


def matches(head: str) -> bool:
    """Whether its columns are eco2AI's."""
    return {_ENERGY, _SECONDS, _START} <= set(names_of(head))


def read(source: Source, options: FileOptions, tally: Tally) -> list[FoundRun]:
    """Its runs, with the energy of all their parts. Raises Refused for energies that cannot be."""
    clock = Clock(source.name, options.tz)
    found: dict[str, dict[tuple[int, str], _Part]] = {}
    energy_j, total_s = 0.0, 0.0
    for row in rows(source, tally, (_START, _SECONDS, _ENERGY)):
        try:
            part = _part(row, clock)
        except Rejected as error:
            tally.reject(row.number, str(error))
            continue
        energy_j, total_s = energy_j + part.energy_j, total_s + part.seconds
        tally.taken += 1
        parts = found.setdefault(row.text("id") or str(part.started_ns), {})
        of = (part.started_ns, row.text("epoch"))
        parts[of] = max(parts.get(of, part), part, key=lambda known: known.seconds)
    if not found:
        raise Refused(f"{source.name} has no row that can be read.", tally.why)
    runs = [_run(id_, list(parts.values())) for id_, parts in found.items()]
    number, most_w = runs[0].rows[0], plausible.MAX_NODE_W
    plausible.check(source.name, number, "a sum over all rows", energy_j, total_s, most_w)
    return runs


def _part(row: Row, clock: Clock) -> _Part:
    """Raises Rejected for a row that is none."""
    seconds, kwh = row.known(_SECONDS), row.known(_ENERGY)
    started_ns = clock.read(row.text(_START))
    moved(started_ns, seconds)
    return _Part(row, started_ns, seconds, kwh * J_PER_KWH)


def _run(id_: str, parts: Sequence[_Part]) -> FoundRun:
    first, last = parts[0].row, parts[-1].row
    name = first.text("project_name")
    own_name = None if name in _DEFAULT_NAMES else name
    models = [first.text("CPU_name"), first.text("GPU_name")]
    devices = ", ".join(model for model in models if model and not model.startswith("0 device"))
    spans = list(_spans(parts))
    return FoundRun(
        identity=(KIND, id_),
        name=own_name,
        project=own_name,
        started_ns=spans[0][0],
        ended_ns=spans[-1][1],
        devices={node(devices or "CPU and GPU", _ENERGY): even(spans)},
        rows=(first.number, last.number),
        facts={"epoch": last.text("epoch") or None, "country": last.text("region/country") or None},
    )


def _spans(parts: Sequence[_Part]) -> Iterator[tuple[int, int, float]]:
    """When each part was, one after the other: their starts are cut to whole seconds."""
    ended_ns = 0
    for part in sorted(parts, key=lambda part: part.started_ns):
        started_ns = max(part.started_ns, ended_ns)
        ended_ns = started_ns + round(part.seconds * NS_PER_S)
        yield started_ns, ended_ns, part.energy_j
