"""What the commands share: options, printing, and how an error reaches the user."""

from __future__ import annotations

import inspect
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carbontrack.cli.recording import DB
from carbontrack.ids import short_id
from carbontrack.report.numbers import counted
from carbontrack.vocabulary import Format

if TYPE_CHECKING:
    from carbontrack.ledger.imported import Connection
    from carbontrack.ledger.recorded_rows import Run
    from carbontrack.query.select import Selection

MOST_RUNS = 1_000_000_000
"""Of a list; no ledger has more."""
_MOST_NAMES = 200  # that a shell offers
DbOption = Annotated[str | None, typer.Option(*DB.flags, metavar=DB.metavar, help=DB.help)]


FormatOption = Annotated[
    Format,
    typer.Option(
        "--format", metavar="text|json", help="For people, or for programs (full precision)."
    ),
]


def option(
    name: str,
    kind: Any,
    help: str,
    *short: str,
    default: Any = None,
    metavar: str | None = None,
    panel: str | None = None,
) -> inspect.Parameter:
    """An option of a command, for `takes`: its flag is --NAME, with - for _."""
    said = typer.Option(
        f"--{name.replace('_', '-')}", *short, help=help, metavar=metavar, rich_help_panel=panel
    )
    return parameter(name, Annotated[kind, said], default=default)


def parameter(name: str, annotation: Any, *, default: Any = None) -> inspect.Parameter:
    """The same, of what has its own `typer.Option`."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, default=default, annotation=annotation)


def takes(
    command: Callable[..., None],
    options: Mapping[str, inspect.Parameter],
    make: Callable[..., Any],
    argument: str,
) -> Callable[..., None]:
    """Give a command these options. It gets what `make` makes of them, as `argument`."""
    own = inspect.signature(command, eval_str=True)
    parameters = [one for name, one in own.parameters.items() if name != argument]
    parameters += options.values()

    @wraps(command)
    def called(**given: Any) -> None:
        chosen = {name: given.pop(name) for name in options}
        command(**given, **{argument: make(**chosen)})

    called.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in parameters}
    return called


def run_argument(metavar: str, help: str) -> Any:
    """An argument that names a run, which shells complete."""
    return typer.Argument(metavar=metavar, help=help, autocompletion=_run_names)


def _run_names(incomplete: str) -> list[str]:
    """The names of runs that begin so; none where there is no ledger."""
    from carbontrack.ledger import engine, read

    try:
        with engine.open_reader(engine.ledger_url(None)).connect() as connection:
            return read.names(connection, beginning=incomplete, limit=_MOST_NAMES)
    except Exception:  # a shell shows nothing where a completion fails
        return []


def words_of_command() -> list[str]:
    """What was typed, without secrets: a ledger's URL may have a password."""
    from carbontrack.redact import redact

    return ["carbontrack", *redact(tuple(sys.argv[1:]))]


def find_runs(connection: Connection, references: Sequence[str], done: str = "shown") -> list[Run]:
    """The runs that are meant, and a word on stderr where a name means several: the newest is what
    is `done`.

    Raises CarbontrackError where a reference means no run.
    """
    from carbontrack.ledger import read

    found = [read.resolve_run(connection, reference) for reference in references]
    for reference, run in dict(zip(references, found, strict=True)).items():
        if run.name == reference and (count := len(read.list_runs(connection, name=reference))) > 1:
            shown = f"the newest is {done} ({short_id(run.id)}). See: carbontrack runs"
            say(f"{count} runs are named {reference}; {shown}")
    return found


def say_untimed(connection: Connection, references: Sequence[str], wanted: Selection) -> None:
    """Name the runs that a range of time leaves out for they have none."""
    from carbontrack.query.select import without_time
    from carbontrack.report.notes import untimed_text

    if said := untimed_text([run.name for run in without_time(connection, references, wanted)]):
        say(said)


def say_written(paths: Sequence[Path], *, quiet: bool) -> None:
    """Name the files on stderr; nothing where all was printed."""
    if paths and not quiet:
        say(f"wrote {' and '.join(map(str, paths))}")


def say(message: str) -> None:
    """A line on stderr."""
    from carbontrack.report.escape import visible

    typer.echo(f"carbontrack: {visible(message)}", err=True)


def warn_of_journals(url: str) -> None:
    """Say on stderr if measurements wait on this host that could not reach this ledger."""
    from carbontrack.ledger.journals import waiting
    from carbontrack.ledger.unsent import unsent
    from carbontrack.ledger.url import db_option

    if count := len(waiting(url)):
        wait = "waits" if count == 1 else "wait"
        command = f"carbontrack db recover{db_option(url)}"
        typer.echo(f"carbontrack: {counted(count, 'journal')} {wait}: {command}", err=True)
    if count := unsent(url):
        command = f"carbontrack db ship{db_option(url)}"
        what = counted(count, "recording")
        typer.echo(f"carbontrack: {what} of this host not sent yet: {command}", err=True)


def print_json(value: Any) -> None:
    """Print JSON that every parser accepts: a number that is not finite becomes null."""
    from carbontrack.report import escape

    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write(escape.json(text) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
