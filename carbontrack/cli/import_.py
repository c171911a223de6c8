"""`carbontrack import`: the files of other tools become runs of the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carbontrack.cli.common import DbOption
from carbontrack.errors import CarbontrackError
from carbontrack.record.labels import tag_of
from carbontrack.report.numbers import counted

if TYPE_CHECKING:
    from carbontrack.importers.model import FileOptions, FoundRun
    from carbontrack.importers.write import Imported, Labels, Outcome
    from carbontrack.ledger.recorded_rows import Step


def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Files of other tools.")],
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="KIND", help="Default: by the file's content.")
    ] = None,
    tz: Annotated[
        str | None,
        typer.Option("--tz", metavar="ZONE", help="Of local times: Europe/Paris, UTC, +08:00."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the runs. Default: the file's.")
    ] = None,
    project: Annotated[
        str | None, typer.Option("--project", help="Project that the runs belong to.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="KEY=VALUE", help="Tag; can be repeated.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--start", metavar="TIME", help="When a log without times begins."),
    ] = None,
    interval: Annotated[
        float | None,
        typer.Option("--interval", metavar="SECONDS", help="Between samples without times."),
    ] = None,
    time_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of times, in another table.")
    ] = None,
    power_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of powers.")
    ] = None,
    device_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column that identifies the devices.")
    ] = None,
    unit: Annotated[str | None, typer.Option(metavar="W|mW|kW", help="Unit of the powers.")] = None,
    steps: Annotated[
        Path | None,
        typer.Option("--steps", metavar="FILE", help="The training's log: its steps, by time."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be imported.")
    ] = False,
    db: DbOption = None,
) -> None:
    """Import what other tools logged: each run of a file becomes a run of the ledger.

    The kind of a file is recognised by its content. Importing a file again adds nothing, a longer
    file of the same log what is new.

    Example: carbontrack import power.csv --tz Europe/Paris --name llama2-7b
    """
    from carbontrack.importers.model import FileOptions

    options = FileOptions(tz, start, interval, time_column, power_column, device_column, unit)
    labels = _labels(name, project, tag)
    if steps is not None and len(files) > 1:
        raise CarbontrackError("--steps joins one log to one FILE.", hint="Import them in turn.")
    for file in files:
        found = _read(file, kind, options)
        joined = {} if steps is None else _joined(found, steps)
        outcomes = None if dry_run else _write(found, labels, joined, db)
        _say(found, labels, outcomes)


def _labels(name: str | None, project: str | None, tag: list[str] | None) -> Labels:
    from carbontrack import config
    from carbontrack.folders import working_folder
    from carbontrack.importers.write import Labels
    from carbontrack.ledger.names import check_name, check_project
    from carbontrack.ledger.user import user

    check_name(name)
    check_project(project)
    facility = config.values(config.resolve(config.surroundings()))
    return Labels(name, project, dict(map(tag_of, tag or [])), working_folder(), user(), facility)


def _read(path: Path, kind: str | None, options: FileOptions) -> Imported:
    from carbontrack.importers.identify import identify
    from carbontrack.importers.model import Tally
    from carbontrack.importers.source import Source
    from carbontrack.importers.write import Imported

    tally = Tally()
    with _progress(path) as said:
        source = Source(path, said)
        chosen = "csv" if kind is None and options.power_column else kind
        reader = identify(source, chosen)
        runs = reader.read(source, options, tally)
    return Imported(source, reader.KIND, runs, tally, options.tz)


@contextmanager
def _progress(path: Path) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, from the first megabytes on."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    bar = Progress(
        *columns,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        total = path.stat().st_size if path.is_file() else None
        task = bar.add_task(path.name, total=total)
        yield lambda read: bar.update(task, completed=read)


def _joined(found: Imported, steps: Path) -> Mapping[str, Sequence[Step]]:
    """The steps of the training's log, by the id of the file's one run."""
    from carbontrack.importers.clock import utc_ms
    from carbontrack.importers.source import Source
    from carbontrack.importers.write import run_id
    from carbontrack.record.past_log import steps_within
    from carbontrack.report.escape import visible

    if len(found.runs) != 1:
        raise CarbontrackError(
            f"--steps joins one run, and {found.source.name} has {len(found.runs)}."
        )
    (run,) = found.runs
    past = steps_within(
        Source(steps), found.tz, started_ms=utc_ms(run.started_ns), ended_ms=utc_ms(run.ended_ns)
    )
    said = f"{steps.name}: {counted(len(past.steps), 'step')}, {'; '.join(past.notes)}"
    typer.echo(f"carbontrack: {visible(said)}", err=True)
    return {run_id(run): past.steps}


def _write(
    found: Imported, labels: Labels, steps: Mapping[str, Sequence[Step]], db: str | None
) -> Sequence[Outcome]:
    from carbontrack.importers.write import write
    from carbontrack.ledger.engine import errors_in_one_line
    from carbontrack.ledger.url import ledger_url

    url = ledger_url(db)
    with errors_in_one_line(url):
        return write(url, found, labels, steps)


def _say(found: Imported, labels: Labels, outcomes: Sequence[Outcome] | None) -> None:
    """What was found and what became of it, a line a run; what was not taken on stderr."""
    from carbontrack.importers.write import name_of, run_id
    from carbontrack.report.escape import visible

    tally, file = found.tally, found.source.name
    rows = f"{counted(tally.taken, 'row')} taken, {tally.rejected:,} rejected"
    typer.echo(visible(f"{file}: {found.kind}, {counted(len(found.runs), 'run')}, {rows}"))
    for number, run in enumerate(found.runs):
        became = "would be imported" if outcomes is None else outcomes[number].value
        label = name_of(found, run, labels)
        typer.echo(visible(f"  {run_id(run)}  {label}: {_measured(run)}; {became}"))
    for note in tally.notes:
        typer.echo(f"carbontrack: {visible(f'{file}: {note}')}", err=True)
    for row, why in tally.first:
        typer.echo(f"carbontrack: {visible(f'{file}, row {row}: {why}')}", err=True)
    if (more := tally.rejected - len(tally.first)) > 0:
        typer.echo(f"carbontrack: {file}: {counted(more, 'more row')} not taken", err=True)


def _measured(run: FoundRun) -> str:
    from carbontrack.report.numbers import format_duration, format_energy
    from carbontrack.units import J_PER_KWH, NS_PER_S

    energy_j = run.energy_j
    energy = format_energy(None if energy_j is None else energy_j / J_PER_KWH)
    duration = format_duration((run.ended_ns - run.started_ns) / NS_PER_S)
    return f"{energy}, {duration}, {counted(len(run.devices), 'device')}"
