"""The program: its commands, and how a user's mistake or a closed output ends it."""

from __future__ import annotations

import errno
import importlib
import inspect
import keyword
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup
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
    "quota",
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


# What writing to a pipe, a disk or a terminal can fail with. Our own files name themselves in their
# errors; this is what was printed.
_OUTPUT = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}


class _Unprinted(Exception):
    """What a command printed could not be written."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _Commands(TyperGroup):
    """Says itself what became of the output: the parser would end with 1 for `| head`."""

    def make_context(self, *args: Any, **named: Any) -> Any:
        with _printing():  # its help
            return super().make_context(*args, **named)

    def invoke(self, ctx: Any) -> Any:
        with _printing():
            done = super().invoke(ctx)
            sys.stdout.flush()
        return done


@contextmanager
def _printing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno not in _OUTPUT:
            raise
        raise _Unprinted(error.errno) from error


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
        cls=_Commands,
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
            _unwrap_help(module.app)
            app.add_typer(module.app, name=name)
        else:
            # Options after the first word of the job's command are the job's own.
            settings = {"allow_interspersed_args": False} if name == "run" else None
            app.command(name, context_settings=settings)(getattr(module, own))
    _unwrap_help(app)
    return app


def _unwrap_help(app: typer.Typer) -> None:
    """Let a terminal break the lines of help, not our source."""
    for command in app.registered_commands:
        paragraphs = (inspect.getdoc(command.callback) or "").split("\n\n")
        command.help = "\n\n".join(" ".join(one.split("\n")) for one in paragraphs)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            _unwrap_help(group.typer_instance)


def main() -> NoReturn:
    """Entry point: a user's mistake is one line on stderr and exit code 2, never a traceback."""
    if sys.stdout is None:  # it was closed
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    try:
        code = _app(sys.argv[1:])(standalone_mode=False, prog_name="carbontrack")
    except CarbontrackError as error:
        fail(error)
    except TyperException as error:
        from carbontrack.cli.mistakes import said

        if not (message := said(error)):
            sys.exit(2)  # called with nothing, it has shown its help
        _end(message, 2)
    except KeyboardInterrupt:
        sys.exit(130)
    except _Unprinted as error:
        # What is left of it would be a second error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.number == errno.EPIPE:  # its reader has enough (`| head`)
            sys.exit(0)
        _end(f"standard output: {os.strerror(error.number)}.", 1)
    except Exception:  # a fault of ours, unless a ledger holds what it cannot have
        if (damage := _damage()) is None:
            raise
        fail(damage)
    sys.exit(code if isinstance(code, int) else 0)


def _damage() -> CarbontrackError | None:
    """What is wrong with the ledger that was read, if one was."""
    if "carbontrack.ledger.engine" not in sys.modules:
        return None
    from carbontrack.ledger import engine

    return engine.damage()


def fail(error: CarbontrackError) -> NoReturn:
    """End with the one line that says what is wrong."""
    _end(str(error), error.exit_code)


def _end(message: str, code: int) -> NoReturn:
    from carbontrack.report.escape import visible

    print(f"carbontrack: {visible(' '.join(message.split()))}", file=sys.stderr)
    sys.exit(code)
