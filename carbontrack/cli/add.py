"""`carbontrack add`: enter a run that was measured elsewhere."""

from __future__ import annotations

from typing import Annotated

import typer

from carbontrack.cli import parse
from carbontrack.cli.common import DbOption, words_of_command
from carbontrack.cli.factor_options import Flags, takes_factors
from carbontrack.record.labels import tag_of


@takes_factors
def add(
    flags: Flags,
    name: Annotated[str, typer.Option("--name", help="Name of the run.")],
    device: Annotated[
        str, typer.Option("--device", help="Its GPUs: A100, 'NVIDIA H100 80GB HBM3', …")
    ],
    devices: Annotated[
        int | None, typer.Option("--devices", metavar="N", help="How many of them.")
    ] = None,
    gpu_hours: Annotated[float | None, typer.Option("--gpu-hours", help="GPUs × hours.")] = None,
    energy: Annotated[
        str | None,
        typer.Option("--energy", metavar="ENERGY", help="Of the devices, before PUE: '3 MWh'."),
    ] = None,
    power: Annotated[
        float | None, typer.Option("--power", help="Rated power of a GPU in W; else the table's.")
    ] = None,
    tokens: Annotated[
        str | None, typer.Option("--tokens", metavar="N", help="That it was trained on: 2T, 300B.")
    ] = None,
    start: Annotated[
        str | None, typer.Option("--start", metavar="WHEN", help="When it began: 2026-01-31, ….")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--end", metavar="WHEN", help="Default: by GPU-hours and GPUs.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", metavar="TEXT", help="Whose figures: a file, a tool.")
    ] = None,
    project: Annotated[
        str | None, typer.Option("--project", help="Project that the run belongs to.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="KEY=VALUE", help="Tag; may be repeated.")
    ] = None,
    db: DbOption = None,
) -> None:
    """Enter a run that was measured elsewhere: GPU-hours, energy, or both.

    Its figures are *stated*: tables and totals have them apart. By `--method report` it is
    GPU-hours × rated power, by *measured* the stated energy. Without `--start` it is in no
    month, range of time or quota.

    Example: carbontrack add --name pretrain-1 --device A100 --devices 64 --gpu-hours 5000 --energy
    '1.7 MWh' --start 2026-01-31 --source 'report of the cluster'
    """
    from carbontrack.folders import working_folder
    from carbontrack.ledger.url import ledger_url
    from carbontrack.query import add as adding
    from carbontrack.report.escape import visible

    run = adding.add(
        ledger_url(db),
        flags,
        name=name,
        device=device,
        devices=devices,
        gpu_hours=gpu_hours,
        energy_kwh=parse.energy_kwh(energy, "--energy"),
        power_w=power,
        tokens=tokens,
        started_ms=parse.moment_ms(start, "--start"),
        ended_ms=parse.moment_ms(end, "--end"),
        source=source,
        project=project,
        tags=dict(map(tag_of, tag or [])),
        command=words_of_command(),
        cwd=working_folder(),
    )
    typer.echo(visible(f"added: {run.id}  {run.name}"))
