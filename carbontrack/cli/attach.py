"""`carbontrack attach`: record a process that runs already."""

from __future__ import annotations

from typing import Annotated

import typer

from carbontrack.cli.record_options import Settings, need_ledger, takes_recording


@takes_recording
def attach(
    pid: Annotated[int, typer.Argument(metavar="PID", help="The running process.")],
    settings: Settings,
) -> None:
    """Record a process that runs already, from now until it ends. Ctrl-C ends only the recording.

    Example: carbontrack attach 4711 --name llama2-7b
    """
    from carbontrack.record.attach import attach as watch

    need_ledger(settings)
    watch(pid, settings)
