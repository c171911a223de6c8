"""`carbontrack explain`: how a number of the table came about."""

from __future__ import annotations

from typing import Annotated

import typer

from carbontrack.cli.common import DbOption, Format, FormatOption, print_json
from carbontrack.cli.factor_options import (
    ContractOption,
    CurrencyOption,
    EmbodiedOption,
    IntensityOption,
    PriceItemOption,
    PriceOption,
    ProviderOption,
    PueOption,
    TariffOption,
    ZoneOption,
)
from carbontrack.cli.show import RunArgument


def explain(
    run: RunArgument = "last",
    method: Annotated[str, typer.Option(help="measured or report.")] = "measured",
    pue: PueOption = None,
    provider: ProviderOption = None,
    intensity: IntensityOption = None,
    zone: ZoneOption = None,
    contract_intensity: ContractOption = None,
    tariff: TariffOption = None,
    price_per_gpu_hour: PriceOption = None,
    price: PriceItemOption = None,
    currency: CurrencyOption = None,
    embodied: EmbodiedOption = False,
    db: DbOption = None,
    format: FormatOption = Format.text,
) -> None:
    """Derive a run's estimate line by line: each factor with its source, and what was assumed.

    The last line is the cell of `carbontrack table`, to the digit.
    """
    from carbontrack import config
    from carbontrack.account.factors import parse_methods
    from carbontrack.ledger import engine, read
    from carbontrack.ledger.url import ledger_url
    from carbontrack.report import gather
    from carbontrack.report.explain import explain_data, explain_text

    methods = parse_methods(method)
    flags = config.flags(
        pue=pue,
        provider=provider,
        intensity=intensity,
        zone=zone,
        contract_intensity=contract_intensity,
        tariff=tariff,
        price_per_gpu_hour=price_per_gpu_hour,
        price=price,
        currency=currency,
    )
    with engine.open_reader(ledger_url(db)).connect() as connection:
        found = read.resolve_run(connection, run)
        hours = len(read.hours(connection, found))
        rows = gather.estimates(connection, [found], flags, methods, embodied=embodied)
    if format is Format.json:
        print_json({"explained": [explain_data(row, hours=hours) for row in rows]})
    else:
        typer.echo("\n".join(explain_text(row, hours=hours) for row in rows), nl=False)
