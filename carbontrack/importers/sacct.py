"""Slurm's `sacct`: a run an allocation, with the energy of its nodes.

Source: slurm.schedmd.com/sacct.html: ConsumedEnergyRaw is in J; ConsumedEnergy has suffixes of
1000. Its steps (JobID.batch, .extern, .0) repeat what the allocation has, and add nothing to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from carbontrack.importers import plausible
from carbontrack.importers.bins import Bins
from carbontrack.importers.clock import Clock, moved
from carbontrack.importers.model import FileOptions, FoundDevice, FoundRun, Refused, Rejected, Tally
from carbontrack.importers.rows import Row, names_of, rows
from carbontrack.importers.source import Source
from carbontrack.importers.stated import even, node
from carbontrack.vocabulary import ImportKind, Status

KIND = ImportKind.SACCT
_SUFFIX = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)([KMGT]?)", re.ASCII)
_OF_TRES = re.compile(r"(?:^|,)energy=(\d+)", re.ASCII)
_ELAPSED = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)(?:\.\d+)?", re.ASCII)
# What stands for none in a field of 32 bits, and from where on it does in one of 64.
_NO_VALUES = (0, 4_294_967_294, 4_294_967_295)
_LEAST_NO_VALUE = 2**63
_HOSTS = re.compile(r"([^,\[]+)(?:\[([^\]]+)\])?,?")


def matches(head: str) -> bool:
    """Whether its columns are a job and a time that passed."""
    names = set(_padded_names(head) or names_of(head))
    return bool({"JobID", "JobIDRaw"} & names and {"Elapsed", "ElapsedRaw", "Start"} & names)


def read(source: Source, options: FileOptions, tally: Tally) -> list[FoundRun]:
    """Its allocations. Raises Refused for energies that cannot be."""
    clock = Clock(source.name, options.tz)
    found: dict[tuple[str, str], FoundRun] = {}
    for row in _rows(source, tally):
        job = row.text("JobID", "JobIDRaw")
        key = (job, row.text("Start"))
        if "." in job or key in found:
            continue  # a step, or one whose number was cut
        try:
            found[key] = _run(source, row, clock, job)
            tally.taken += 1
        except Rejected as error:
            tally.reject(row.number, str(error))
    if not found:
        raise Refused(f"{source.name} has no job that can be read.", tally.why)
    if any(len(run.devices) > 1 for run in found.values()):
        tally.note("the energy of a job's nodes is one sum: it is shared evenly among them")
    tally.note("the energy is of whole nodes, also where other jobs shared them")
    return list(found.values())


def _run(source: Source, row: Row, clock: Clock, job: str) -> FoundRun:
    start, state = row.text("Start"), row.text("State")
    if not start or start in ("Unknown", "None"):
        raise Rejected(f"job {job} has no start")
    if state.startswith(("RUNNING", "PENDING", "REQUEUED", "SUSPENDED")):
        raise Rejected(f"job {job} is {state.lower()}")
    started_ns = clock.read(start)
    seconds = _elapsed_s(row)
    energy_j = _energy_j(row)
    nodes = max(1, round(row.value("NNodes", "AllocNodes") or 1))
    if energy_j is not None:
        most_w = plausible.MAX_NODE_W * nodes
        plausible.check(source.name, row.number, "energy", energy_j, seconds, most_w)
    ended_ns = moved(started_ns, seconds)
    return FoundRun(
        identity=(KIND, row.text("Cluster"), row.text("JobIDRaw", "JobID"), str(started_ns)),
        name=row.text("JobName") or f"job {job}",
        started_ns=started_ns,
        ended_ns=ended_ns,
        devices=_devices(row, nodes, energy_j, (started_ns, ended_ns)),
        rows=(row.number, row.number),
        status=Status.COMPLETED if state in ("", "COMPLETED") else Status.FAILED,
        facts={
            "job": job,
            **{
                name.lower(): row.text(name)
                for name in ("Cluster", "User", "Account", "Partition", "State")
                if row.text(name)
            },
        },
    )


def _devices(
    row: Row, nodes: int, energy_j: float | None, span: tuple[int, int]
) -> dict[FoundDevice, Bins]:
    hosts = list(_hosts(row.text("NodeList")))
    if len(hosts) != nodes:
        hosts = [f"node {number}" for number in range(1, nodes + 1)]
    field = "ConsumedEnergy"
    return {
        node("node", field, key=host, host=host): even([(*span, (energy_j or 0.0) / nodes)])
        for host in hosts
    }


def _hosts(text: str) -> Iterator[str]:
    """The names in nid[001002,001004-001006]."""
    for stem, ranges in _HOSTS.findall(text):
        if not ranges:
            yield stem
            continue
        for part in ranges.split(","):
            first, _, last = part.partition("-")
            if not (first.isdigit() and (last or first).isdigit()):
                return
            for number in range(int(first), min(int(last or first), int(first) + 10_000) + 1):
                yield f"{stem}{number:0{len(first)}d}"


def _elapsed_s(row: Row) -> float:
    raw = row.value("ElapsedRaw")
    if raw is not None:
        return raw
    text = row.text("Elapsed")
    if (match := _ELAPSED.fullmatch(text)) is None:
        raise Rejected(f"Elapsed {text!r} is not a duration")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def _energy_j(row: Row) -> float | None:
    """J; None where no plugin measured it."""
    for name in ("ConsumedEnergyRaw", "ConsumedEnergy"):
        if (match := _AMOUNT.fullmatch(row.text(name))) is not None:
            energy_j = float(match[1]) * _SUFFIX[match[2]]
            if _is_value(energy_j):
                return energy_j
    match = _OF_TRES.search(row.text("AllocTRES"))
    return float(match[1]) if match is not None and _is_value(float(match[1])) else None


def _is_value(energy_j: float) -> bool:
    """Not one of the numbers that Slurm writes where nothing was measured. Others above 32 bits
    are energies: 1,193 kWh are, of a day of 50 kW.
    """
    return energy_j not in _NO_VALUES and energy_j < _LEAST_NO_VALUE


def _padded_names(head: str) -> list[str] | None:
    """The names of a table whose columns are as wide as the dashes under them."""
    lines = [line for line in head.split("\n") if line.strip()][:2]
    if len(lines) < 2 or not re.fullmatch(r"[- ]+", lines[1].rstrip()):
        return None
    return [lines[0][begin:end].strip() for begin, end in _widths(lines[1])]


def _widths(dashes: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(r"-+", dashes)]


def _rows(source: Source, tally: Tally) -> Iterator[Row]:
    names = _padded_names(source.head)
    if names is None:
        needed = "JobID" if "JobID" in names_of(source.head) else "JobIDRaw"
        yield from rows(source, tally, (needed, "Start"))
        return
    lines = source.lines()
    next(lines)
    widths = _widths(next(lines)[1])
    for number, line in lines:
        cells = [line[begin:end].strip() for begin, end in widths]
        yield Row(number, dict(zip(names, cells, strict=True)))
