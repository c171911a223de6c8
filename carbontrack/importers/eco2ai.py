"""eco2AI's emission.csv: a row a run, in kWh as its header says."""

from __future__ import annotations

from carbontrack.importers import plausible
from carbontrack.importers.clock import Clock, moved
from carbontrack.importers.model import FileOptions, FoundRun, Refused, Rejected, Tally
from carbontrack.importers.rows import Row, names_of, rows
from carbontrack.importers.source import Source
from carbontrack.importers.stated import even, node
from carbontrack.units import J_PER_KWH
from carbontrack.vocabulary import ImportKind

KIND = ImportKind.ECO2AI
_ENERGY, _SECONDS, _START = "power_consumption(kWh)", "duration(s)", "start_time"
_DEFAULT_NAMES = ("", "Default project name", "Deafult project name")


def matches(head: str) -> bool:
    """Whether its columns are eco2AI's."""
    return {_ENERGY, _SECONDS, _START} <= set(names_of(head))


def read(source: Source, options: FileOptions, tally: Tally) -> list[FoundRun]:
    """Its runs; of rows with one id the longest. Raises Refused for energies that cannot be."""
    clock = Clock(source.name, options.tz)
    found: dict[str, tuple[float, FoundRun]] = {}
    energy_j, total_s = 0.0, 0.0
    number = 0
    for row in rows(source, tally, (_START, _SECONDS, _ENERGY)):
        try:
            seconds, kwh = row.known(_SECONDS), row.known(_ENERGY)
            run = _run(row, clock, seconds, kwh)
        except Rejected as error:
            tally.reject(row.number, str(error))
            continue
        number = number or row.number
        energy_j, total_s = energy_j + kwh * J_PER_KWH, total_s + seconds
        tally.taken += 1
        if seconds > found.get(run.identity[1], (-1.0,))[0]:
            found[run.identity[1]] = (seconds, run)
    if not found:
        raise Refused(f"{source.name} has no row that can be read.", tally.why)
    most_w = plausible.MAX_NODE_W
    plausible.check(source.name, number, "a sum over all rows", energy_j, total_s, most_w)
    return [run for _, run in found.values()]


def _run(row: Row, clock: Clock, seconds: float, kwh: float) -> FoundRun:
    started_ns = clock.read(row.text(_START))
    ended_ns = moved(started_ns, seconds)
    name = row.text("project_name")
    own_name = None if name in _DEFAULT_NAMES else name
    parts = [row.text("CPU_name"), row.text("GPU_name")]
    devices = ", ".join(part for part in parts if part and not part.startswith("0 device"))
    return FoundRun(
        identity=(KIND, row.text("id") or str(started_ns)),
        name=own_name,
        project=own_name,
        started_ns=started_ns,
        ended_ns=ended_ns,
        devices={
            node(devices or "CPU and GPU", _ENERGY): even([(started_ns, ended_ns, kwh * J_PER_KWH)])
        },
        rows=(row.number, row.number),
        facts={"epoch": row.text("epoch") or None, "country": row.text("region/country") or None},
    )
