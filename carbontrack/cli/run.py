"""`carbontrack run`: wrap a command and record what it uses."""

from __future__ import annotations

from typing import Annotated

import typer

from carbontrack.cli.common import DbOption
from carbontrack.errors import CarbontrackError


def run(
    command: Annotated[
        list[str],
        typer.Argument(
            metavar="COMMAND...",
            help="The command and its options, after `--`; it runs as if we were not there.",
            show_default=False,
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="Name of the run. Default: the script's or program's name.")
    ] = None,
    project: Annotated[str | None, typer.Option(help="Project that the run belongs to.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A tag; may be repeated.")
    ] = None,
    db: DbOption = None,
    meter: Annotated[
        str,
        typer.Option(
            help="auto (NVML, else RAPL, else the CPU model), nvml, rapl, cpu-model, "
            "sim:a100x8; several joined by commas.",
        ),
    ] = "auto",
    devices: Annotated[
        str, typer.Option(metavar="job|all", help="Devices the job can see, or all of the node.")
    ] = "job",
    hz: Annotated[float, typer.Option(help="Samples a second.")] = 10.0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No summary at the end.")] = False,
) -> None:
    """Run COMMAND and record its energy, training steps and outcome in the ledger.

    The job keeps its terminal, its signals and its exit code. A summary goes to stderr when it
    ends.

    Example: carbontrack run --name llama2-7b -- torchrun train.py --lr 3e-4
    """
    from carbontrack.ledger.url import ledger_url
    from carbontrack.meters.choose import check_spec
    from carbontrack.record import launch

    if not 0.1 <= hz <= 50:
        raise CarbontrackError(
            f"--hz {hz:g} is out of range.", hint="Give 0.1 to 50 samples a second."
        )
    if devices not in ("job", "all"):
        raise CarbontrackError(f"--devices {devices}: unknown.", hint="Give job or all.")
    check_spec(meter)
    launch.run(
        command,
        {
            "name": name,
            "project": project,
            "tags": _tags(tag or []),
            "db": ledger_url(db),
            "meter": meter,
            "devices": devices,
            "hz": hz,
            "quiet": quiet,
        },
    )


def _tags(words: list[str]) -> dict[str, str]:
    tags = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise CarbontrackError(f"--tag {word}: not KEY=VALUE.", hint="Example: --tag team=nlp.")
        tags[key] = value
    return tags
