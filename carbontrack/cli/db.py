"""`carbontrack db`: look after the ledger itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carbontrack.cli.common import DbOption, FormatOption, print_json
from carbontrack.ledger import KEEP
from carbontrack.report.numbers import counted
from carbontrack.vocabulary import Format

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carbontrack import config
    from carbontrack.ledger.shipped_seconds import Seconds
    from carbontrack.record.target import Target

app = typer.Typer(
    help="Look after the ledger: where it is, its schema, what is to be recovered.",
    no_args_is_help=True,
)


DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


@app.command()
def path(db: DbOption = None) -> None:
    """Print which ledger is used."""
    from carbontrack.ledger.url import ledger_url, redacted_url

    typer.echo(redacted_url(ledger_url(db)))


@app.command()
def status(db: DbOption = None, format: FormatOption = Format.TEXT) -> None:
    """Say what the ledger is and holds, and whether its schema is this program's.

    Example: carbontrack db status --db postgresql://ada@db.lab/carbontrack
    """
    from dataclasses import asdict

    from carbontrack.ledger.status import status_of
    from carbontrack.ledger.url import db_option, ledger_url

    url = ledger_url(db)
    found = status_of(url)
    if format is Format.JSON:
        print_json(asdict(found))
        return
    named = db_option(url)
    upgrade, recover = f"'carbontrack db upgrade{named}'", f"'carbontrack db recover{named}'"
    typer.echo(f"ledger    {found.ledger} ({found.dialect})")
    if found.revision is None:
        typer.echo("schema    none yet; the first run creates it")
    elif found.revision == found.head:
        typer.echo(f"schema    {found.revision}, up to date")
    else:
        typer.echo(f"schema    {found.revision}; {upgrade} brings it to {found.head}")
    if found.revision is not None:
        typer.echo(
            f"holds     {counted(found.runs or 0, 'run')}, {counted(found.windows or 0, 'window')}"
        )
        typer.echo(f"size      {found.size_bytes:,} bytes")
    if found.beside:
        files = counted(len(found.beside), "file")
        typer.echo(f"beside    {files} of runs; {upgrade} takes them in")
    if found.journals:
        typer.echo(f"journals  {found.journals:,}; {recover} brings them in")


@app.command()
def upgrade(db: DbOption = None) -> None:
    """Bring an older ledger to this program's schema; a SQLite file is backed up beside itself.

    Runs that were recorded in NAME-REVISION.db meanwhile, beside NAME.db, are taken in.

    Example: carbontrack db upgrade --db postgresql://ada@db.lab/carbontrack
    """
    from carbontrack.cli.progress import row_bar
    from carbontrack.ledger import beside, engine
    from carbontrack.ledger.url import ledger_url

    url = ledger_url(db)
    before = engine.upgrade(url)
    if before == engine.HEAD:
        typer.echo(f"The ledger already has schema {engine.HEAD}.")
    else:
        typer.echo(f"The ledger has schema {engine.HEAD} now; it had {before or 'none'}.")
    with row_bar() as progress:
        taken = beside.take_in(url, progress)
    for one in taken:
        kept = "a run is still recorded there: upgrade again when it has ended"
        if one.kept_as is not None:
            kept = f"the file is {one.kept_as.name} now"
        typer.echo(f"{counted(one.runs, 'run')} of {one.file.name} taken in; {kept}.")


@app.command()
def recover(db: DbOption = None) -> None:
    """Take measurements into the ledger that could not be written while it was locked or full."""
    from carbontrack.ledger import journals, recover
    from carbontrack.ledger.url import db_option, ledger_url, recorded_in
    from carbontrack.report.escape import visible

    url = ledger_url(db)
    for problem in journals.refused(url):
        typer.echo(f"carbontrack: not recovered: {problem}.", err=True)
    names = list(recover.recover(url).values())
    if not names:
        typer.echo("Nothing to recover.")
    else:
        typer.echo(f"Recovered {counted(len(names), 'run')}: {', '.join(map(visible, names))}.")
        if recorded_in(url) != url:
            typer.echo(f"They are on this host; send them: carbontrack db ship{db_option(url)}")


@app.command()
def merge(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE-OR-FOLDER...",
            help="Ledgers (files or URLs), journals, or folders of these.",
        ),
    ],
    dry_run: DryRunOption = False,
    db: DbOption = None,
) -> None:
    """Take other ledgers into this one, in any order and as often as you like: runs, nodes and
    attempts meet by their ids, and nothing counts twice. All of it is taken, or nothing.

    A run that was removed in any of them is removed here, too, and named; none is brought back.
    Imported factors of one name have to have one value.

    Example: carbontrack db merge node1.db laptop.db --db postgresql://ada@db.lab/carbontrack
    """
    from carbontrack.cli.progress import row_bar
    from carbontrack.ledger.merge import merge
    from carbontrack.ledger.url import ledger_url
    from carbontrack.report.escape import visible

    with row_bar() as progress:
        taken = merge(ledger_url(db), sources, dry_run=dry_run, progress=progress)
    counts = {"added": taken.added, "grew": taken.grew, "already there": taken.known}
    counts |= {"removed before, and left out": taken.removed}
    said = [f"{counted(len(ids), 'run')} {what}" for what, ids in counts.items() if ids]
    if taken.deleted:
        names = ", ".join(f"{visible(name)} ({id})" for id, name in taken.deleted.items())
        said.append(f"{counted(len(taken.deleted), 'run')} removed here, as there: {names}")
    typer.echo(f"{', '.join(said) or 'No runs'}.{' Nothing was written.' if dry_run else ''}")


@app.command()
def ship(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE-OR-FOLDER...",
            help="Ledgers, journals or folders of other hosts; default: the ledger.",
        ),
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="URL", help="Default: the setting ship.")
    ] = None,
    seconds: Annotated[
        list[str] | None,
        typer.Option("--seconds", metavar="RUN", help="Ship all seconds of this run. Repeatable."),
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Send again what the collector had refused.")
    ] = False,
    everything: Annotated[
        bool,
        typer.Option("--everything", help="Send all again, as after the target's restore."),
    ] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Ship by http to another host, too.")
    ] = False,
    db: DbOption = None,
) -> None:
    """Ship what a collector lacks of this ledger, now; or, where the ledger is on a server, what
    waits for it on this host. Seconds go with it as the setting ship_seconds says. Or all of the
    ledgers and journals that are named, as those of nodes without a network, which stay as they
    are.

    Example: carbontrack db ship --to https://collector.example.org:8477
    """
    from contextlib import ExitStack

    from carbontrack import config
    from carbontrack.cli.progress import row_bar
    from carbontrack.errors import CarbontrackError
    from carbontrack.ledger.engine import errors_in_one_line
    from carbontrack.ledger.merge import merged
    from carbontrack.ledger.url import ledger_url, recorded_in
    from carbontrack.record.ship import Shipping
    from carbontrack.record.target import NotShipped
    from carbontrack.report.escape import visible

    if sources and retry:
        raise CarbontrackError(
            "--retry is about what the ledger here had refused.", hint="Name no files with it."
        )
    url = ledger_url(db)
    settings = config.resolve(config.surroundings())
    target, is_server = _target(url, to, settings, insecure=insecure)
    with ExitStack() as stack:
        stack.callback(target.close)
        file = recorded_in(url)
        if sources:
            with row_bar() as progress:
                file = stack.enter_context(merged(sources, progress))
        else:
            _check_there(url, file)
        stack.enter_context(errors_in_one_line(file))
        wanted = _seconds(file, seconds or [], settings, is_server=is_server)
        shipping = Shipping(file, target, wanted, is_queue=is_server)
        if everything:
            shipping.everything_again()
        shipping.from_the_start()
        again = shipping.retry() if retry else 0
        try:
            shipping.ship_all()
            shipping.prune()
        except NotShipped as error:
            left = "Ship them again." if sources else "What is left stays queued."
            raise CarbontrackError(f"{str(error).rstrip('.')}.", hint=left) from None
    done = shipping.shipped
    typer.echo(f"Shipped {counted(done.rows, 'row')} in {counted(done.batches, 'request')}.")
    if done.late_rows:
        late = counted(done.late_rows, "row")
        typer.echo(f"Of these the collector left out {late} of seconds and minutes: too old.")
    if done.removed:
        typer.echo(f"Removed there, as here: {counted(done.removed, 'run')}.")
    for name in dict.fromkeys(done.kept):
        typer.echo(f"Run {visible(name)} was removed there; it stays as it is here.")
    if retry:
        typer.echo(f"Of {counted(again, 'recording')} something had been refused: sent again.")
    aside = "" if sources else " and set aside"
    for reason in done.set_aside:
        typer.echo(f"carbontrack: rows were refused{aside}: {visible(reason)}.", err=True)
    if done.set_aside:
        raise typer.Exit(1)


def _target(
    url: str, to: str | None, settings: config.Settings, *, insecure: bool
) -> tuple[Target, bool]:
    """The collector that an option or a setting names, or the server; and whether it is that."""
    import os

    from carbontrack.errors import CarbontrackError
    from carbontrack.ledger.url import sqlite_path
    from carbontrack.record import ship_to
    from carbontrack.record.collector import Collector
    from carbontrack.record.server import Server

    named = ship_to.named(to, settings, "--to")
    if named is None and sqlite_path(url) is None:
        return Server(url), True
    if named is None:
        raise CarbontrackError(
            "no collector is named.", hint=f"Give --to URL, or set {ship_to.URL}."
        )
    address, where = named
    at = ship_to.address(address, insecure=insecure, where=where)
    ship_to.token_of(os.environ)
    return Collector(at, lambda: ship_to.token_of(os.environ)), False


def _check_there(url: str, file: str) -> None:
    from carbontrack.errors import CarbontrackError
    from carbontrack.ledger.url import redacted_url, sqlite_path

    path = sqlite_path(file)
    if path is None or not path.exists():
        what = "here waits for " if file != url else "is in "
        raise CarbontrackError(f"Nothing {what}{redacted_url(url)}.", hint="See --db.")


def _seconds(
    file: str, whole: Sequence[str], settings: config.Settings, *, is_server: bool
) -> Seconds:
    """Which are shipped of a file: to a server all, as its recorders do."""
    from carbontrack import config
    from carbontrack.ledger import engine
    from carbontrack.ledger.shipped_seconds import EVERY_SECOND, Seconds, younger_ms
    from carbontrack.query.select import choose

    if is_server:
        return EVERY_SECOND
    runs: frozenset[str] = frozenset()
    if whole:
        with engine.open_reader(file).connect() as connection:
            runs = frozenset(run.id for run in choose(connection, whole))
    return Seconds(runs, younger_ms(config.value(settings, "ship_seconds")))


@app.command()
def compact(
    keep: Annotated[
        str,
        typer.Option(
            "--keep",
            metavar="LEVEL:AGE,...",
            help="How long windows of 1s and of 60s are kept: ages in h, d or w.",
        ),
    ],
    dry_run: DryRunOption = False,
    db: DbOption = None,
) -> None:
    """Drop old seconds and minutes. Every total stays as it is; plots of old runs get coarser.

    Only whole hours go that are over and whose own sum has all of it. Meanwhile runs may be
    recorded.

    Example: carbontrack db compact --keep 1s:7d,60s:90d --db postgresql://ada@db.lab/carbontrack
    """
    from carbontrack.cli.progress import row_bar
    from carbontrack.ledger.compact import compact
    from carbontrack.ledger.kept import parse_keep
    from carbontrack.ledger.url import db_option, ledger_url

    url = ledger_url(db)
    with row_bar() as progress:
        done = compact(url, parse_keep(keep), dry_run=dry_run, progress=progress)
    said = [f"{counted(n, 'window')} of {level_s} s" for level_s, n in done.windows.items()]
    freed = f"; the file is {done.freed_bytes:,} bytes smaller" if done.freed_bytes else ""
    nothing = " Nothing was written." if dry_run else ""
    typer.echo(f"Dropped: {', '.join(said)}{freed}.{nothing}")
    if done.left_hours:
        left = counted(done.left_hours, "hour")
        hint = f"their seconds or minutes do not add up: carbontrack db verify{db_option(url)}"
        typer.echo(f"carbontrack: {left} left as they are; {hint}", err=True)


@app.command()
def retain(
    keep: Annotated[
        str,
        typer.Option(
            "--keep",
            metavar="LEVEL:AGE,...",
            help="How long windows of 1s and of 60s are kept: ages in h, d or w, or all.",
        ),
    ] = KEEP,
    dry_run: DryRunOption = False,
    db: DbOption = None,
) -> None:
    """Drop the partitions of old seconds and minutes of a ledger on PostgreSQL: days of seconds,
    months of minutes. Every total stays as it is. A collector does it by itself.

    Example: carbontrack db retain --keep 1s:7d,60s:90d --db postgresql://ada@db.lab/carbontrack
    """
    from carbontrack.cli.progress import row_bar
    from carbontrack.ledger.kept import parse_keep
    from carbontrack.ledger.retain import retain
    from carbontrack.ledger.url import ledger_url

    with row_bar() as progress:
        found = retain(ledger_url(db), parse_keep(keep), dry_run=dry_run, progress=progress)
    for one in found:
        typer.echo(f"{one.name}  {one.size_bytes:,} bytes")
    nothing = " Nothing was written." if dry_run else ""
    typer.echo(f"Dropped: {counted(len(found), 'partition')}.{nothing}")


@app.command()
def verify(db: DbOption = None, format: FormatOption = Format.TEXT) -> None:
    """Check that a ledger is sound: seconds, minutes and hours agree to the mJ, every row belongs
    to one that is there, and every value can be. Exit code 1 if something is wrong.

    Example: carbontrack db verify --db postgresql://ada@db.lab/carbontrack
    """
    from dataclasses import asdict

    from carbontrack.cli.progress import row_bar
    from carbontrack.ledger.url import ledger_url, redacted_url
    from carbontrack.ledger.verify import verify
    from carbontrack.report.escape import visible

    url = ledger_url(db)
    with row_bar() as progress:
        problems = verify(url, progress=progress)
    if format is Format.JSON:
        print_json({"ledger": redacted_url(url), "problems": [asdict(one) for one in problems]})
    else:
        for problem in problems:
            typer.echo(visible(str(problem)))
        found = counted(len(problems), "problem") if problems else "no problem"
        typer.echo(f"{redacted_url(url)}: {found}.")
    if problems:
        raise typer.Exit(1)


@app.command()
def export(
    parquet: Annotated[
        Path,
        typer.Option("--parquet", metavar="FOLDER", help="The folder to make, of Parquet files."),
    ],
    db: DbOption = None,
) -> None:
    """Write the whole ledger as Parquet files, by project and month, for DuckDB, Spark or an
    archive. 'db merge FOLDER' takes it back, to the mJ.

    Example: carbontrack db export --parquet archive --db postgresql://ada@db.lab/carbontrack
    """
    from carbontrack.cli.progress import row_bar
    from carbontrack.folders import absolute
    from carbontrack.ledger.export import export
    from carbontrack.ledger.url import ledger_url

    with row_bar() as progress:
        done = export(ledger_url(db), Path(absolute(str(parquet.expanduser()))), progress=progress)
    typer.echo(
        f"{parquet}: {counted(done.rows, 'row')} in {counted(done.files, 'file')}, "
        f"{done.size_bytes:,} bytes."
    )
