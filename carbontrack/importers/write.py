"""Found runs into the ledger. Writing the same run again adds what is new, and nothing twice."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import islice
from typing import Any

from carbontrack.errors import NotFoundError
from carbontrack.importers.clock import utc_ms
from carbontrack.importers.model import FoundDevice, FoundRun, Tally
from carbontrack.importers.source import Source
from carbontrack.ledger.names import LAST
from carbontrack.ledger.recorded_rows import Recording, Run, Sensor, Step
from carbontrack.ledger.rounded import Rounding
from carbontrack.ledger.rows import Import
from carbontrack.ledger.transaction import Within, open_ledger
from carbontrack.ledger.window import LEVELS_S, Flag, Pyramid, Window
from carbontrack.ledger.write import RunRemoved, RunWriter
from carbontrack.redact import redact, redact_label, redact_tags
from carbontrack.units import now_ms
from carbontrack.version import __version__
from carbontrack.vocabulary import ImportKind, Quality, RunKind

METER = "imported from {}"
_SPACE = uuid.UUID("6f7a1c3e-2f6b-5d0a-9c41-0d6f4a7b9e52")  # of the ids of imported runs
_WINDOWS_AT_ONCE = 2_000
_UNKNOWN_HOST = "unknown"
_FLAGS = {
    Quality.COUNTER: Flag.COUNTER,
    Quality.POWER: Flag.INTEGRAL,
    Quality.ESTIMATE: Flag.ESTIMATE,
}


class Outcome(Enum):
    """What became of a run."""

    ADDED = "added"
    GREW = "grew"
    THERE = "already there"
    REMOVED = "was removed from this ledger, and stays so"


@dataclass(frozen=True, slots=True)
class Labels:
    """What the user calls the runs, and where they are imported."""

    name: str | None = None
    project: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    cwd: str = ""
    user: str = ""
    facility: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Imported:
    """A file that was read: its kind, its runs and the rows that make them."""

    source: Source
    kind: ImportKind
    runs: Sequence[FoundRun]
    tally: Tally
    tz: str | None = None


def run_id(found: FoundRun) -> str:
    """The id of a run, from what makes it this run: the same from whatever file it comes."""
    return str(uuid.uuid5(_SPACE, "\0".join(found.identity)))


def name_of(file: Imported, found: FoundRun, labels: Labels) -> str:
    """What a run is called: as the user says, as the file says, else as the file is called."""
    name = redact_label(labels.name or found.name or file.source.path.stem)
    return f"{name} of {file.source.name}" if name == LAST else name


def write(
    url: str,
    file: Imported,
    labels: Labels,
    steps: Mapping[str, Sequence[Step]],
) -> list[Outcome]:
    """Write a file's runs in one transaction, and what became of each. `steps` are by run id.

    Raises CarbontrackError, or what the database says, and writes nothing then.
    """
    ledger = open_ledger(url)
    try:
        before = _before(url, file.runs)
        with ledger.begin() as transaction:
            return [
                _write_run(Within(transaction), file, found, labels, known, steps)
                for found, known in zip(file.runs, before, strict=True)
            ]
    finally:
        ledger.close()


def _before(url: str, runs: Sequence[FoundRun]) -> list[Run | None]:
    """What the ledger has of these runs."""
    from carbontrack.ledger import engine, read

    def look(found: FoundRun) -> Run | None:
        try:
            return read.resolve_run(connection, run_id(found))
        except NotFoundError:
            return None

    reader = engine.open_reader(url)
    try:
        with reader.connect() as connection:
            return [look(found) for found in runs]
    finally:
        reader.dispose()


def _write_run(
    ledger: Within,
    file: Imported,
    found: FoundRun,
    labels: Labels,
    before: Run | None,
    steps: Mapping[str, Sequence[Step]],
) -> Outcome:
    run = _run(file, found, labels)
    new_steps = steps.get(run.id, ())
    is_new = True
    if before is not None and before.ended_ms is not None:
        # One that was cut short begins where the longer one does.
        length_ms = utc_ms(found.ended_ns) - utc_ms(found.started_ns)
        is_new = length_ms > before.ended_ms - before.started_ms
        if not is_new and not new_steps:
            return Outcome.THERE
        run = replace(before, ended_ms=max(run.end_ms, before.end_ms))
    ended_ms = run.end_ms
    sensors = {device: _sensor(file, found, device, run.id) for device in found.devices}
    recording = Recording(
        id=str(uuid.uuid5(uuid.UUID(run.id), "recording")),
        host=found.host or _UNKNOWN_HOST,
        boot_id=None,
        recorder_version=__version__,
        settings={"meter": METER.format(file.kind)},
        started_ms=run.started_ms,
        heartbeat_ms=ended_ms,
    )
    try:
        writer = RunWriter(ledger, run, recording, list(sensors.values()))
    except RunRemoved:
        return Outcome.REMOVED
    if is_new:
        level_s = max(bins.level_s for bins in found.devices.values())
        writer.drop_finer(level_s)
        windows = _windows(found, sensors, level_s)
        while part := list(islice(windows, _WINDOWS_AT_ONCE)):
            writer.commit(windows=part, heartbeat_ms=ended_ms)
        writer.imported(_import(file, found))
    writer.commit(steps=new_steps, heartbeat_ms=ended_ms)
    writer.finish(status=found.status, exit_code=None, ended_ms=ended_ms)
    if not is_new:
        return Outcome.THERE
    return Outcome.ADDED if before is None else Outcome.GREW


def _windows(
    found: FoundRun, sensors: Mapping[FoundDevice, Sensor], level_s: int
) -> Iterator[tuple[str, Window]]:
    """Of all devices, none finer than this."""
    for device, bins in found.devices.items():
        finest = bins.windows(level_s, _FLAGS.get(device.quality, Flag(0)))
        for window in _pyramid(map(Rounding().next, finest)):
            yield sensors[device].uuid, window


def _pyramid(finest: Iterator[Window]) -> Iterator[Window]:
    """These windows and the coarser ones that they add up to; one that grows comes again."""
    pyramid = Pyramid()
    while part := list(islice(finest, _WINDOWS_AT_ONCE)):
        for window in part:
            if window.level_s != LEVELS_S[1]:  # a minute comes back as the sum of itself
                yield window
            if window.level_s < LEVELS_S[-1]:
                pyramid.add(window)
        yield from pyramid.take_changed()


def _run(file: Imported, found: FoundRun, labels: Labels) -> Run:
    project = labels.project or found.project
    return Run(
        id=run_id(found),
        name=name_of(file, found, labels),
        project=project and redact_label(project),
        tags=redact_tags(labels.tags),
        command=redact(["carbontrack", "import", "--kind", str(file.kind), file.source.name]),
        cwd=redact_label(labels.cwd),
        user=labels.user,
        git_commit=None,
        git_dirty=None,
        started_ms=utc_ms(found.started_ns),
        facility=labels.facility,
        model={},
        kind=RunKind.IMPORTED,
        ended_ms=utc_ms(found.ended_ns),
    )


def _sensor(file: Imported, found: FoundRun, device: FoundDevice, run: str) -> Sensor:
    return Sensor(
        uuid=device.uuid or str(uuid.uuid5(uuid.UUID(run), device.key)),
        kind=device.kind,
        name=device.name,
        rated_power_w=None,
        power_limit_w=None,
        mig_parent=None,
        host=device.host or found.host or _UNKNOWN_HOST,
        meter=METER.format(file.kind),
        quality=device.quality,
        field=device.field,
        scope=device.scope,
        update_period_ms=None,
        share=1.0,
    )


def _import(file: Imported, found: FoundRun) -> Import:
    """Where the run comes from: `show` and `explain` say it."""
    first, last = found.rows
    return Import(
        sha256=file.source.sha256,
        time_ms=now_ms(),
        file=file.source.name,
        kind=str(file.kind),
        tz=file.tz,
        first_row=first,
        last_row=last,
        rejected_rows=file.tally.rejected,
        notes=tuple(file.tally.notes),
        facts=found.facts,
    )
