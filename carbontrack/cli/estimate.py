"""`carbontrack estimate`: GPU-hours × watts, without a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carbontrack.cli.common import DbOption, say_written, words_of_command
from carbontrack.cli.factor_options import (
    EmbodiedOption,
    Flags,
    OutOption,
    QuietOption,
    TableFormatOption,
    UnitOption,
    takes_factors,
)

if TYPE_CHECKING:
    from carbontrack.config import Settings
    from carbontrack.factors.catalog import Factor


@takes_factors
def estimate(
    flags: Flags,
    gpu_hours: Annotated[float, typer.Option("--gpu-hours", help="GPUs × hours.")],
    power: Annotated[
        float | None, typer.Option("--power", help="Rated power of a GPU in W; else by --gpu.")
    ] = None,
    gpu: Annotated[
        str | None, typer.Option("--gpu", help="The GPU's name: A100, 'NVIDIA H100 80GB HBM3', …")
    ] = None,
    embodied: EmbodiedOption = False,
    label: Annotated[str, typer.Option("--label", help="Name of the row.")] = "estimate",
    unit: UnitOption = None,
    format: TableFormatOption = None,
    out: OutOption = None,
    quiet: QuietOption = False,
    db: DbOption = None,
) -> None:
    """Estimate energy, CO2e and cost from GPU-hours and rated power, as the Llama 2 report does.

    Example: carbontrack estimate --gpu-hours 1720320 --power 400 --pue 1.1 --intensity 0.385
    """
    from carbontrack import config
    from carbontrack.account.hours import estimate_hours
    from carbontrack.query import group
    from carbontrack.report import render
    from carbontrack.report.document import document_of
    from carbontrack.report.table import check_units

    check_units(unit or [])
    settings, price = _with_price(config.resolve([flags, *config.surroundings()]), db)
    row = estimate_hours(
        settings,
        gpu_hours,
        gpu=gpu,
        power_w=power,
        embodied=embodied,
        label=label,
        price=price,
    )
    document = document_of([row], group.totals([row]), units=unit or [], command=words_of_command())
    path = None if out is None else Path(out)
    written = render.show(document, format, out=path, chosen_by="--unit" if unit else "")
    say_written(written, quiet=quiet)


def _with_price(settings: Settings, db: str | None) -> tuple[Settings, Factor | None]:
    """An imported price is in the ledger, which is opened for nothing else here."""
    if "price" not in settings:
        return settings, None
    from carbontrack.ledger import engine
    from carbontrack.ledger.held import Held
    from carbontrack.ledger.url import ledger_url
    from carbontrack.query import price

    with engine.open_reader(ledger_url(db)).connect() as connection:
        return price.with_price(Held(connection, []).prices, settings)
