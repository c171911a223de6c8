"""The command line: one file per command, each parses, calls and prints, and holds no logic.

Commands import what is heavy inside themselves, so that `carbontrack run` starts the job at once.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from carbontrack import __version__
from carbontrack.cli import db, factors
from carbontrack.cli.attach import attach
from carbontrack.cli.compare import compare
from carbontrack.cli.config import config
from carbontrack.cli.devices import devices
from carbontrack.cli.doctor import doctor
from carbontrack.cli.estimate import estimate
from carbontrack.cli.explain import explain
from carbontrack.cli.plot import plot
from carbontrack.cli.project import project
from carbontrack.cli.run import run
from carbontrack.cli.runs import runs
from carbontrack.cli.serve import serve
from carbontrack.cli.show import show
from carbontrack.cli.table import table
from carbontrack.errors import CarbontrackError

app = typer.Typer(
    name="carbontrack",
    help="time(1) for energy, money and carbon: accounting for training runs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# Options after the job's first word are the job's own.
app.command(context_settings={"allow_interspersed_args": False})(run)
for _command in (
    attach,
    runs,
    show,
    table,
    plot,
    serve,
    devices,
    doctor,
    estimate,
    explain,
    compare,
    project,
    config,
):
    app.command()(_command)
app.add_typer(factors.app, name="factors")
app.add_typer(db.app, name="db")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"carbontrack {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Version.")
    ] = False,
) -> None:
    """time(1) for energy, money and carbon: accounting for training runs."""


def main() -> NoReturn:
    """Entry point: a user's mistake is one line on stderr and exit code 2, never a traceback."""
    try:
        code = app(standalone_mode=False, prog_name="carbontrack")
        sys.stdout.flush()
    except CarbontrackError as error:
        _fail(str(error), error.exit_code)
    except TyperException as error:
        command = getattr(getattr(error, "ctx", None), "command_path", "carbontrack")
        if not (message := error.format_message().rstrip(".")):
            sys.exit(2)  # called with nothing, it has shown its help
        _fail(f"{message}. See '{command} --help'.", 2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has enough (`| head`): no message, and no second one at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> NoReturn:
    print(f"carbontrack: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
