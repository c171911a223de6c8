"""The command line: one file per command, each parses, calls and prints, and holds no logic.

A command's file is imported when the command is called, and what is heavy inside the command, so
that `carbontrack run` starts the job at once.
"""

from __future__ import annotations

import importlib
import keyword
import os
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from carbontrack.errors import CarbontrackError
from carbontrack.version import __version__

# Files of this folder, in the order of --help.
_COMMANDS = (
    "run",
    "attach",
    "watch",
    "show",
    "amend",
    "add",
    "table",
    "plot",
    "serve",
    "devices",
    "doctor",
    "estimate",
    "explain",
    "compare",
    "project",
    "scores",
    "config",
    "import",
)
_GROUPS = ("runs", "factors", "db", "collect")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"carbontrack {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Version.")
    ] = False,
) -> None:
    """time(1) for energy, money and carbon: accounting for training runs."""


def _app(asked: Sequence[str]) -> typer.Typer:
    """All commands, or only the one that these arguments begin with: it starts 30 ms earlier."""
    app = typer.Typer(
        name="carbontrack",
        help="time(1) for energy, money and carbon: accounting for training runs.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        callback=_root,
    )
    names: Sequence[str] = (*_COMMANDS, *_GROUPS)
    if asked and asked[0] in names:
        names = asked[:1]
    for name in names:
        own = f"{name}_" if keyword.iskeyword(name) else name  # of its file and its function
        module = importlib.import_module(f"carbontrack.cli.{own}")
        if name in _GROUPS:
            app.add_typer(module.app, name=name)
        else:
            # Options after the first word of the job's command are the job's own.
            settings = {"allow_interspersed_args": False} if name == "run" else None
            app.command(name, context_settings=settings)(getattr(module, own))
    return app


def main() -> NoReturn:
    """Entry point: a user's mistake is one line on stderr and exit code 2, never a traceback."""
    try:
        code = _app(sys.argv[1:])(standalone_mode=False, prog_name="carbontrack")
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
        # The reader of our output has enough (`| head`): no message, and no second one at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception:  # a fault of ours, unless a ledger holds what it cannot have
        if (damage := _damage()) is None:
            raise
        _fail(str(damage), damage.exit_code)
    sys.exit(code if isinstance(code, int) else 0)


def _damage() -> CarbontrackError | None:
    """What is wrong with the ledger that was read, if one was."""
    if "carbontrack.ledger.engine" not in sys.modules:
        return None
    from carbontrack.ledger import engine

    return engine.damage()


def _fail(message: str, code: int) -> NoReturn:
    from carbontrack.report.escape import visible

    print(f"carbontrack: {visible(' '.join(message.split()))}", file=sys.stderr)
    sys.exit(code)
