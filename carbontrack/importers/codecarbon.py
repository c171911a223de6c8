"""CodeCarbon's emissions.csv, versions 1 to 3: a row a run, or several that each say more of it;
and its files of tasks, a row a task.

Source: codecarbon/output_methods/file.py and codecarbon/emissions_tracker.py: each flush appends a
row with the sums since the start; `task_out` writes a row a task, with its own energy under the
run_id of all; energies are multiplied by the PUE.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from carbontrack.factors.intensity_csv import MAX_KG_PER_KWH
from carbontrack.importers import plausible
from carbontrack.importers.bins import Bins
from carbontrack.importers.clock import Clock, moved
from carbontrack.importers.model import FileOptions, FoundDevice, FoundRun, Refused, Rejected, Tally
from carbontrack.importers.rows import Row, names_of, rows
from carbontrack.importers.source import Source
from carbontrack.importers.spans import Spans
from carbontrack.units import G_PER_KG, J_PER_KWH, NS_PER_S
from carbontrack.vocabulary import DeviceKind, ImportKind, Quality, Scope

KIND = ImportKind.CODECARBON
_TASK = "task_name"
_PARTS = ("cpu_energy", "gpu_energy", "ram_energy", "neuron_energy")
_SAME_ID = "5b0fa12a"  # the default of experiment_id: one constant for everybody
_DEFAULT_NAME = "codecarbon"
_SUM_AGREES = 0.01
_SAME_START_NS = 2 * NS_PER_S  # ends are whole seconds, and written after the duration was taken
_WH = 1000.0
_WITH_COUNTER = ("nvidia", "tesla", "geforce", "quadro")  # read through NVML; others by a model
_COUNTED = re.compile(r"^\d+ x ")


@dataclass(frozen=True, slots=True)
class _Total:
    """What a row says of its run so far. Energies in J, before PUE."""

    row: Row
    start_ns: int
    end_ns: int
    seconds: float
    reported_kwh: float
    pue: float
    parts_j: Mapping[str, float]  # empty in version 1
    in_wh: bool


def matches(head: str) -> bool:
    """Whether the header has its columns."""
    return {"energy_consumed", "duration", "timestamp"} <= set(names_of(head))


def read(source: Source, options: FileOptions, tally: Tally) -> list[FoundRun]:
    """Its runs, each by its longest row. Raises Refused for energies that cannot be."""
    clock = Clock(source.name, options.tz)
    totals: list[_Total] = []
    for row in rows(source, tally, ("timestamp", "duration", "energy_consumed")):
        try:
            totals.append(_total(source, row, clock))
            tally.taken += 1
        except Rejected as error:
            tally.reject(row.number, str(error))
    if not totals:
        raise Refused(f"{source.name} has no row that can be read.", tally.why)
    _note(totals, tally)
    runs = [_run(source, group) for group in _grouped(totals)]
    _note_overlaps(runs, totals, tally)
    return runs


def _total(source: Source, row: Row, clock: Clock) -> _Total:
    end_ns = clock.read(row.text("timestamp"))
    seconds = row.known("duration")
    total_kwh = row.known("energy_consumed")
    pue = row.value("pue") or 1.0
    if pue < 1:
        raise Rejected(f"a PUE of {pue:g} is below 1")
    given = {name: row.value(name) for name in _PARTS}
    parts_kwh = {name: value for name, value in given.items() if value is not None}
    in_wh = _check_sum(source, row, total_kwh, sum(parts_kwh.values())) if parts_kwh else False
    if in_wh:
        total_kwh /= _WH
    most_w = plausible.MAX_NODE_W * pue
    plausible.check(source.name, row.number, "energy", total_kwh * J_PER_KWH, seconds, most_w)
    return _Total(
        row=row,
        start_ns=moved(end_ns, -seconds),
        end_ns=end_ns,
        seconds=seconds,
        reported_kwh=total_kwh,
        pue=pue,
        parts_j={name: value * J_PER_KWH / pue for name, value in parts_kwh.items()},
        in_wh=in_wh,
    )


def _check_sum(source: Source, row: Row, total_kwh: float, parts_kwh: float) -> bool:
    """Whether the total is in Wh, 1000 × what its parts in kWh are. Raises Refused where they
    do not sum otherwise.
    """
    if abs(parts_kwh - total_kwh) <= _SUM_AGREES * max(total_kwh, parts_kwh):
        return False
    if parts_kwh > 0 and abs(total_kwh / parts_kwh / _WH - 1) <= _SUM_AGREES:
        return True
    raise Refused(
        f"{source.name}, row {row.number}: energy_consumed is {total_kwh:.6g} kWh, but its parts "
        f"sum to {parts_kwh:.6g} kWh."
    )


def _note(totals: Sequence[_Total], tally: Tally) -> None:
    if any(_TASK in total.row.cells for total in totals):
        tally.note(
            "a run a task: the energy of all is also that of their run_id in emissions.csv, and a"
            " PUE that it has is in it"
        )
    if any(total.in_wh for total in totals):
        tally.note("energy_consumed is in Wh, its parts in kWh: the parts are taken")
    if pues := sorted({total.pue for total in totals if total.pue != 1}):
        shown = ", ".join(f"{pue:g}" for pue in pues)
        tally.note(f"a PUE of {shown} is in the energies of the file, and was taken out")
    if any((total.row.value("gpu_count") or 0) > 1 for total in totals):
        tally.note("the energy of a run's GPUs is one sum: it is shared evenly among them")


def _grouped(totals: Sequence[_Total]) -> list[list[_Total]]:
    """The rows of each run, in their order."""
    groups: dict[object, list[_Total]] = {}
    for total in totals:
        key: object = _task(total.row) or _id(total.row)
        if not key:
            project = total.row.text("project_name")
            key = next(
                (
                    known
                    for known, group in groups.items()
                    if isinstance(known, tuple)
                    and known[0] == project
                    and abs(group[0].start_ns - total.start_ns) <= _SAME_START_NS
                ),
                (project, total.row.number),
            )
        groups.setdefault(key, []).append(total)
    return list(groups.values())


def _id(row: Row) -> str:
    """What names the run; empty if nothing does."""
    if "run_id" in row.cells:
        return row.text("run_id")
    named = row.text("experiment_id")
    return "" if named.startswith(_SAME_ID) else named


def _task(row: Row) -> tuple[str, ...]:
    """What names the task; empty in emissions.csv, whose rows are of whole runs."""
    return (_id(row), row.text(_TASK), row.text("timestamp")) if _TASK in row.cells else ()


def _run(source: Source, group: Sequence[_Total]) -> FoundRun:
    longest = max(group, key=lambda total: total.seconds)
    row, first = longest.row, group[0]
    name, task = row.text("project_name"), row.text(_TASK)
    project = None if name in ("", _DEFAULT_NAME) else name
    identity = _id(row) or f"{name} {first.start_ns // NS_PER_S}"
    return FoundRun(
        identity=(KIND, identity, *_task(row)[1:]),
        name=" ".join(filter(None, (project, task))) or None,
        project=project,
        started_ns=longest.start_ns,
        ended_ns=longest.end_ns,
        devices=_parts(source, longest) or _whole(longest),
        rows=(first.row.number, group[-1].row.number),
        facts={
            "run_id": identity,
            "task": task or None,
            "reported_kwh": longest.reported_kwh,
            "pue": longest.pue,
            "version": row.text("codecarbon_version") or None,
            "country": row.text("country_iso_code") or None,
            "intensity_kg_per_kwh": _kg_per_kwh(longest),
        },
    )


def _kg_per_kwh(total: _Total) -> float | None:
    """The intensity that the emissions were made with; None if unknown."""
    emissions_kg = total.row.value("emissions")
    if emissions_kg is None or not total.reported_kwh:
        return None
    found = emissions_kg / total.reported_kwh
    # Who made Wh of the energy most often made g of the emissions, too.
    return found / G_PER_KG if total.in_wh and found > MAX_KG_PER_KWH else found


def _whole(total: _Total) -> dict[FoundDevice, Bins]:
    """All of a row that has no parts."""
    energy_j = total.reported_kwh * J_PER_KWH / total.pue
    whole = FoundDevice(
        "all", DeviceKind.NODE, "CPU, GPU and RAM", Quality.STATED, "energy_consumed", "node"
    )
    return {whole: _even(total, energy_j)}


def _parts(source: Source, total: _Total) -> dict[FoundDevice, Bins]:
    """The parts that were there: none in version 1, or where its only one is 0."""
    row, found = total.row, {}
    gpus = round(row.value("gpu_count") or 0)
    gpu_j = total.parts_j.get("gpu_energy")
    if gpu_j is not None and (gpus or gpu_j):
        gpus = max(1, gpus)
        most_w = plausible.MAX_GPU_W * gpus
        plausible.check(source.name, row.number, "gpu_energy", gpu_j, total.seconds, most_w)
        model = _COUNTED.sub("", row.text("gpu_model")) or "GPU"
        counted = any(word in model.lower() for word in _WITH_COUNTER)
        quality = Quality.COUNTER if counted else Quality.ESTIMATE
        for number in range(gpus):
            device = _device(f"gpu{number}", DeviceKind.GPU, model, quality, "gpu_energy")
            found[device] = _even(total, gpu_j / gpus)
    others = (
        ("cpu_energy", DeviceKind.CPU, row.text("cpu_model") or "CPU"),
        ("ram_energy", DeviceKind.DRAM, "RAM"),
        ("neuron_energy", DeviceKind.GPU, "AWS Neuron"),
    )
    for name, kind, model in others:
        part_j = total.parts_j.get(name)
        if part_j is not None and (part_j or name != "neuron_energy"):
            device = _device(name, kind, model, Quality.ESTIMATE, name)
            found[device] = _even(total, part_j)
    return found


def _device(key: str, kind: DeviceKind, name: str, quality: Quality, column: str) -> FoundDevice:
    return FoundDevice(key, kind, name, quality, column, Scope(kind.value))


def _even(total: _Total, energy_j: float) -> Bins:
    """The energy over the run; what nothing could read is 0 in the file, and unknown."""
    bins = Bins()
    if energy_j > 0 and total.end_ns > total.start_ns:
        bins.add(Spans.of([(total.start_ns, total.end_ns, energy_j)]))
    return bins


def _note_overlaps(runs: Sequence[FoundRun], totals: Sequence[_Total], tally: Tally) -> None:
    """In the mode *machine* each row holds all of the machine: rows at the same time repeat it."""
    if not any(total.row.text("tracking_mode") == "machine" for total in totals):
        return
    count, latest_ns = 0, 0
    for run in sorted(runs, key=lambda run: run.started_ns):
        count += run.started_ns + _SAME_START_NS < latest_ns
        latest_ns = max(latest_ns, run.ended_ns)
    if count:
        tally.note(
            f"{count} of {len(runs)} runs overlap others in time, and each holds the whole machine:"
            " their sum counts it more than once"
        )
