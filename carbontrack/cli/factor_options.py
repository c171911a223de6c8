"""The options that choose factors, shared by the commands that estimate."""

from __future__ import annotations

from typing import Annotated

import typer

PueOption = Annotated[
    float | None, typer.Option("--pue", help="Facility energy ÷ IT energy, 1 or more.")
]
IntensityOption = Annotated[
    float | None, typer.Option("--intensity", help="Grid intensity in kgCO2e/kWh (385 g is 0.385).")
]
ZoneOption = Annotated[
    str | None,
    typer.Option(
        "--zone", help="Grid zone: FRA, FR, US-CAMX, gcp:us-central1; a year by FRA@2023."
    ),
]
ProviderOption = Annotated[
    str | None, typer.Option("--provider", help="Take the PUE of gcp, aws, azure, …")
]
ContractOption = Annotated[
    float | None,
    typer.Option(
        "--contract-intensity", help="Of the power contract, for the market-based figure."
    ),
]
TariffOption = Annotated[float | None, typer.Option("--tariff", help="Price of a kWh.")]
PriceOption = Annotated[
    float | None,
    typer.Option("--price-per-gpu-hour", help="Rent of a GPU-hour; replaces the tariff."),
]
PriceItemOption = Annotated[
    str | None,
    typer.Option("--price", metavar="BOOK:ITEM", help="An imported price; see factors list price."),
]
CurrencyOption = Annotated[
    str | None, typer.Option("--currency", help="Of tariff and prices. Default: USD.")
]
EmbodiedOption = Annotated[
    bool, typer.Option("--embodied", help="Add a column for the making of the GPUs.")
]
OutOption = Annotated[
    str | None, typer.Option("--out", "-o", metavar="FILE", help="Write to FILE.")
]
