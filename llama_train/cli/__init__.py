"""The command line: a file a command; each parses, calls one function and prints."""

from __future__ import annotations

import os
import sys

import typer

from llama_train import host
from llama_train.cli.align import align
from llama_train.cli.evaluate import evaluate
from llama_train.cli.export import export
from llama_train.cli.finetune import finetune
from llama_train.cli.generate import generate
from llama_train.cli.plan import plan
from llama_train.cli.prepare import prepare
from llama_train.cli.presets import presets
from llama_train.cli.reward import reward
from llama_train.cli.train import train
from llama_train.errors import TrainError

app = typer.Typer(
    name="llama_train",
    help="Llama 2 pretraining as in the report, from a laptop to a cluster.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# Settings such as --train.lr=1e-4 are not typer's options; the command gets them raw.
_SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}

app.command()(prepare)
app.command(context_settings=_SETTINGS)(train)
app.command(context_settings=_SETTINGS)(finetune)
app.command(context_settings=_SETTINGS)(reward)
app.command(context_settings=_SETTINGS)(align)
app.command()(generate)
app.command()(evaluate)
app.command()(export)
app.command()(presets)
app.command(context_settings=_SETTINGS)(plan)


def main() -> None:
    """Run the command line; an error that the user can fix is one line and an exit code."""
    rank = host.rank()
    who = f"llama_train (rank {rank})" if "RANK" in os.environ else "llama_train"
    try:
        app()
    except (TrainError, OSError) as caught:
        error = _from_the_system(caught) if isinstance(caught, OSError) else caught
        # Bad use is the same on all ranks, and one reports it; a later failure may be of one only.
        if rank == 0 or error.exit_code != 2:
            print(f"{who}: {error}", file=sys.stderr)
        host.report_to_torchrun(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print(f"{who}: interrupted", file=sys.stderr)
        sys.exit(130)


def _from_the_system(error: OSError) -> TrainError:
    """A disk that is full, a file that another user owns: what is on disk stays as it is."""
    where = f" ({error.filename})" if error.filename else ""
    return TrainError(f"{error.strerror or error}{where}.", exit_code=1)
