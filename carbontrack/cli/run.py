"""`carbontrack run`: wrap a command and record what it uses."""

from __future__ import annotations

from typing import Annotated

import typer

from carbontrack.cli.record_options import (
    LiveOption,
    RequireMeterOption,
    Settings,
    need_live,
    need_meter,
    takes_recording,
)


@takes_recording
def run(
    command: Annotated[
        list[str],
        typer.Argument(
            metavar="COMMAND...",
            help="The command and its options, after `--`.",
            show_default=False,
        ),
    ],
    settings: Settings,
    require_meter: RequireMeterOption = False,
    live: LiveOption = False,
) -> None:
    """Run COMMAND and record its energy, training steps and outcome in the ledger.

    The job keeps its terminal, its signals and its exit code; at its end a summary goes to stderr.

    Example: carbontrack run --name llama2-7b -- torchrun train.py --lr 3e-4
    """
    from carbontrack.record import launch

    if live:
        need_live()
    if require_meter:
        need_meter(settings)
    launch.run(command, settings, live=live)
